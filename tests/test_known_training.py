"""Training with known frames: which are drawn, what the U-Net is given, and what counts in the loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from latentshift.data.dataset import Sample
from latentshift.data.loader import Batch
from latentshift.data.sample_order import rng_for
from latentshift.diffusion.condition import TextCondition
from latentshift.diffusion.known_frames import KnownFrames
from latentshift.diffusion.noise import add_noise, paper_scheduler
from latentshift.models.conditioning.text import TextEncoders
from latentshift.models.denoiser import denoise
from latentshift.settings import ShiftConfig
from latentshift.shift import install
from latentshift.training.data.collate import Collator, draw_known
from latentshift.training.distributed import split_batch
from latentshift.training.losses import DenoisingLoss, LatentBatch
from latentshift.training.recipe import VideoRecipe
from latentshift.training.recipe_file import load_recipe
from latentshift.training.stages.video import VideoStage
from tiny_models import ONE_LEVEL, TEXT_WIDTH, tiny_bert, tiny_tokenizer, tiny_unet, tiny_vae
from tiny_runs import RECIPES, batch_of, tiny

FRAMES = 4
CPU = torch.device("cpu")


def batch_of_clips(frames: int = FRAMES) -> Batch:
    moments = np.random.default_rng(0).standard_normal((6, frames, 8, 4, 4)).astype(np.float16)
    samples = [Sample(each, "red star") for each in moments]
    return Batch(samples, [], [(0, 0, 0, number) for number in range(len(samples))])


def collator(known_share: float) -> Collator:
    encoders = TextEncoders([tiny_bert()], [tiny_tokenizer()])
    options = {"timesteps": 1000, "seed": 3, "text_encoded": False, "device": CPU, "dtype": torch.float32}
    return Collator(tiny_vae(), encoders, known_share=known_share, **options)


@pytest.mark.parametrize("frames", [2, 3, 16])
def test_some_frames_are_known_and_never_all(frames: int) -> None:
    drawn = np.stack([draw_known(rng_for(0, number), frames) for number in range(300)])
    counts = drawn.sum(axis=1)
    assert counts.min() == 1 and counts.max() == max(1, min(3, frames - 1), frames // 2) and counts.max() < frames
    assert drawn.any(axis=0).all()
    if frames == 16:
        first = [each[:count].all() for each, count in zip(drawn, counts, strict=True)]
        ends = (counts == 2) & drawn[:, 0] & drawn[:, -1]
        assert 0.3 < np.mean(first) < 0.5 and 0.25 < np.mean(ends) < 0.45


def test_other_draws_stay_as_they_are_and_images_have_none() -> None:
    none, half, all_of_them = (collator(share)(batch_of_clips()) for share in (0.0, 0.5, 1.0))
    for name in ("latents", "noise", "timesteps", "token_ids"):
        assert torch.equal(getattr(half, name), getattr(none, name)), name
    assert none.known is None and all_of_them.known.any(dim=1).all()
    chosen = half.known.any(dim=1)
    assert chosen.any() and not chosen.all() and torch.equal(half.known[chosen], all_of_them.known[chosen])
    assert collator(1.0)(batch_of_clips(1)).known is None
    first, second = split_batch(half, 2, CPU)
    assert (
        torch.equal(torch.cat([first.known, second.known]), half.known) and split_batch(none, 2, CPU)[0].known is None
    )


def test_known_frames_are_clean_at_timestep_0_and_without_a_loss() -> None:
    unet, scheduler = tiny_unet(**ONE_LEVEL), paper_scheduler("v_prediction")
    install(unet, ShiftConfig())
    clean, noise = torch.randn(2, 2, FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    text = TextCondition(torch.randn(2, 5, TEXT_WIDTH, generator=torch.Generator().manual_seed(1)))
    steps = torch.tensor([300, 900])
    known = torch.tensor([[True, False, False, True], [False, False, False, False]])
    loss = DenoisingLoss(unet, None, scheduler)
    made = loss(LatentBatch(clean, noise, steps, None, text, known=known))
    noisy, target = add_noise(scheduler, clean, noise, steps)
    noisy[0, [0, 3]] = clean[0, [0, 3]]
    predicted = denoise(unet, noisy, torch.tensor([[0, 300, 300, 0], [900] * 4]), text)
    squared = (predicted - target).square()
    expected = (squared[0, 1:3].mean() + squared[1].mean()) / 2
    torch.testing.assert_close(made["loss"], expected)
    free = loss(LatentBatch(clean, noise, steps, None, text))
    nothing = loss(LatentBatch(clean, noise, steps, None, text, known=torch.zeros_like(known)))
    torch.testing.assert_close(free["loss"], nothing["loss"])
    assert not torch.allclose(made["loss"], free["loss"], rtol=1e-3)

    # Sampling shows the U-Net the same.
    scheduler.set_timesteps(timesteps=[300])
    shown, timesteps = KnownFrames(clean[:1], (1.0, 0.0, 0.0, 1.0), clean=True).shown(scheduler, 0, noisy[:1] * 0.5)
    assert timesteps.tolist() == [[0, 300, 300, 0]]
    assert torch.equal(shown[0, [0, 3]], clean[0, [0, 3]]) and torch.equal(shown[0, 1:3], noisy[0, 1:3] * 0.5)


def test_a_timestep_for_each_frame_in_chunks_and_for_all_alike() -> None:
    unet = tiny_unet(**ONE_LEVEL)
    install(unet, ShiftConfig())
    latents = torch.randn(2, FRAMES, 4, 8, 8)
    text = TextCondition(torch.randn(2, 5, TEXT_WIDTH))
    with torch.no_grad():
        same = denoise(unet, latents, torch.tensor(500), text)
        torch.testing.assert_close(denoise(unet, latents, torch.full((1, FRAMES), 500), text), same)
        own = torch.tensor([[0, 500, 500, 20]])
        whole = denoise(unet, latents, own, text)
        assert not torch.allclose(whole, same, atol=1e-3)
        torch.testing.assert_close(denoise(unet, latents, own, text, frame_chunk=3), whole, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(denoise(unet, latents[1:], own, text.split(1)[1]), whole[1:], atol=1e-5, rtol=1e-4)


def test_the_recipe_reaches_the_batches_of_its_stage(runs: Path) -> None:
    shipped = load_recipe(RECIPES / "sprites-keyframes.yaml")
    assert isinstance(shipped, VideoRecipe) and shipped.known_share == 0.75 and shipped.exported_files == ("lora",)
    stage = VideoStage(tiny("video", runs, "known_share=1"), CPU)
    batch = batch_of(stage, 1)
    assert batch.known is not None and batch.known.shape == batch.latents.shape[:2] and batch.known.any(dim=1).all()
    assert torch.isfinite(stage.objective(batch)["loss"])
    assert batch_of(VideoStage(tiny("video", runs), CPU), 1).known is None

"""Keys and values of a text are projected once a sampling, and never used for anything that they were not made of."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from latentshift.diffusion.condition import TextCondition
from latentshift.models.conditioning import text_projection
from latentshift.models.conditioning.text_projection import project_text_once
from latentshift.models.denoiser import denoise, share_text
from latentshift.pipeline import LatentShiftPipeline
from tiny_models import TEXT_WIDTH, TOKENS, tiny_unet

FRAMES = 2
WIDTHS = [8, 8, 8, 16]  # of the tiny U-Net's cross-attentions
LATENTS = torch.randn(2, FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet = tiny_unet().eval()
    share_text(unet)
    return unet


def texts(seed: int) -> TextCondition:
    return TextCondition(torch.randn(2, TOKENS, TEXT_WIDTH, generator=torch.Generator().manual_seed(seed)))


@torch.no_grad()
def predicted(unet: UNet2DConditionModel, text: TextCondition) -> Tensor:
    return denoise(unet, LATENTS, torch.tensor(500), text)


def operations(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def test_the_text_is_projected_in_the_first_step_alone(unet: UNet2DConditionModel) -> None:
    text = texts(1)
    expected, every_step = predicted(unet, text), operations(lambda: predicted(unet, text))
    projections = sum(2 * 2 * len(text) * TOKENS * TEXT_WIDTH * width for width in WIDTHS)
    with project_text_once():
        assert operations(lambda: predicted(unet, text)) == every_step
        for _ in range(2):
            assert operations(lambda: predicted(unet, text)) == every_step - projections
        assert torch.equal(predicted(unet, text), expected)
    assert operations(lambda: predicted(unet, text)) == every_step  # nothing stays


def _another_text(unet: UNet2DConditionModel, text: TextCondition) -> TextCondition:
    return texts(2)


def _text_changed_in_place(unet: UNet2DConditionModel, text: TextCondition) -> TextCondition:
    text.tokens.mul_(2)
    return text


def _weights_changed_in_place(unet: UNet2DConditionModel, text: TextCondition) -> TextCondition:
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if "attn2.to_v" in name:
                weight.neg_()
    return text


def _weights_replaced(unet: UNet2DConditionModel, text: TextCondition) -> TextCondition:
    for name, module in unet.named_modules():
        if name.endswith("attn2.to_k"):
            module.weight = torch.nn.Parameter(2 * module.weight.detach())
    return text


def _lora_added(unet: UNet2DConditionModel, text: TextCondition) -> TextCondition:
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_k", "to_v"], init_lora_weights=False))
    return text


@pytest.mark.parametrize(
    "change",
    [_another_text, _text_changed_in_place, _weights_changed_in_place, _weights_replaced, _lora_added],
    ids=lambda change: change.__name__.strip("_").replace("_", " "),
)
def test_what_has_changed_is_projected_anew(
    unet: UNet2DConditionModel, change: Callable[[UNet2DConditionModel, TextCondition], TextCondition]
) -> None:
    text = texts(1)
    with project_text_once():
        before = predicted(unet, text)
        changed = change(unet, text)
        after = predicted(unet, changed)
    assert torch.equal(after, predicted(unet, changed)) and not torch.equal(after, before)


def test_the_scale_of_a_lora_counts_in_each_step(unet: UNet2DConditionModel) -> None:
    _lora_added(unet, text := texts(1))
    with project_text_once():
        full = predicted(unet, text)
        unet.set_adapters(["default"], [0.5])
        half = predicted(unet, text)
    assert torch.equal(half, predicted(unet, text)) and not torch.equal(half, full)


def test_training_learns_the_projections(unet: UNet2DConditionModel) -> None:
    text = texts(1)
    with project_text_once():
        predicted(unet, text)
        denoise(unet, LATENTS, torch.tensor(500), text).square().mean().backward()
    gradients = [each.grad for name, each in unet.named_parameters() if "attn2.to_k" in name or "attn2.to_v" in name]
    assert len(gradients) == 2 * len(WIDTHS) and all(each is not None and each.abs().sum() > 0 for each in gradients)


def test_it_is_of_one_thread(unet: UNet2DConditionModel) -> None:
    text, counts = texts(1), []
    every_step = operations(lambda: predicted(unet, text))
    with project_text_once():
        predicted(unet, text)
        thread = threading.Thread(target=lambda: counts.append(operations(lambda: predicted(unet, text))))
        thread.start()
        thread.join()
    assert counts == [every_step]


def test_what_is_kept_is_bounded(unet: UNet2DConditionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    text = texts(1)
    expected, every_step = predicted(unet, text), operations(lambda: predicted(unet, text))
    monkeypatch.setattr(text_projection, "MOST_BYTES", 2 * len(text) * TOKENS * WIDTHS[0] * 4)  # of one layer
    with project_text_once():
        predicted(unet, text)
        saved = 2 * 2 * len(text) * TOKENS * TEXT_WIDTH * WIDTHS[0]
        assert operations(lambda: predicted(unet, text)) == every_step - saved
        assert torch.equal(predicted(unet, text), expected)


def test_nothing_is_kept_of_a_text_that_is_gone(unet: UNet2DConditionModel) -> None:
    with project_text_once():
        kept = text_projection._thread.kept
        assert kept is not None
        for seed in range(3):
            predicted(unet, texts(seed))
            assert not kept.of and kept.nbytes == 0
        predicted(unet, text := texts(3))
        assert len(kept.of) == len(WIDTHS)
        assert kept.nbytes == sum(2 * len(text) * TOKENS * width * 4 for width in WIDTHS)


@pytest.mark.parametrize(("guidance", "frame_chunk"), [(1.0, None), (7.5, None), (7.5, 1)])
def test_a_video_has_its_texts_keys_and_values_computed_once(
    ldm_folder: Path, monkeypatch: pytest.MonkeyPatch, guidance: float, frame_chunk: int | None
) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(ldm_folder)
    pipeline.set_progress_bar_config(disable=True)
    made = []

    def make_videos() -> None:
        generator = torch.Generator().manual_seed(0)
        options = {"num_inference_steps": 2, "guidance_scale": guidance, "frame_chunk": frame_chunk}
        prompts = ["a red star", "a blue circle"]
        latents = pipeline(prompts, num_frames=FRAMES, generator=generator, output_type="latent", **options).frames
        made.append(latents)

    kept = operations(make_videos)
    monkeypatch.setattr(text_projection, "MOST_BYTES", 0)
    every_time = operations(make_videos)
    assert torch.equal(*made)
    length, rows = pipeline.text_encoders.length, 2 * (1 if guidance == 1.0 else 2)
    projections = sum(2 * 2 * rows * length * TEXT_WIDTH * width for width in WIDTHS)
    passes = 2 * (FRAMES if frame_chunk == 1 else 1)
    assert every_time - kept == (passes - 1) * projections


def test_a_callback_may_change_the_weights(ldm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make_video() -> Tensor:
        pipeline = LatentShiftPipeline.from_pretrained(ldm_folder)
        pipeline.set_progress_bar_config(disable=True)

        def halve(pipeline: LatentShiftPipeline, step: int, timestep: object, tensors: dict) -> dict:
            for name, weight in pipeline.unet.named_parameters():
                if "attn2.to_v" in name:
                    weight.data.mul_(0.5)  # which no counter of the parameter shows
            return {}

        options = {"num_inference_steps": 3, "output_type": "latent", "callback_on_step_end": halve}
        return pipeline("a red star", num_frames=FRAMES, generator=torch.Generator().manual_seed(0), **options).frames

    video = make_video()
    monkeypatch.setattr(text_projection, "MOST_BYTES", 0)
    assert torch.equal(video, make_video())

"""``bench captions``: what a word of the caption changes in the predicted clean latents."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler

from latentshift import LatentShiftPipeline
from latentshift.benchmarks.caption_exchange import EXCHANGES, exchange_word
from latentshift.benchmarks.captions import (
    bench_captions,
    caption_timesteps,
    check_told_apart,
    encode_clip,
    measure_captions,
    pairwise_accuracy,
)
from latentshift.benchmarks.report import Estimate
from latentshift.data.sprites import BACKGROUNDS, Sprite, Sprites, triples, words
from latentshift.diffusion.noise import add_noise, clean_prediction, paper_scheduler
from latentshift.models.conditioning.text import build_word_tokenizer
from tiny_models import SMALLEST, sprites_vae, tiny_bert, tiny_unet

MakePipeline = Callable[..., LatentShiftPipeline]


@pytest.fixture(scope="module")
def make_pipeline() -> MakePipeline:
    """A tiny, untrained model of two frames that knows the sprites' words; its U-Net is new in each call."""
    vae = sprites_vae()

    def make(prediction: str = "v_prediction", tokens: int = 16, **settings: float) -> LatentShiftPipeline:
        tokenizer = build_word_tokenizer(words(), tokens)
        return LatentShiftPipeline(
            vae=vae,
            text_encoder=tiny_bert(vocab_size=len(tokenizer), max_position_embeddings=tokens),
            tokenizer=tokenizer,
            unet=tiny_unet(**SMALLEST),
            scheduler=paper_scheduler(prediction, zero_terminal_snr=prediction == "v_prediction"),
            shift={"fold": 3},
            num_frames=2,
            **settings,
        )

    return make


@pytest.fixture(scope="module")
def latents(make_pipeline: MakePipeline) -> torch.Tensor:
    """Of five clips, their first and last frames: (5, 2, 4, 8, 8)."""
    world, pipeline = Sprites(size=32, seed=1), make_pipeline()
    return torch.stack([encode_clip(pipeline, world[index][0][[0, -1]]) for index in range(5)])


LEFT, RIGHT = (["a red star moving " + way + " on a navy background"] * 5 for way in ("left", "right"))


def only_bias(pipeline: LatentShiftPipeline, value: float) -> None:
    """Let the U-Net predict one value whatever it is given."""
    torch.nn.init.zeros_(pipeline.unet.conv_out.weight)
    torch.nn.init.constant_(pipeline.unet.conv_out.bias, value)


@pytest.mark.parametrize("timestep", [0, 500, 998, 999])
def test_every_prediction_type_gives_the_same_clean_latents(timestep: int) -> None:
    clean, noise, guess = torch.randn(3, 2, 2, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    steps = torch.tensor([timestep, timestep])
    for kind, zero_terminal in (("epsilon", False), ("v_prediction", False), ("v_prediction", True), ("sample", True)):
        scheduler = paper_scheduler(kind, zero_terminal_snr=zero_terminal)
        noisy, target = add_noise(scheduler, clean, noise, steps)
        torch.testing.assert_close(clean_prediction(scheduler, noisy, target, steps), clean, rtol=0, atol=1e-5)
        signal = float(scheduler.alphas_cumprod[timestep])
        alpha, sigma = signal**0.5, (1 - signal) ** 0.5
        implied = {
            "epsilon": (noisy - alpha * guess) / sigma,
            "v_prediction": (alpha * noisy - guess) / sigma,
            "sample": guess,
        }[kind]
        torch.testing.assert_close(clean_prediction(scheduler, noisy, implied, steps), guess, rtol=0, atol=1e-5)


def test_where_all_is_noise_its_prediction_gives_no_clean_latents() -> None:
    scheduler = paper_scheduler("epsilon", zero_terminal_snr=True)
    noise = torch.randn(2, 2, 4, 3, 3)
    clean_prediction(scheduler, noise, noise, torch.tensor([0, 998]))
    with pytest.raises(ValueError, match="says nothing of clean latents"):
        clean_prediction(scheduler, noise, noise, torch.tensor([998, 999]))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_gap_is_nothing_for_the_same_caption_or_without_cross_attention(
    make_pipeline: MakePipeline, latents: torch.Tensor, prediction: str
) -> None:
    pipeline = make_pipeline(prediction)
    assert not measure_captions(pipeline, latents, LEFT, LEFT, 500).gap.any()
    assert measure_captions(pipeline, latents, LEFT, RIGHT, 500).gap.all()
    for name, module in pipeline.unet.named_modules():
        if name.endswith("attn2"):
            torch.nn.init.zeros_(module.to_out[0].weight)
            torch.nn.init.zeros_(module.to_out[0].bias)
    assert not measure_captions(pipeline, latents, LEFT, RIGHT, 500).gap.any()


@pytest.mark.parametrize(("prediction", "timestep"), [("v_prediction", 999), ("sample", 300)])
def test_errors_are_relative_to_the_variance_of_latents_and_of_their_differences(
    make_pipeline: MakePipeline, latents: torch.Tensor, prediction: str, timestep: int
) -> None:
    pipeline = make_pipeline(prediction)
    only_bias(pipeline, 0.25)
    # At zero terminal SNR the velocity is minus the clean latents.
    constant = -0.25 if prediction == "v_prediction" else 0.25
    differences = latents - latents.mean(dim=1, keepdim=True)
    errors = measure_captions(pipeline, latents, LEFT, RIGHT, timestep)
    whole = (latents - constant).square().flatten(1).mean(dim=1) / latents.var()
    of_differences = differences.square().flatten(1).mean(dim=1) / differences.var()
    np.testing.assert_allclose(errors.own, torch.stack([whole, of_differences], dim=1), rtol=1e-5)
    assert errors.own.shape == (5, 2) and not errors.gap.any()


def test_the_pairwise_accuracy_is_of_clips_whose_captions_differ_at_all() -> None:
    accuracy = pairwise_accuracy(np.array([0.5, -0.1, 0.0, 2.0]))
    assert accuracy is not None and accuracy.value == 2 / 3 and 0 < accuracy.low < 0.5 < accuracy.high < 1
    assert pairwise_accuracy(np.zeros(3)) is None


def test_noise_is_shared_as_the_model_says(make_pipeline: MakePipeline, latents: torch.Tensor) -> None:
    errors = {}
    for share in (0.0, 1000.0):
        pipeline = make_pipeline("epsilon", noise_share=share)
        only_bias(pipeline, 0.0)  # no noise is seen, and all of it is error
        errors[share] = measure_captions(pipeline, latents, LEFT, LEFT, 900).own
    assert (errors[1000.0][:, 1] < 1e-4 * errors[0.0][:, 1]).all()
    np.testing.assert_allclose(errors[1000.0][:, 0].mean(), errors[0.0][:, 0].mean(), rtol=0.5)


def test_a_clip_has_the_same_errors_in_any_company(make_pipeline: MakePipeline, latents: torch.Tensor) -> None:
    pipeline = make_pipeline()
    five, two = (measure_captions(pipeline, each, LEFT, RIGHT, 700) for each in (latents, latents[:2]))
    ratio = five.own[:2] / two.own  # the variances are of other clips
    np.testing.assert_allclose(ratio, ratio[:1].repeat(2, axis=0), rtol=1e-4)
    assert (five.own[0] != five.own[1]).all()


def test_timesteps_from_which_noise_tells_nothing_are_left_out_with_a_word(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline("epsilon")
    assert caption_timesteps(pipeline) == ([999, 900, 800, 700, 600, 500, 400, 300, 200, 100], [])
    config = paper_scheduler("epsilon", zero_terminal_snr=True).config
    pipeline.scheduler = EulerDiscreteScheduler.from_config(config)
    assert caption_timesteps(pipeline) == ([900, 800, 700, 600, 500, 400, 300, 200, 100], [999])
    first, second, *_ = bench_captions(pipeline, 2)
    assert "timestep 999: noise alone" in first["left_out"] and second["timestep"] == 900


@pytest.mark.parametrize("kind", EXCHANGES)
def test_one_word_is_exchanged_for_another_that_makes_a_sprite(kind: str) -> None:
    for colour, thing, motion in triples():
        for background in BACKGROUNDS:
            sprite = Sprite(colour, thing, motion, background)
            other = exchange_word(sprite, kind)
            changed = [name for name in EXCHANGES if getattr(other, name) != getattr(sprite, name)]
            assert changed == [kind] and other.caption() != sprite.caption()


def test_clips_of_some_motions_alone(make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline()
    rows = list(bench_captions(pipeline, 3, "thing", ["spinning", "standing still"]))
    assert rows[-1]["clips"] == 3 and isinstance(rows[0]["gap_of_differences"], Estimate)
    still = list(bench_captions(pipeline, 2, motions=["standing still"]))  # nothing differs between frames
    assert all(isinstance(row["gap"], Estimate) and row["gap_of_differences"] is None for row in still[:10])
    assert still[0]["error_of_differences"] is None and still[-1]["mean_gap_of_differences"] is None
    assert all(row["motion"].startswith("standing still → ") for row in still[10:-1])


def test_the_verb_says_it_by_timestep_by_pair_of_words_and_in_one_figure(
    cli, make_pipeline: MakePipeline, tmp_path: Path
) -> None:
    make_pipeline().save_pretrained(tmp_path / "tiny")
    words = ("bench", "captions", tmp_path / "tiny", "--device", "cpu", "--dtype", "float32", "--exchange", "colour")
    code, out, err = cli(*words, "--clips", 3, "--json", "gaps.json")
    assert code == 0, err
    rows = json.loads(Path("gaps.json").read_text())["rows"]
    by_timestep, by_word, overall = rows[:10], rows[10:-1], rows[-1]
    assert [row["timestep"] for row in by_timestep] == [999, 900, 800, 700, 600, 500, 400, 300, 200, 100]
    assert sum(row["clips"] for row in by_word) == overall["clips"] == 3 and overall["colour"] == "all"
    assert all(" → " in row["colour"] for row in by_word) and "gap of differences" in out
    for name in ("gap", "gap_of_differences"):
        values = [row[name]["value"] for row in by_timestep]
        assert overall[f"mean_{name}"]["value"] == pytest.approx(np.mean(values)) and any(values)
        assert all(row[name]["low"] < row[name]["value"] < row[name]["high"] for row in by_timestep)


def test_a_model_that_does_not_read_the_words_is_refused(cli, sprites_model: Path, make_pipeline: MakePipeline) -> None:
    code, out, err = cli("bench", "captions", sprites_model, "--quick")
    assert code == 1 and "the model's tokenizer does not know " in err and "'navy'" in err and not out
    short = make_pipeline(tokens=6)  # [CLS] a red star moving [SEP]
    with pytest.raises(ValueError, match=r"'a red star moving left on .* alike: .* cuts them off after 6 tokens"):
        check_told_apart(short, LEFT[:1], RIGHT[:1])


def test_videos_that_no_clip_of_the_sprites_world_has_are_refused(make_pipeline: MakePipeline) -> None:
    for frames in (1, 17):
        pipeline = make_pipeline()
        pipeline.register_to_config(num_frames=frames)
        with pytest.raises(ValueError, match=f"models of 2 to 16 frames.* have {frames}"):
            next(bench_captions(pipeline, 2))

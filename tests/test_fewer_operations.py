"""Fewer operations in a sampling: deep features that are kept, and guidance in an interval of timesteps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from latentshift import LatentShiftPipeline
from latentshift.diffusion.condition import TextCondition
from latentshift.diffusion.fewer_operations import FewerOperations, check_guidance_interval, parse_guidance_interval
from latentshift.diffusion.guidance import with_guidance
from latentshift.evaluation.sprites.study import Study
from latentshift.frame_context import frame_context
from latentshift.models.deep_cache import DeepCache
from latentshift.models.denoiser import denoise, share_text
from latentshift.models.latent_vdm import TemporalAttention, install_attention
from latentshift.settings import PADDINGS, PLACES, Padding, Place, ShiftConfig
from latentshift.shift import install
from latentshift.video import read_metadata, read_video
from tiny_models import ONE_LEVEL, TEXT_WIDTH, TOKENS, tiny_unet
from tiny_pipelines import SDXL_UNET

STEP = torch.tensor(7)
FRAMES = 5


def video_unet(**settings: Any) -> UNet2DConditionModel:
    """In float64, whose rounding is far below what a wrong feature does."""
    unet = tiny_unet().double()
    share_text(unet)
    return install(unet, ShiftConfig(**settings))


def noise(videos: int = 2) -> Tensor:
    return torch.randn(videos, FRAMES, 4, 8, 8, dtype=torch.float64)


def texts(videos: int = 2, width: int = TEXT_WIDTH) -> TextCondition:
    return TextCondition(torch.randn(videos, TOKENS, width, dtype=torch.float64))


@contextmanager
def counting(module: nn.Module) -> Iterator[list[int]]:
    """The batch sizes that a module is called with."""
    sizes: list[int] = []
    handle = module.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    try:
        yield sizes
    finally:
        handle.remove()


def run(cache: DeepCache, inputs: list[Tensor], call: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """What ``call`` returns for the input of each step."""
    step = cache.each_step(lambda latents, timestep: call(latents))
    with torch.no_grad(), cache.active():
        return [step(latents, STEP) for latents in inputs]


def check_both_kinds_of_steps(unet: UNet2DConditionModel, text: TextCondition, branch: int) -> None:
    """Around kept features that are those of the step itself, the outermost layers give what the U-Net gives."""
    cache, same, other = DeepCache(unet, 3, branch), noise(), noise()
    call = lambda latents: denoise(unet, latents, STEP, text, cached=cache.of(text))  # noqa: E731
    with counting(unet.mid_block.resnets[0]) as whole:
        outputs = run(cache, [same, same, other, other], call)
    assert len(whole) == 2  # in steps 0 and 3
    with torch.no_grad():
        expected = [denoise(unet, latents, STEP, text) for latents in (same, other)]
    torch.testing.assert_close(outputs[1], expected[0], rtol=0, atol=1e-12)
    assert torch.equal(outputs[0], expected[0]) and torch.equal(outputs[3], expected[1])
    assert (outputs[2] - expected[1]).abs().max() > 1e-3  # deep features of another input


@pytest.mark.parametrize("branch", [0, 1])
@pytest.mark.parametrize("padding", PADDINGS)
def test_the_outermost_layers_around_the_steps_own_features_are_the_whole_unet(padding: Padding, branch: int) -> None:
    check_both_kinds_of_steps(video_unet(padding=padding), texts(), branch)


@pytest.mark.parametrize("place", PLACES)
def test_so_they_are_wherever_the_shift_sits(place: Place) -> None:
    check_both_kinds_of_steps(video_unet(place=place), texts(), 1)


def test_so_they_are_with_temporal_attention_and_with_neither() -> None:
    unet = tiny_unet().double()
    share_text(unet)
    check_both_kinds_of_steps(unet, texts(), 1)
    install_attention(unet, TemporalAttention.for_unet(unet).double())
    check_both_kinds_of_steps(unet, texts(), 1)


def test_so_they_are_with_the_conditions_of_sdxl_and_a_guidance_scale_as_an_input() -> None:
    unet = install(tiny_unet(**SDXL_UNET, time_cond_proj_dim=8, center_input_sample=True).double())
    text = TextCondition(texts(2, 2 * TEXT_WIDTH).tokens, torch.randn(2, TEXT_WIDTH).double(), torch.full((2, 6), 16.0))
    cache, same = DeepCache(unet, 2, 1), noise()
    outputs = run(cache, [same, same], lambda each: denoise(unet, each, STEP, text, 4.0, cached=cache.of(text)))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", PADDINGS)
def test_chunks_of_frames_are_the_call_on_all_of_them_in_both_kinds_of_steps(padding: Padding) -> None:
    unet, text, inputs = video_unet(padding=padding), texts(), [noise(), noise(), noise()]
    outputs = []
    for chunk in (None, 2):
        cache = DeepCache(unet, 2, 1)
        call = lambda each, chunk=chunk, cache=cache: denoise(  # noqa: E731
            unet, each, STEP, text, frame_chunk=chunk, cached=cache.of(text)
        )
        outputs.append(torch.stack(run(cache, inputs, call)))
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)


def test_texts_have_features_of_their_own_and_a_change_of_guidance_makes_new_ones() -> None:
    unet, inputs = video_unet(), [noise() for _ in range(4)]
    text, negative = texts(), texts()
    cache = DeepCache(unet, 3)
    denoiser = with_guidance(
        lambda latents, timestep, context: denoise(unet, latents, timestep, context, cached=cache.of(context)),
        text,
        negative,
        3.0,
        videos_per_call=1,
        interval=(500, 999),
    )
    step, timesteps = cache.each_step(denoiser), (900, 600, 400, 300)
    with torch.no_grad(), cache.active(), counting(unet.mid_block.resnets[0]) as whole:
        guided = [step(each, torch.tensor(t)) for each, t in zip(inputs, timesteps, strict=True)]
    # Of each of two videos: guided, kept, no longer guided, and the third step by itself.
    assert whole == [2 * FRAMES, 2 * FRAMES, FRAMES, FRAMES, FRAMES, FRAMES]
    with torch.no_grad():
        plain = with_guidance(lambda *call: denoise(unet, *call), text, negative, 3.0)(inputs[0], torch.tensor(900))
        unguided = denoise(unet, inputs[3], torch.tensor(300), text)
    torch.testing.assert_close(guided[0], plain, rtol=0, atol=1e-12)
    torch.testing.assert_close(guided[3], unguided, rtol=0, atol=1e-12)


def test_nothing_is_kept_and_no_hook_stays_after_a_sampling_that_fails() -> None:
    unet, text, kept = video_unet(), texts(), []
    cache = DeepCache(unet, 2)

    def fail(latents: Tensor) -> Tensor:
        denoise(unet, latents, STEP, text, cached=cache.of(text))
        kept.append(len(cache._kept))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(cache, [noise()], fail)
    assert kept == [1] and not cache._kept
    assert not any(module._forward_pre_hooks for module in unet.up_blocks.modules())


def test_threads_that_share_a_unet_do_not_share_features() -> None:
    unet, text = video_unet(), texts()
    inputs = [[noise() for _ in range(6)] for _ in range(2)]

    def sampling(number: int) -> Tensor:
        cache = DeepCache(unet, 2 + number)
        call = lambda each: denoise(unet, each, STEP, text, cached=cache.of(text))  # noqa: E731
        return torch.stack(run(cache, inputs[number], call))

    alone = [sampling(0), sampling(1)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(sampling, (0, 1)))
    assert torch.equal(torch.stack(together), torch.stack(alone))


def test_unets_whose_layers_cannot_be_called_one_by_one_are_refused() -> None:
    cases: list[tuple[UNet2DConditionModel, str]] = [
        (tiny_unet(**ONE_LEVEL), "one level only"),
        (tiny_unet(num_class_embeds=3), "known for the U-Nets of Stable Diffusion"),
        (tiny_unet(), "FreeU"),
        (tiny_unet(), "compiled"),
    ]
    cases[2][0].enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    cases[3][0].compile(backend="eager")
    for unet, reason in cases:
        with pytest.raises(ValueError, match=f"deep_cache_interval=2 is not possible: .*{reason}"):
            DeepCache(unet, 2)
    with pytest.raises(ValueError, match="deep_cache_branch must be 0 to 1 for this U-Net, not 2"):
        DeepCache(tiny_unet(), 2, 2)


def test_settings_that_are_wrong_for_every_model() -> None:
    for value, message in (
        ({"deep_cache_interval": 1}, "deep_cache_interval must be a whole number of 2 or more, not 1"),
        ({"deep_cache_interval": 2, "deep_cache_branch": -1}, "deep_cache_branch must be a whole number of 0 or more"),
        ({"deep_cache_branch": 1}, "deep_cache_branch has no effect without deep_cache_interval"),
        ({"guidance_interval": (800, 200)}, "guidance_interval must be two timesteps, from low to high"),
        ({"guidance_interval": 0.5}, "guidance_interval must be two timesteps"),
        ({"guidance_interval": (0, float("nan"))}, "guidance_interval must be two timesteps"),
    ):
        with pytest.raises(ValueError, match=message):
            FewerOperations(**value)
    assert FewerOperations((1, 2), 3).arguments() == {"guidance_interval": (1.0, 2.0), "deep_cache_interval": 3}
    assert parse_guidance_interval("200:800") == (200.0, 800.0)
    for text in ("200", "800:200", "a:b", "200-800"):
        with pytest.raises(ValueError, match="--guidance-interval must be two timesteps, from low to high, as 200:800"):
            parse_guidance_interval(text)
    check_guidance_interval((200, 800), [999, 800, 100])
    check_guidance_interval((200, 800), [])  # a clip that no step changes
    with pytest.raises(ValueError, match=r"no step .* in guidance_interval \(0.2, 0.8\): its timesteps run from 999"):
        check_guidance_interval((0.2, 0.8), [999, 1])


@pytest.fixture(scope="module")
def pipeline(model: Path) -> LatentShiftPipeline:
    loaded = LatentShiftPipeline.from_pretrained(model)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def latents(
    pipeline: LatentShiftPipeline, prompt: Any = "red star", seeds: tuple[int, ...] = (1,), **given: Any
) -> Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    settings = {"num_inference_steps": 5, "guidance_scale": 4.0, "output_type": "latent", **given}
    return pipeline(prompt, generator=generators, **settings).frames


def test_a_video_with_fewer_operations_does_not_depend_on_others_or_on_earlier_calls(
    pipeline: LatentShiftPipeline,
) -> None:
    fewer = {"deep_cache_interval": 2, "guidance_interval": (300, 999)}
    exact, first, second = latents(pipeline), latents(pipeline, **fewer), latents(pipeline, "on", (2,), **fewer)
    assert not torch.equal(first, exact)
    both = latents(pipeline, ["red star", "on"], (1, 2), **fewer)
    assert torch.equal(both, torch.cat([first, second]))
    assert torch.equal(latents(pipeline), exact)
    torch.testing.assert_close(latents(pipeline, frame_chunk=3, **fewer), first, rtol=1e-4, atol=1e-4)


def test_guidance_in_an_interval_is_guidance_there_and_half_the_work_elsewhere(pipeline: LatentShiftPipeline) -> None:
    frames = pipeline.config.num_frames
    with counting(pipeline.unet.conv_in) as batches:
        everywhere = latents(pipeline, guidance_interval=(0, 999))
        guided = latents(pipeline, guidance_interval=(400, 999))
    assert batches == [2 * frames] * 5 + [2 * frames] * 3 + [frames] * 2  # at 999, 749, 499 (or so), and below 400
    assert torch.equal(everywhere, latents(pipeline)) and not torch.equal(guided, everywhere)


def test_what_a_call_cannot_leave_out_is_refused(pipeline: LatentShiftPipeline) -> None:
    for given, message in (
        ({"guidance_interval": (0.2, 0.8)}, "no step of this sampling lies in guidance_interval"),
        ({"guidance_interval": (200, 800), "guidance_scale": 1.0}, "guidance_interval has no effect without guidance"),
        ({"deep_cache_interval": 0}, "deep_cache_interval must be a whole number of 2 or more"),
        ({"deep_cache_interval": 2, "deep_cache_branch": 5}, "deep_cache_branch must be 0 to 1 for this U-Net"),
    ):
        with pytest.raises(ValueError, match=message):
            latents(pipeline, **given)
    assert frame_context(pipeline.unet) is not None


def test_the_command_line_leaves_operations_out_and_notes_it_in_the_file(cli, model: Path) -> None:
    words = ("generate", "red star", "--model", model, "--seed", 1, "--steps", 4, "--frames", 3, "--guidance", 4)
    fewer = ("--guidance-interval", "500:999", "--deep-cache", 2, "--deep-cache-branch", 1)
    for name, options in (("exact.webp", ()), ("fewer.webp", fewer)):
        code, _, err = cli(*words, "-o", name, *options)
        assert code == 0, err
    exact, less = (read_video(Path(name))[0] for name in ("exact.webp", "fewer.webp"))
    assert exact.shape == less.shape and (exact != less).any()
    notes = read_metadata(Path("fewer.webp"))
    assert [notes[name] for name in ("guidance_interval", "deep_cache", "deep_cache_branch")] == ["500:999", 2, 1]
    code, _, err = cli(*words, "-o", "none.webp", "--speed", "exact", "--deep-cache", 2)
    assert code == 0 and "not compiled: with deep features that are kept" in err


def test_a_study_notes_what_was_left_out_and_goes_on_with_nothing_else(model: Path, tmp_path: Path) -> None:
    fewer = FewerOperations((300, 999), 2)
    study = Study(LatentShiftPipeline.from_pretrained(model), "tiny", tmp_path, 4, 2.0, fewer=fewer)
    assert study.settings["guidance_interval"] == [300.0, 999.0] and study.settings["deep_cache_interval"] == 2
    assert "deep_cache_branch" not in study.settings
    with pytest.raises(ValueError, match="other settings"):
        Study(LatentShiftPipeline.from_pretrained(model), "tiny", tmp_path, 4, 2.0)

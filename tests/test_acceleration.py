"""``pipe.accelerate`` and ``generate --speed``: what is compiled, what runs compiled, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook

from latentshift import LatentShiftPipeline, frames_independent, install, remove
from latentshift.diffusion.condition import TextCondition
from latentshift.diffusion.samplers import make_sampler
from latentshift.models.compile_decision import (
    SECONDS_FOR_A_LAYER,
    SHARE_SAVED,
    SamplingWork,
    check_speed,
    pays_from,
    why_export,
    why_in_chunks,
    why_not_worth_it,
)
from latentshift.models.compiled_calls import CompiledCalls
from latentshift.models.conditioning.text_projection import drop_projected_text, project_text_once
from latentshift.models.denoiser import default_frame_chunk, denoise, share_text
from latentshift.models.frozen_weights import FrozenWeights
from latentshift.models.precision import fast_dtype
from latentshift.settings import ShiftConfig
from latentshift.video import read_metadata, read_video
from tiny_models import ONE_LEVEL, TEXT_WIDTH, TOKENS, tiny_unet


@pytest.fixture
def pipeline(model: Path) -> LatentShiftPipeline:
    loaded = LatentShiftPipeline.from_pretrained(model)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def video(pipeline: LatentShiftPipeline, frames: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return pipeline("red", num_frames=frames, num_inference_steps=2, generator=generator, output_type="latent").frames


@pytest.mark.parametrize(("share", "pays"), [(0.99, False), (1.01, True)])
def test_compiling_pays_where_it_saves_more_time_than_it_takes(share: float, pays: bool) -> None:
    layers, calls = 100, 2000
    seconds = share * layers * SECONDS_FOR_A_LAYER / (calls * SHARE_SAVED)
    reason = why_not_worth_it(calls, seconds, layers, 100)
    assert (reason is None) == pays
    if reason is not None:
        assert "2,000 calls of the U-Net" in reason and "it pays from about 21 such videos on" in reason


def test_a_handful_of_calls_is_not_even_measured() -> None:
    assert "the work ahead is 8 calls" in (why_not_worth_it(8, None, 100, 8) or "")
    assert why_not_worth_it(9, None, 100, 9) is None


def test_from_how_many_videos_on_something_pays() -> None:
    assert pays_from(10.0, 0.05, 100) == "it pays from about 2 such videos on"
    assert pays_from(1.0, 0.05, 100) == "it pays from about 1 such video on"
    assert pays_from(1.0, 0.0, 100) == pays_from(1.0, -0.1, 100) == "it never pays"


def test_an_export_is_named_where_it_saves_more_time_than_it_takes(pipeline: LatentShiftPipeline) -> None:
    from torch._inductor import config

    assert why_export(1000, 0.1, 200, 100, "bfloat16") is None
    line = why_export(2000, 0.1, 200, 100, "bfloat16") or ""
    assert "latentshift export MODEL --to openvino -o DIR writes the model for it in about 30 s" in line
    assert "--runtime openvino --dtype bfloat16 makes" in line and "it pays from about 18 such videos on" in line
    assert "--dtype" not in (why_export(2000, 0.1, 200, 100, "float32") or "")
    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        lines = pipeline.accelerate(SamplingWork(videos=100_000, steps=20)).lines
    assert sum(line.startswith("OpenVINO is installed") for line in lines) == (1 if find_spec("openvino") else 0)


def test_videos_in_chunks_of_frames_are_not_compiled() -> None:
    assert why_in_chunks(16, 64, None) is None and why_in_chunks(16, 64, 16) is None
    assert "1,000 frames are sampled 16 at a time" in (why_in_chunks(1000, 64, None) or "")
    assert "16 frames are sampled 4 at a time" in (why_in_chunks(16, 64, 4) or "")


def test_unknown_words_and_numbers_are_refused(pipeline: LatentShiftPipeline) -> None:
    check_speed(None)
    with pytest.raises(ValueError, match=r"work must be a SamplingWork, as in SamplingWork\(videos=8\), not 3"):
        pipeline.accelerate(3)
    with pytest.raises(ValueError, match="unknown speed 'faster': choose from exact, fast"):
        pipeline.accelerate(speed="faster")
    with pytest.raises(ValueError, match='compile must be "auto", True or False'):
        pipeline.accelerate(compile="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="videos must be a whole number of 1 or more, not 0"):
        SamplingWork(videos=0)
    with pytest.raises(ValueError, match="multiples of"):
        pipeline.accelerate(SamplingWork(height=13))


def test_a_short_video_is_not_compiled_and_every_line_says_what_is(pipeline: LatentShiftPipeline) -> None:
    expected, steps = video(pipeline), pipeline.num_timesteps
    report = pipeline.accelerate(SamplingWork(steps=20))
    assert not report.compiled and pipeline.unet._compiled_call_impl is None
    dtype, text, compiling, took = report.lines  # and nothing of other runtimes, which would pay even less
    fast = str(fast_dtype("cpu")).removeprefix("torch.")
    assert (dtype.startswith("dtype: float32, ") and f"{fast} is what" in dtype) or fast == "float32"
    assert text == "text: keys and values are projected once a video, not once a step"
    assert compiling.startswith("not compiled: the work ahead is 20 calls of the U-Net of ")
    assert took.startswith("warming up took ") and str(report).splitlines() == list(report.lines)
    assert torch.equal(video(pipeline), expected) and pipeline.num_timesteps == steps


def test_fast_keeps_deep_features_where_that_was_measured(pipeline: LatentShiftPipeline) -> None:
    fast = pipeline.accelerate(SamplingWork(steps=100), speed="fast")
    assert fast.arguments == {"deep_cache_interval": 2, "deep_cache_branch": 1} and not fast.compiled
    assert fast.lines[0].startswith("fast: deep features are kept for every other step")
    assert pipeline.accelerate(SamplingWork(steps=100), compile=False).arguments == {}


def test_fast_is_exact_elsewhere_and_says_why(pipeline: LatentShiftPipeline) -> None:
    exact, fast = (pipeline.accelerate(SamplingWork(steps=4), speed=speed) for speed in ("exact", "fast"))
    assert fast.lines[0].startswith("fast is exact here: ") and "not with DDPMScheduler in 4" in fast.lines[0]
    assert fast.arguments == {} and fast.lines[1:-1] == exact.lines[:-1]
    kept = pipeline.accelerate(SamplingWork(steps=100, deep_cache_interval=3), speed="fast")
    assert kept.arguments == {} and "keeps deep features already" in kept.lines[0]
    pipeline.scheduler = make_sampler("ddim", pipeline.scheduler)
    other = pipeline.accelerate(SamplingWork(steps=100), speed="fast", compile=False)
    assert other.arguments == {} and "not with DDIMScheduler in 100" in other.lines[0]


def test_fast_is_exact_for_a_unet_that_has_nothing_below_its_first_level(pipeline: LatentShiftPipeline) -> None:
    parts = {**pipeline.components, "unet": tiny_unet(**ONE_LEVEL, mid_block_type=None).eval()}
    report = LatentShiftPipeline(**parts, num_frames=2).accelerate(SamplingWork(steps=100), speed="fast", compile=False)
    assert report.arguments == {} and "has one level only" in report.lines[0]


def test_what_can_not_be_compiled_says_why_and_goes_on(pipeline: LatentShiftPipeline) -> None:
    assert "not compiled any more" not in str(pipeline.accelerate(compile=False))
    assert "not compiled: 16 frames are sampled 4 at a time" in str(
        pipeline.accelerate(SamplingWork(frames=16, frame_chunk=4), compile=True)
    )
    expected = video(pipeline)
    pipeline.unet = torch.compile(pipeline.unet, backend="eager")
    assert "compiled already, and not by accelerate" in str(pipeline.accelerate(compile=True))
    pipeline.unet = pipeline.unet._orig_mod
    assert torch.equal(video(pipeline), expected)


def test_a_machine_without_a_compiler_goes_on(pipeline: LatentShiftPipeline) -> None:
    from torch._inductor import config

    expected = video(pipeline)
    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        report = pipeline.accelerate(compile=True)
    assert not report.compiled and "not compiled: torch.compile failed (No working C++ compiler found" in str(report)
    assert pipeline.unet._compiled_call_impl is None and torch.equal(video(pipeline), expected)


class Counted:
    """A compiler that counts the graphs it is given and the calls of what it made."""

    def __init__(self) -> None:
        self.graphs = self.calls = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: object) -> object:
        self.graphs += 1

        def run(*args: object) -> object:
            self.calls += 1
            return graph.forward(*args)

        return run


@pytest.fixture
def counted() -> Iterator[Counted]:
    torch.compiler.reset()
    yield Counted()
    torch.compiler.reset()


@pytest.fixture
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet = install(tiny_unet(**ONE_LEVEL, mid_block_type=None).eval(), ShiftConfig())  # quickly compiled
    share_text(unet)
    return unet


def predicted(unet: UNet2DConditionModel, frames: int, **options: int) -> Tensor:
    seeded = torch.Generator().manual_seed(frames)
    latents = torch.randn(1, frames, 4, 8, 8, generator=seeded)
    text = TextCondition(torch.randn(1, TOKENS, TEXT_WIDTH, generator=seeded))
    return denoise(unet, latents, torch.tensor(500), text, **options)


@torch.no_grad()
def test_only_tried_kinds_of_calls_run_compiled_and_all_give_the_same(
    unet: UNet2DConditionModel, counted: Counted
) -> None:
    expected = {frames: predicted(unet, frames) for frames in (1, 2, 4)}
    compiled = unet._compiled_call_impl = CompiledCalls(unet, freeze=False, backend=counted)
    for frames in (4, 2):
        with compiled.trial(compiling=True) as trial:
            predicted(unet, frames)
        assert trial.differences == [0.0] and len(trial.eager) == len(trial.compiled) == 1
        compiled.kinds |= trial.kinds
    assert (counted.graphs, counted.calls) == (2, 2)

    def runs_compiled(frames: int, **options: int) -> bool:
        calls = counted.calls
        torch.testing.assert_close(predicted(unet, frames, **options), expected[frames])
        assert counted.graphs == 2  # nothing is compiled anew
        return counted.calls > calls

    assert runs_compiled(4) and runs_compiled(2) and runs_compiled(4)
    assert not runs_compiled(1)
    assert not runs_compiled(4, frame_chunk=2)
    assert default_frame_chunk(unet, 1000, 64) == 16  # long videos are still sampled in chunks
    with torch.enable_grad():
        assert not runs_compiled(4)


@torch.no_grad()
def test_what_compiled_code_would_not_notice_runs_without_it(unet: UNet2DConditionModel, counted: Counted) -> None:
    compiled = unet._compiled_call_impl = CompiledCalls(unet, freeze=False, backend=counted)
    with compiled.trial(compiling=True) as trial:
        plain = predicted(unet, 4)
    compiled.kinds |= trial.kinds
    hook = unet.down_blocks[0].register_forward_hook(lambda *_: None)
    predicted(unet, 4)
    handle = unet.conv_out.register_forward_hook(lambda layer, args, output: output + 1)
    torch.testing.assert_close(predicted(unet, 4), plain + 1)
    handle.remove()
    hook.remove()
    of_all = register_module_forward_hook(lambda layer, args, output: output + 1 if layer is unet.conv_out else None)
    try:
        torch.testing.assert_close(predicted(unet, 4), plain + 1)
    finally:
        of_all.remove()
    with frames_independent(unet):
        alone = predicted(unet, 4)
    assert counted.calls == 1 and not torch.equal(alone, plain)
    remove(unet)
    torch.testing.assert_close(predicted(unet, 4), alone)
    install(unet, ShiftConfig())
    assert counted.calls == 1 and torch.equal(predicted(unet, 4), plain)
    unet.conv_out.weight.mul_(2)  # weights are read, and not part of the code
    scaled = predicted(unet, 4)
    unet._compiled_call_impl = None
    assert torch.equal(scaled, predicted(unet, 4)) and not torch.equal(scaled, plain)


@torch.no_grad()
def test_a_hook_in_place_of_another_is_not_left_out(unet: UNet2DConditionModel, counted: Counted) -> None:
    compiled = unet._compiled_call_impl = CompiledCalls(unet, freeze=False, backend=counted)
    hook = unet.conv_out.register_forward_hook(lambda layer, args, output: output + 1)
    with compiled.trial(compiling=True) as trial:
        raised = predicted(unet, 4)
    compiled.kinds |= trial.kinds
    torch.testing.assert_close(predicted(unet, 4), raised)
    hook.remove()
    unet.conv_out.register_forward_hook(lambda layer, args, output: output + 3)
    torch.testing.assert_close(predicted(unet, 4), raised + 2)
    assert counted.calls == 2


def _scale_in_place(weight: Tensor) -> None:
    weight.mul_(2)


def _scale_data(weight: Tensor) -> None:
    weight.data *= 2  # as a LoRA is merged: it leaves no trace in the parameter


def _replace_data(weight: Tensor) -> None:
    weight.data = weight.data * 2


@torch.no_grad()
@pytest.mark.parametrize("change", [_scale_in_place, _scale_data, _replace_data])
def test_weights_that_are_a_part_of_the_code_are_not_used_after_a_change(
    unet: UNet2DConditionModel, counted: Counted, change: Callable[[Tensor], None]
) -> None:
    compiled = unet._compiled_call_impl = CompiledCalls(unet, freeze=True, backend=counted)
    with compiled.trial(compiling=True) as trial:
        plain = predicted(unet, 4)
    compiled.kinds |= trial.kinds
    with project_text_once():
        assert torch.equal(predicted(unet, 4), plain) and counted.calls == 2
        change(unet.conv_out.weight)
        drop_projected_text()  # as after a callback
        with pytest.warns(UserWarning, match="weights of the U-Net have changed since"):
            changed = predicted(unet, 4)
    with project_text_once(), pytest.warns(UserWarning, match="call accelerate"):
        assert torch.equal(predicted(unet, 4), changed)
    assert counted.calls == 2 and not torch.equal(changed, plain) and not compiled.has_weights_of_unet
    unet.conv_out.weight.mul_(0.5)  # exactly as before
    assert torch.equal(predicted(unet, 4), plain) and counted.calls == 3


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_change_places_are_other_weights(dtype: torch.dtype) -> None:
    layer = torch.nn.Conv2d(17, 19, 3).to(dtype)  # of no whole number of 8 bytes, in bfloat16
    before = layer.weight.data.clone()
    frozen = FrozenWeights(layer)
    for changed in (before.flip(-1), before.flip(0), before.roll(1, 1), before.transpose(2, 3)):
        layer.weight.data = changed
        assert not frozen.are_unchanged()
        layer.weight.data = before.clone()
        assert frozen.are_unchanged()


@torch.no_grad()
def test_code_with_former_weights_is_not_found_again(unet: UNet2DConditionModel, counted: Counted) -> None:
    for graphs in (1, 2):
        compiled = unet._compiled_call_impl = CompiledCalls(unet, freeze=True, backend=counted)
        with compiled.trial(compiling=True) as trial:
            predicted(unet, 4)
        assert counted.graphs == graphs and trial.differences == [0.0]
        unet.conv_out.weight.data *= 1.001


def test_what_is_compiled_already_is_said_for_any_work_of_its_kind(
    pipeline: LatentShiftPipeline, counted: Counted
) -> None:
    parts = {**pipeline.components, "unet": tiny_unet(**ONE_LEVEL, mid_block_type=None).eval()}  # quickly compiled
    pipeline = LatentShiftPipeline(**parts, num_frames=4)
    pipeline.set_progress_bar_config(disable=True)
    expected = video(pipeline)
    pipeline.unet._compiled_call_impl = CompiledCalls(pipeline.unet, freeze=False, backend=counted)
    report = pipeline.accelerate(compile=True)
    assert report.compiled and any(line.startswith("compiled the U-Net in ") for line in report.lines)
    again = pipeline.accelerate(SamplingWork(steps=2))
    assert again.compiled and "compiled already for such videos" in again.lines
    assert not pipeline.accelerate(SamplingWork(steps=2, frames=3)).compiled
    calls = counted.calls
    torch.testing.assert_close(video(pipeline), expected)
    assert (counted.graphs, counted.calls) == (1, calls + 2)
    assert "not compiled any more: compile is False" in pipeline.accelerate(compile=False).lines
    assert torch.equal(video(pipeline), expected) and counted.calls == calls + 2


def test_double_precision_is_compiled_too(pipeline: LatentShiftPipeline, counted: Counted) -> None:
    parts = {**pipeline.components, "unet": tiny_unet(**ONE_LEVEL, mid_block_type=None).eval()}  # quickly compiled
    pipeline = LatentShiftPipeline(**parts, num_frames=2).to(torch.float64)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet._compiled_call_impl = CompiledCalls(pipeline.unet, freeze=False, backend=counted)
    assert pipeline.accelerate(SamplingWork(steps=2), compile=True).compiled and counted.graphs == 1


def test_generate_prints_what_speed_did_and_makes_the_same_video(cli, model: Path) -> None:
    words = ("generate", "a red star", "--model", model, "--steps", 2, "--seed", 7)
    assert cli(*words, "-o", "plain.png", "--frames", 1)[0] == 0
    code, out, err = cli(*words, "-o", "exact.png", "--frames", 1, "--speed", "exact")
    assert code == 0 and out == "exact.png  (seed 7)\n"
    lines = err.splitlines()
    assert len(lines) == 4 and all(line.startswith("speed: ") for line in lines)
    assert "not compiled: the work ahead is 2 calls" in lines[2]
    assert np.array_equal(read_video(Path("plain.png"))[0], read_video(Path("exact.png"))[0])
    assert read_metadata(Path("exact.png"))["speed"] == "exact" and read_metadata(Path("plain.png"))["speed"] is None


def test_generate_with_the_speed_fast_keeps_deep_features(cli, model: Path) -> None:
    words = ("generate", "a red star", "--model", model, "--steps", 100, "--seed", 7, "--frames", 1)
    code, _, err = cli(*words, "-o", "fast.png", "--speed", "fast")
    assert code == 0 and "speed: fast: deep features are kept" in err
    assert cli(*words, "-o", "kept.png", "--deep-cache", 2, "--deep-cache-branch", 1)[0] == 0
    assert np.array_equal(read_video(Path("fast.png"))[0], read_video(Path("kept.png"))[0])
    written = read_metadata(Path("fast.png"))
    assert (written["speed"], written["deep_cache"], written["deep_cache_branch"]) == ("fast", 2, 1)


@pytest.mark.slow
def test_the_compiled_unet_equals_the_eager_one_at_every_frame_count(
    pipeline: LatentShiftPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calls = CompiledCalls._run_compiled, []
    monkeypatch.setattr(CompiledCalls, "_run_compiled", lambda *given: (calls.append(1), run(*given))[1])
    expected = {frames: video(pipeline, frames) for frames in (4, 3, 1)}
    for frames in (4, 3):
        report = pipeline.accelerate(SamplingWork(frames=frames), compile=True)
        assert report.compiled, str(report)
        assert "compiled the U-Net in " in str(report) and "its kernels are cached for later processes in" in str(
            report
        )
    assert "compiled already for such videos" in str(pipeline.accelerate(SamplingWork(frames=3)))
    for frames, each in expected.items():
        calls.clear()
        torch.testing.assert_close(video(pipeline, frames), each, atol=1e-4, rtol=1e-4)
        assert len(calls) == (0 if frames == 1 else 2)
    pipeline.unet.conv_out.weight.data *= 1.5
    calls.clear()
    with pytest.warns(UserWarning, match="weights of the U-Net have changed"):
        changed = video(pipeline, 4)
    assert not calls and "compiled the U-Net in " in str(pipeline.accelerate(SamplingWork(frames=4), compile=True))
    calls.clear()
    torch.testing.assert_close(video(pipeline, 4), changed, atol=1e-4, rtol=1e-4)
    assert len(calls) == 2 and (changed - expected[4]).abs().max() > 1e-2
    assert "not compiled any more" in str(pipeline.accelerate(compile=False))
    assert torch.equal(video(pipeline, 4), changed)

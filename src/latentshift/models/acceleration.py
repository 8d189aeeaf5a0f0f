"""One call that makes sampling as fast as is known here, and says what it did: ``pipe.accelerate()``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, Literal

import torch
from diffusers.hooks.group_offloading import _is_group_offload_enabled
from torch import nn

from latentshift.diffusion.fewer_operations import FewerOperations
from latentshift.diffusion.schedulers import set_timesteps
from latentshift.models.adapters.ip_adapter import adapter_layers
from latentshift.models.compile_decision import (
    CALLS_TO_MEASURE,
    SamplingWork,
    check_speed,
    pays_from,
    why_export,
    why_in_chunks,
    why_not_worth_it,
)
from latentshift.models.compiled_calls import TOLERANCES, CompiledCalls, Trial
from latentshift.models.deep_cache import open_deep_cache
from latentshift.models.precision import fast_dtype
from latentshift.progress import status
from latentshift.user_input.error_text import one_line, printable

FAST = FewerOperations(deep_cache_interval=2, deep_cache_branch=1)
"""What fast leaves out: no score of the bundled model fell by more than one point on 288 videos (docs/speed.md)."""
_FAST_SAMPLER, _FAST_STEPS = "DDPMScheduler", 100  # that it was measured with
_FAST_LINE = "fast: deep features are kept for every other step ({})".format(
    ", ".join(f"{name}={value}" for name, value in FAST.arguments().items())
)
_FROZEN_LINE = (
    "weights are a part of the compiled code: after a change of them it is not used until this is called again"
)
_LONGEST_ERROR = 200
_NAMES = {"cpu": "CPU", "cuda": "GPU"}


@dataclass(frozen=True)
class AccelerationReport:
    """What :meth:`AccelerateMixin.accelerate` did.

    Attributes:
        speed: the word asked for, ``"exact"`` or ``"fast"``.
        compiled: whether the work runs in compiled code now.
        seconds: that warming up took, with compiling.
        lines: what was done and what was not, and why, a sentence each; ``str(report)`` joins them.
        arguments: that the calls of the work need beside their own, ``pipe(prompt, **report.arguments)``; none unless
            fast leaves something out.
    """

    speed: str
    compiled: bool
    seconds: float
    lines: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join(self.lines)


class AccelerateMixin:
    """:meth:`accelerate`, for a pipeline."""

    @torch.no_grad()
    def accelerate(
        self, work: SamplingWork | None = None, *, speed: str = "exact", compile: bool | Literal["auto"] = "auto"
    ) -> AccelerationReport:
        """Make sampling faster with the same numbers within the dtype's rounding, and say what was done.

        A few calls of the U-Net are made and timed, to see what compiling it would save in the work ahead. If that is
        more than it costs, the U-Net is compiled, and kept so if its results are those of before, but for rounding,
        and faster. Only calls as those of the work run compiled: other frame counts, sizes, dtypes and devices, other
        temporal settings, calls under autograd, in chunks of frames, or after a hook was added, run as before. On the
        CPU weights are a part of the code, and calls after a change of weights run as before, with a warning. Call
        this again for other work, in addition, and for other weights.

        Args:
            work: what is going to be made; None: one video with the pipeline's defaults.
            speed: ``"exact"``; or ``"fast"``, which makes other videos with fewer operations, by the report's
                ``arguments``, where that was measured to lose nearly nothing.
            compile: ``"auto"``: if it pays; True: in any case; False: not, and what was compiled before is undone.

        Raises:
            ValueError: for an unknown word, or work that a call of the pipeline refuses.
        """
        check_speed(speed)
        if compile not in ("auto", True, False):
            raise ValueError(f'compile must be "auto", True or False, not {compile!r}')
        if not isinstance(work, SamplingWork | None):
            raise ValueError(f"work must be a SamplingWork, as in SamplingWork(videos=8), not {work!r}")
        pipe: Any = self
        work = _with_defaults(pipe, work or SamplingWork())
        start = time.perf_counter()
        lines, fewer = [], FewerOperations()
        if speed == "fast":
            fewer, line = _fewer(pipe, work)
            lines.append(line)
            work = replace(work, deep_cache_interval=fewer.deep_cache_interval or work.deep_cache_interval)
        lines.append(_dtype_line(pipe))
        if compile is False:
            compiled, said = False, [_undo(pipe.unet)]
        elif (reason := _why_not(pipe, work)) is not None:
            compiled, said = False, [f"not compiled: {reason}"]
        else:
            ahead = _calls_ahead(pipe, work)
            with status("warming up"):
                compiled, said, call_seconds = _compile(pipe, work, ahead, insist=compile is True)
            if call_seconds is not None:
                said += _runtime_lines(pipe, ahead, call_seconds)
        text = "in every step, inside the compiled code" if compiled else "once a video, not once a step"
        lines += [f"text: keys and values are projected {text}", *said]
        seconds = time.perf_counter() - start
        lines.append(f"warming up took {seconds:.1f} s")
        return AccelerationReport(speed, compiled, seconds, tuple(lines), fewer.arguments())


def _fewer(pipe: Any, work: SamplingWork) -> tuple[FewerOperations, str]:
    """What fast leaves out of the work, and a sentence about it."""
    sampler, reason = type(pipe.scheduler).__name__, None
    if work.deep_cache_interval is not None:
        reason = "the work keeps deep features already"
    elif sampler != _FAST_SAMPLER or (work.steps or 0) < _FAST_STEPS:
        how = f"{_FAST_SAMPLER} in {_FAST_STEPS} steps or more, and not with {sampler} in {work.steps}"
        reason = f"what it leaves out is known to lose nearly nothing with {how}"
    else:
        try:
            open_deep_cache(pipe, FAST, guided=work.guidance_scale != 1)
        except ValueError as error:
            reason = one_line(error)
    return (FAST, _FAST_LINE) if reason is None else (FewerOperations(), f"fast is exact here: {reason}")


def _with_defaults(pipe: Any, work: SamplingWork) -> SamplingWork:
    """With the pipeline's values for those that are None, checked as in a call."""
    config, side = pipe.config, pipe.sample_size
    filled = SamplingWork(
        videos=work.videos,
        frames=work.frames or config.num_frames,
        steps=work.steps or config.num_inference_steps,
        height=work.height or side,
        width=work.width or side,
        guidance_scale=config.guidance_scale if work.guidance_scale is None else work.guidance_scale,
        frame_chunk=work.frame_chunk,
        deep_cache_interval=work.deep_cache_interval,
    )
    pipe.check_inputs(
        filled.frames, filled.height, filled.width, filled.steps, filled.guidance_scale, filled.videos, "latent"
    )
    return filled


def _dtype_line(pipe: Any) -> str:
    dtype, device = pipe.unet.dtype, pipe._execution_device
    fast, where = fast_dtype(device), f"on this {_NAMES.get(device.type, device.type)}"
    own, better = (str(each).removeprefix("torch.") for each in (dtype, fast))
    if dtype == fast:
        return f"dtype: {own}, the one --dtype auto takes {where}"
    return f"dtype: {own}, as asked for; {better} is what --dtype auto takes {where}"


@dataclass(frozen=True)
class _Ahead:
    """What a work is in calls of the U-Net.

    Attributes:
        calls: of all videos.
        of_a_video: of one.
        layers: of the U-Net, with weights.
    """

    calls: int
    of_a_video: int
    layers: int


def _calls_ahead(pipe: Any, work: SamplingWork) -> _Ahead:
    set_timesteps(pipe.scheduler, work.steps or 1, None, None, pipe._execution_device)
    of_a_video = len(pipe.scheduler.timesteps)
    layers = sum(1 for module in pipe.unet.modules() if any(True for _ in module.parameters(recurse=False)))
    return _Ahead(of_a_video * work.videos, of_a_video, layers)


def _runtime_lines(pipe: Any, ahead: _Ahead, seconds: float) -> list[str]:
    """A sentence about a faster way that is no switch of a pipeline, where there is one and it pays."""
    if pipe._execution_device.type != "cpu" or find_spec("openvino") is None or pipe.config.shift is None:
        return []
    dtype = str(pipe.unet.dtype).removeprefix("torch.")
    line = why_export(ahead.calls, seconds, ahead.layers, ahead.of_a_video, dtype)
    return [] if line is None else [line]


def _undo(unet: nn.Module) -> str:
    if not isinstance(unet._compiled_call_impl, CompiledCalls):
        return "not compiled: compile is False"
    unet._compiled_call_impl = None
    return "not compiled any more: compile is False"


def _why_not(pipe: Any, work: SamplingWork) -> str | None:
    """Why a U-Net can't be compiled for the work; None: it can be tried."""
    if pipe.frame_ranks is not None:
        return "frames are split over processes, and compiled code can't be interrupted where they hand over edges"
    if work.deep_cache_interval is not None:
        return "with deep features that are kept, the U-Net's layers are called one by one"
    unet, device = pipe.unet, pipe._execution_device
    pixels = (work.height or 1) // pipe.vae_scale_factor * ((work.width or 1) // pipe.vae_scale_factor)
    if device.type not in _NAMES:
        return f"it is done on the CPU and on CUDA, and not on {device.type}"
    impl = unet._compiled_call_impl if isinstance(unet, nn.Module) else None
    by_others = impl is not None and not isinstance(impl, CompiledCalls)
    if hasattr(unet, "_orig_mod") or by_others or hasattr(unet.forward, "_torchdynamo_orig_callable"):
        return "the U-Net is compiled already, and not by accelerate, so it is left as it is"
    if _is_group_offload_enabled(unet) or any(hasattr(module, "_hf_hook") for module in unet.modules()):
        return "the U-Net's weights are offloaded, which compiled code would not notice"
    if adapter_layers(unet) is not None:
        return "with an IP-Adapter there is no warming up without its pictures"
    return why_in_chunks(work.frames or 1, pixels, work.frame_chunk)


def _compile(pipe: Any, work: SamplingWork, ahead: _Ahead, *, insist: bool) -> tuple[bool, list[str], float | None]:
    """Whether the work is compiled, sentences about it, and seconds of a call of the U-Net, if they were measured."""
    unet, of_a_video = pipe.unet, ahead.of_a_video
    earlier, freeze = unet._compiled_call_impl, pipe._execution_device.type == "cpu"
    if earlier is not None and (not earlier.has_weights_of_unet or (earlier.freezes and not freeze)):
        earlier = unet._compiled_call_impl = None  # code of former weights, or for the CPU
    if not insist and earlier is None and (reason := why_not_worth_it(ahead.calls, None, ahead.layers, of_a_video)):
        return False, [f"not compiled: {reason}"], None
    compiled = earlier or CompiledCalls(unet, freeze=freeze)
    unet._compiled_call_impl = compiled
    kept = False
    try:
        measured = _warm_up(pipe, work, compiled, compiling=False)
        if measured.kinds and measured.kinds <= compiled.kinds:
            kept = True
            return True, ["compiled already for such videos"], None
        eager = min(measured.eager)
        if not insist and (reason := why_not_worth_it(ahead.calls, eager, ahead.layers, of_a_video)):
            return False, [f"not compiled: {reason}"], eager
        try:
            _check_compiler(pipe._execution_device)
            trial = _warm_up(pipe, work, compiled, compiling=True)
        except (RuntimeError, OSError, ImportError) as error:  # no C++ compiler, no Triton, a full disk, …
            reason = one_line(error).partition(" Set TORCHDYNAMO_VERBOSE")[0]  # torch's advice on debugging
            return False, [f"not compiled: torch.compile failed ({printable(reason, _LONGEST_ERROR)})"], eager
        kept, lines = _judge(trial, unet.dtype, of_a_video, insist=insist)
        if kept:
            frozen = compiled.freezes
            lines += [_FROZEN_LINE, _cache_line("its kernels are")] if frozen else [_cache_line("compiled code is")]
            compiled.kinds |= trial.kinds
        return kept, lines, min(trial.compiled[1:]) if kept else eager
    finally:
        if not kept:
            unet._compiled_call_impl = earlier


def _check_compiler(device: torch.device) -> None:
    """Raise a RuntimeError if what torch.compile hands its code to is missing, before minutes of tracing."""
    if device.type == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler

        get_cpp_compiler()
    else:
        from torch.utils._triton import has_triton

        if not has_triton():
            raise RuntimeError("there is no Triton for this GPU")


def _warm_up(pipe: Any, work: SamplingWork, compiled: CompiledCalls, *, compiling: bool) -> Trial:
    """A video of a few steps, whose result nobody sees."""
    count, bar = pipe._num_timesteps, getattr(pipe, "_progress_bar_config", {})
    pipe.set_progress_bar_config(disable=True)
    try:
        with compiled.trial(compiling=compiling) as trial:
            pipe(
                "",
                num_frames=work.frames,
                height=work.height,
                width=work.width,
                num_inference_steps=CALLS_TO_MEASURE + compiling,
                guidance_scale=work.guidance_scale,
                generator=torch.Generator().manual_seed(0),
                output_type="latent",
            )
    finally:
        pipe._num_timesteps, pipe._progress_bar_config = count, bar
    return trial


def _judge(trial: Trial, dtype: torch.dtype, calls_of_a_video: int, *, insist: bool) -> tuple[bool, list[str]]:
    """Whether compiled code is kept after its trial, and sentences about it."""
    eager, compiled = min(trial.eager), min(trial.compiled[1:])
    spent = trial.compiled[0] - compiled
    worst = max(trial.differences)
    if not worst <= TOLERANCES[dtype]:
        return False, [f"not compiled: compiled code gave other results (they differ by {worst:.1e} of their size)"]
    times = f"a call of the U-Net takes {compiled:.3g} s, and {eager:.3g} s without"
    if compiled >= eager and not insist:
        return False, [f"not compiled: after {spent:.1f} s of compiling, {times}, so compiled code is not kept"]
    pays = pays_from(spent, eager - compiled, calls_of_a_video)
    return True, [
        f"compiled the U-Net in {spent:.1f} s: {times}; {pays}; results differ by {worst:.1e} of their size",
    ]


def _cache_line(what: str) -> str:
    """Of frozen code torch caches the kernels always, and the rest where no weight was put in oneDNN's own order."""
    from torch._inductor import config
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    if not config.fx_graph_cache or config.force_disable_caches:
        return "compiled code is not cached for later processes: torch's cache is switched off"
    return f"{what} cached for later processes in {cache_dir()} (TORCHINDUCTOR_CACHE_DIR moves it)"

"""What a video costs with each of the compared video models: parameters, operations, seconds and memory.

All take turns, round after round, each in a process of its own, so that what else the machine does meets all alike and
nobody's memory is another's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from latentshift.benchmarks.generation.device_peak import (
    convolution_flops,
    product_flops,
    time_convolution,
    time_product,
)
from latentshift.benchmarks.generation.exported_models import ExportedModel, time_exported_passes, time_exported_video
from latentshift.benchmarks.generation.image_base import open_base
from latentshift.benchmarks.generation.kept_timings import KeptTimings
from latentshift.benchmarks.generation.parameters_and_flops import Count, count
from latentshift.benchmarks.generation.settings import (
    RUNTIMES,
    VIDEO_MODELS,
    GenerationSettings,
    check_comparison,
)
from latentshift.benchmarks.generation.time_model import (
    PassTiming,
    Timing,
    time_decoding,
    time_passes,
    time_text,
    time_video,
)
from latentshift.benchmarks.own_process import in_own_process
from latentshift.benchmarks.report import Estimate
from latentshift.benchmarks.timing import spread, take_turns
from latentshift.models.precision import fast_dtype
from latentshift.progress import progress_bar
from latentshift.settings import FAMILIES

_TEXT, _DECODING, _PRODUCT, _CONVOLUTION = "text", "decoding", "product", "convolution"


@dataclass(frozen=True)
class Measured:
    """Of all rounds.

    Attributes:
        first: seconds of the first time in each process: median, lowest and highest.
        seconds: of the other times, likewise.
        times: how many these are.
        peak: bytes at the highest peak; None where the system does not tell.
    """

    first: Estimate
    seconds: Estimate
    times: int
    peak: int | None


@dataclass(frozen=True)
class VideoSeconds:
    """Seconds of the videos that are made at once, one unless the settings say more.

    Attributes:
        seconds: with the lowest and the highest as bounds.
        how: ``measured``, ``measured once``, or what it is extrapolated from.
    """

    seconds: Estimate
    how: str


@dataclass(frozen=True)
class GenerationCost:
    """The result of :func:`measure`, each by the video model's name.

    Attributes:
        settings: of the comparison.
        passes: of the U-Net; like the videos, also of exports, by the runtime's name.
        text: of the text encoder, the same for all.
        decoding: likewise.
        product: by dtype, operations a second of a large matrix product on this device at its best.
        convolution: likewise of a large convolution.
        videos: whole ones; empty if none were made.
        kinds: shares of a profiled pass by kind of operator, whose sum is 1; empty if none was profiled.
    """

    settings: GenerationSettings
    passes: dict[str, Measured]
    text: Measured
    decoding: Measured
    product: dict[str, float]
    convolution: dict[str, float]
    videos: dict[str, Measured]
    kinds: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def device_peak(self) -> float:
        """The highest of them all: in the dtype that is fast here, whichever the passes were measured in."""
        return max(*self.product.values(), *self.convolution.values())

    def video(self, name: str) -> VideoSeconds:
        """Seconds of a whole video, or of those at once: measured, or text + steps × pass + decoding."""
        if name in self.videos:
            video = self.videos[name]
            return VideoSeconds(video.seconds, "measured once" if video.times == 1 else "measured")
        one, steps = self.passes[name], self.settings.steps
        low, middle, high = (
            getattr(self.text.seconds, part) + steps * getattr(one.seconds, part) + getattr(self.decoding.seconds, part)
            for part in ("low", "value", "high")
        )
        how = f"extrapolated from {one.times} pass{'' if one.times == 1 else 'es'}"
        return VideoSeconds(
            Estimate(middle, low, high), how if name in VIDEO_MODELS else f"{how}; text and decoding: PyTorch's"
        )


def complete_settings(
    base: str,
    models: Sequence[str],
    *,
    num_frames: int | None,
    steps: int,
    guidance: float | None,
    device: str,
    dtype: str,
    rounds: int,
    whole: bool | None,
    videos: int = 1,
    size: int | None = None,
) -> GenerationSettings:
    """Fill in what was left open.

    Args:
        base: as for :class:`GenerationSettings`, like all that follow.
        models: likewise.
        num_frames: None: the base's, or the paper's.
        steps: likewise.
        guidance: None: the base's, or the paper's.
        device: likewise.
        dtype: likewise.
        rounds: likewise.
        whole: None: if the base is a saved model, and no family at its published size.
        videos: made at once.
        size: as for :class:`GenerationSettings`.

    Raises:
        ValueError: for a base that can't be read, or frames or a size that a model does not support.
    """
    image = open_base(base, size)
    num_frames = image.num_frames if num_frames is None else num_frames
    check_comparison(models, num_frames, steps, guidance, rounds, videos)
    return GenerationSettings(
        base=base,
        models=tuple(models),
        num_frames=num_frames,
        steps=steps,
        guidance=image.guidance_scale if guidance is None else guidance,
        device=device,
        dtype=dtype,
        threads=torch.get_num_threads(),
        rounds=rounds,
        whole=base not in FAMILIES if whole is None else whole,
        videos=videos,
        size=size,
        peak_dtypes=tuple(dict.fromkeys((dtype, str(fast_dtype(device)).removeprefix("torch.")))),
    )


def count_all(settings: GenerationSettings) -> dict[str, Count]:
    """Parameters and operations of each video model, and of Latent-Shift if exports of it are compared.

    Raises:
        ValueError: for a base that can't be read, or one that a video model can't be built like.
    """
    base = open_base(settings.base, settings.size)
    names = dict.fromkeys((*settings.models, *(("latent-shift",) if settings.runtimes else ())))
    return {name: count(base, name, settings.num_frames, settings.texts) for name in names}


def measure(
    settings: GenerationSettings,
    exports: Mapping[str, ExportedModel] | None = None,
    kept: KeptTimings | None = None,
) -> GenerationCost:
    """Time all of it.

    Args:
        settings: of the comparison.
        exports: of Latent-Shift, by the runtime's name.
        kept: turns of an interrupted run with these settings, which are not taken again; new ones are added. None
            keeps none.

    Raises:
        ValueError: if a process ended without an answer, as for lack of memory.
    """
    exports = exports or {}
    works = _works(settings, exports)
    with progress_bar(total=settings.rounds * len(works), text="timing", unit="turn") as bar:

        def turn(what: str, work: Callable[[], Timing | PassTiming], number: int) -> Timing | PassTiming:
            timing = None if kept is None else kept.get(what, number)
            if timing is None:
                timing = work()
                if kept is not None:
                    kept.add(what, number, timing)
            bar.update()
            return timing

        timings = take_turns([partial(turn, what, work) for what, work in works.items()], settings.rounds)
    of_work = dict(zip(works, timings, strict=True))
    measured = {name: _together(each) for name, each in of_work.items()}

    def of(kind: str) -> dict[str, Measured]:
        names = (*settings.models, *exports)
        return {name: measured[f"{kind} {name}"] for name in names if f"{kind} {name}" in measured}

    def peaks(kind: str, flops: int) -> dict[str, float]:
        return {dtype: flops / measured[f"{kind} {dtype}"].seconds.low for dtype in settings.peak_dtypes}

    def profiled(name: str) -> list[dict[str, float]]:
        passes = of_work[f"pass {name}"]
        return [each.kinds for each in passes if isinstance(each, PassTiming) and each.kinds is not None]

    return GenerationCost(
        settings,
        passes=of("pass"),
        text=measured[_TEXT],
        decoding=measured[_DECODING],
        product=peaks(_PRODUCT, product_flops(settings)),
        convolution=peaks(_CONVOLUTION, convolution_flops()),
        videos=of("video"),
        kinds={name: _shares(passes) for name in settings.models if (passes := profiled(name))},
    )


def _works(
    settings: GenerationSettings, exports: Mapping[str, ExportedModel]
) -> dict[str, Callable[[], Timing | PassTiming]]:
    """What is timed in each round, by its name; each call is one turn, in a process of its own."""
    works: dict[str, Callable[[], Timing | PassTiming]] = {}
    for name in settings.models:
        what = f"a pass of {VIDEO_MODELS[name]}"
        works[f"pass {name}"] = partial(in_own_process, what, time_passes, settings, name)
    for name, export in exports.items():
        what = f"a pass of {RUNTIMES[name]}"
        works[f"pass {name}"] = partial(in_own_process, what, time_exported_passes, settings, export)
    works[_TEXT] = partial(in_own_process, "the text encoder's part", time_text, settings)
    works[_DECODING] = partial(in_own_process, "the decoding", time_decoding, settings)
    for dtype in settings.peak_dtypes:
        one = replace(settings, dtype=dtype)
        works[f"{_PRODUCT} {dtype}"] = partial(in_own_process, "a matrix product", time_product, one)
        works[f"{_CONVOLUTION} {dtype}"] = partial(in_own_process, "a convolution", time_convolution, one)
    for name in settings.models if settings.whole else ():
        what = f"a whole video of {VIDEO_MODELS[name]}"
        works[f"video {name}"] = partial(in_own_process, what, time_video, settings, name)
    for name, export in exports.items() if settings.whole else ():
        what = f"a whole video of {RUNTIMES[name]}"
        works[f"video {name}"] = partial(in_own_process, what, time_exported_video, settings, export)
    return works


def _together(each_round: Sequence[Timing | PassTiming]) -> Measured:
    timings = [each.timing if isinstance(each, PassTiming) else each for each in each_round]
    later = [seconds for each in timings for seconds in each.later]
    peaks = [each.peak for each in timings if each.peak is not None]
    return Measured(spread([each.first for each in timings]), spread(later), len(later), max(peaks, default=None))


def _shares(passes: Sequence[dict[str, float]]) -> dict[str, float]:
    total = sum(sum(each.values()) for each in passes)
    return {kind: sum(each[kind] for each in passes) / total for kind in passes[0]}

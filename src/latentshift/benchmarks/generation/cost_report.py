"""What video models cost, as a report, of which pages are made with the rows of the paper's Table 4 beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from latentshift import __version__
from latentshift.benchmarks.generation.cost import GenerationCost
from latentshift.benchmarks.generation.image_base import open_base
from latentshift.benchmarks.generation.parameters_and_flops import Count
from latentshift.benchmarks.generation.settings import VIDEO_MODELS, GenerationSettings
from latentshift.benchmarks.report import machine
from latentshift.evaluation.report.schema import Metric, Report, System

_GIB = 2**30


def cost_settings(settings: GenerationSettings, counts: Mapping[str, Count]) -> dict[str, Any]:
    """What all turns of a folder share, under the names of options where there is one; rounds may be added later.

    Args:
        settings: of the comparison.
        counts: of each video model, which tell one configuration of a base from another.
    """
    of_machine = {name: value for name, value in machine().items() if name != "threads"}
    return {
        "base": settings.base,
        "models": list(settings.models),
        "frames": settings.num_frames,
        **({} if settings.size is None else {"size": settings.size}),
        "steps": settings.steps,
        "guidance": settings.guidance,
        "whole": settings.whole,
        "device": settings.device,
        "dtype": settings.dtype,
        "threads": settings.threads,
        "repeat_seconds": settings.repeat_seconds,
        "parameters": {name: each.total for name, each in counts.items()},
        **of_machine,
    }


def cost_report(counts: Mapping[str, Count], cost: GenerationCost, command: str) -> Report:
    """The report of the first video model, with all of them under its own key ``cost``.

    Args:
        counts: of each video model.
        cost: measured.
        command: that made it.
    """
    settings = cost.settings
    side = open_base(settings.base, settings.size).side
    size = f"{side}x{side}"
    first = settings.models[0]
    rows = [_row(name, counts[name], cost) for name in settings.models]
    of_all: dict[str, Any] = {
        "rows": rows,
        "text_seconds": asdict(cost.text.seconds),
        "decoding_seconds": asdict(cost.decoding.seconds),
        "device_gflop_a_second": {
            f"{what}, {dtype}": rate / 1e9
            for what, rates in (("matrix product", cost.product), ("convolution", cost.convolution))
            for dtype, rate in rates.items()
        },
        "machine": machine(),
    }
    return Report(
        protocol="cost",
        command=command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        latentshift=__version__,
        system=System(name=VIDEO_MODELS[first], kind="video", model=settings.base),
        settings={
            "base": settings.base,
            "weights": "random",
            "frames": settings.num_frames,
            "size": size,
            "sampler": "DDPM",
            "steps": settings.steps,
            "guidance": settings.guidance,
            "dtype": settings.dtype,
            "device": settings.device,
            "threads": settings.threads,
            "rounds": settings.rounds,
        },
        metrics=tuple(_metrics(counts[first], cost, first, size)),
        cost=of_all,
    )


def _row(name: str, counted: Count, cost: GenerationCost) -> dict[str, Any]:
    one, video, reference = cost.passes[name], cost.video(name), cost.settings.models[0]
    peaks = [each.peak for each in (one, cost.videos.get(name)) if each is not None and each.peak is not None]
    return {
        "name": name,
        "method": VIDEO_MODELS[name],
        "parameters": {
            "unet": counted.unet,
            "added": counted.added,
            "autoencoder": counted.autoencoder,
            "text_encoder": counted.text_encoder,
            "overall": counted.total,
        },
        "flop_a_pass": counted.flops,
        "first_pass_seconds": asdict(one.first),
        "pass_seconds": asdict(one.seconds),
        "passes": one.times,
        "share_of_device_peak": counted.flops / one.seconds.value / cost.device_peak,
        "video_seconds": asdict(video.seconds),
        "how": video.how,
        "to_first_row": video.seconds.value / cost.video(reference).seconds.value,
        "peak_bytes": max(peaks, default=None),
    }


def _metrics(counted: Count, cost: GenerationCost, name: str, size: str) -> Iterator[Metric]:
    """Of one video model, as the common pages show them."""
    settings, video, one = cost.settings, cost.video(name), cost.passes[name]
    of_video: dict[str, Any] = {"better": "lower", "frames": settings.num_frames, "size": size}
    yield Metric(name="parameters", value=counted.total / 1e9, unit="billion", better="lower", n=1, samples=1)
    tflop = settings.steps * counted.flops / 1e12
    yield Metric(name="operations a video", value=tflop, unit="TFLOP", variant="U-Net", n=1, samples=1, **of_video)
    timed = cost.videos.get(name)
    seconds = video.seconds
    warnings = [] if timed else [f"{video.how}, with text and decoding: no whole video was timed"]
    if settings.rounds == 1:
        warnings.append(
            "timed in one round, which tells nothing of how much it varies: compare with --rounds 3 or more"
        )
    yield Metric(
        name="seconds a video",
        value=seconds.value,
        unit="s",
        n=1 if timed is None else timed.times,
        samples=one.times if timed is None else timed.times,
        variant=f"{video.how}; lowest {seconds.low:.4g} s, highest {seconds.high:.4g} s",
        warnings=tuple(warnings),
        **of_video,
    )
    if one.peak is not None:
        memory = one.peak / _GIB
        yield Metric(name="peak memory of a pass", value=memory, unit="GiB", n=1, samples=one.times, **of_video)

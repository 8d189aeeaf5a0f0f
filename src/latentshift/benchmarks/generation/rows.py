"""The cost of generation as rows for tables; names tell the unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from latentshift.benchmarks.generation.cost import GenerationCost, Measured
from latentshift.benchmarks.generation.exported_models import ExportedModel, runtime_dtype
from latentshift.benchmarks.generation.operator_kinds import ATTENTION, CONVOLUTION, PRODUCT
from latentshift.benchmarks.generation.parameters_and_flops import Count
from latentshift.benchmarks.generation.settings import RUNTIMES, VIDEO_MODELS, GenerationSettings
from latentshift.benchmarks.report import Result, Value

_GIB = 2**30
_COUNTED = (CONVOLUTION, PRODUCT, ATTENTION)  # kinds of which operations are counted


def count_rows(settings: GenerationSettings, counts: Mapping[str, Count]) -> Iterator[Result]:
    """Parameters and operations of each video model."""
    for name in settings.models:
        each = counts[name]
        yield {
            "parameters": VIDEO_MODELS[name],
            "unet_million": each.unet / 1e6,
            "of_these_added_million": each.added / 1e6,
            "autoencoder_million": each.autoencoder / 1e6,
            "text_encoder_million": each.text_encoder / 1e6,
            "total_million": each.total / 1e6,
            f"gflop_a_pass_of_{settings.texts * settings.num_frames}_frames": each.flops / 1e9,
        }


def time_rows(counts: Mapping[str, Count], cost: GenerationCost) -> Iterator[Result]:
    """Passes, text and decoding, the device at its best, and whole videos."""
    settings = cost.settings
    reference = settings.models[0]
    for name, one in cost.passes.items():
        rate = counts[_counted_as(name)].flops / one.seconds.value
        yield {
            "one_pass": title(settings, name),
            "first_s": one.first.value,
            "later_s": one.seconds,
            "later_passes": one.times,
            "to_first_row": one.seconds.value / cost.passes[reference].seconds.value,
            "gflop_a_s": rate / 1e9,
            "share_of_peak": rate / cost.device_peak,
            "memory_gib": _gib(one),
        }
    yield from kind_rows(counts, cost)
    for what, rates in (("matrix product", cost.product), ("3×3 convolution, channels last", cost.convolution)):
        for dtype, rate in rates.items():
            yield {"device_at_its_best": f"{what}, {dtype}", "gflop_a_s": rate / 1e9}
    at_once = settings.decoded_at_once
    decoding = "decoding" if at_once is None else f"decoding, {at_once} frame{'' if at_once == 1 else 's'} at a time"
    for what, part in (("text", cost.text), (decoding, cost.decoding)):
        yield {"same_for_all": what, "first_s": part.first.value, "later_s": part.seconds, "memory_gib": _gib(part)}
    for name in cost.passes:
        video = cost.video(name)
        yield {
            "whole_video": title(settings, name),
            "steps": settings.steps,
            **({} if settings.videos == 1 else {"videos_at_once": settings.videos}),
            "seconds": video.seconds,
            **({} if settings.videos == 1 else {"seconds_a_video": video.seconds.value / settings.videos}),
            "to_first_row": video.seconds.value / cost.video(reference).seconds.value,
            "how": video.how,
            "memory_gib": _gib(cost.videos.get(name)),
        }


def export_rows(
    settings: GenerationSettings, exports: Mapping[str, ExportedModel], left_out: Mapping[str, str]
) -> Iterator[Result]:
    """What exports took, and why others are left out."""
    for name, each in exports.items():
        yield {
            "export": title(settings, name),
            "library": each.library,
            "seconds": each.seconds,
            "greatest_difference": each.difference,
            "memory_gib": None if each.peak is None else each.peak / _GIB,
            "disk_gib": each.size / _GIB,
        }
    for name, reason in left_out.items():
        yield {"left_out": title(settings, name), "because": reason}


def title(settings: GenerationSettings, name: str) -> str:
    """What a video model or a runtime is called in tables; a runtime with its dtype, where that is another."""
    if name in VIDEO_MODELS:
        return VIDEO_MODELS[name]
    dtype = runtime_dtype(settings, name)
    return RUNTIMES[name] if dtype == settings.dtype else f"{RUNTIMES[name]}, {dtype}"


def kind_rows(counts: Mapping[str, Count], cost: GenerationCost) -> Iterator[Result]:
    """Of each profiled pass: its shares by kind of operator, and what kinds with counted operations reach."""
    for name, shares in cost.kinds.items():
        yield {"share_of_a_pass": VIDEO_MODELS[name], **{kind.replace(" ", "_"): shares[kind] for kind in shares}}
    for name, shares in cost.kinds.items():
        seconds = cost.passes[name].seconds.value
        reached = {
            kind: counts[name].flops_by_kind[kind] / (shares[kind] * seconds) / cost.device_peak
            if shares[kind]
            else None
            for kind in _COUNTED
        }
        yield {
            "share_of_peak_within": VIDEO_MODELS[name],
            **{kind.replace(" ", "_"): share for kind, share in reached.items()},
            "of_the_whole_pass": counts[name].flops / seconds / cost.device_peak,
        }


def _counted_as(name: str) -> str:
    return "latent-shift" if name in RUNTIMES else name


def _gib(measured: Measured | None) -> Value:
    return None if measured is None or measured.peak is None else measured.peak / _GIB

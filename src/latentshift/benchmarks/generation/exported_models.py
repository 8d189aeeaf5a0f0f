"""Latent-Shift as exports, which ONNX Runtime and OpenVINO run: made for a comparison, and timed in it.

Their weights are random and in float32, as an export's are; each runtime calculates in the run's dtype where it can.
They run on the CPU alone.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import UNet2DConditionModel

from latentshift.benchmarks.generation.image_base import open_base
from latentshift.benchmarks.generation.memory_needed import BESIDE, export_memory, too_much
from latentshift.benchmarks.generation.parameters_and_flops import Count
from latentshift.benchmarks.generation.settings import RUNTIMES, GenerationSettings, check_runtimes_device
from latentshift.benchmarks.generation.time_model import (
    PROMPT,
    Timing,
    build_autoencoder,
    build_text,
    building,
    prepare,
    repeat,
    time_steps,
)
from latentshift.benchmarks.own_process import in_own_process
from latentshift.benchmarks.peak_memory import can_measure_peak, forget_peak, peak
from latentshift.export.exported_pipeline import ExportedPipeline
from latentshift.export.graph import open_graph
from latentshift.export.manifest import RUNTIMES as OF_EXPORTS
from latentshift.export.manifest import Target, check_libraries, read_manifest
from latentshift.export.write_export import export_pipeline
from latentshift.memory.machine_memory import available_memory
from latentshift.pipeline import LatentShiftPipeline
from latentshift.user_input.error_text import one_line

_FLOAT = 4  # bytes of a weight
# Copies of the weights in memory while they are exported and compared with PyTorch: by the growth of the measured peak
# with the model (docs/log.md).
_COPIES = {"onnx": 2.1, "openvino": 4.1}


@dataclass(frozen=True)
class ExportedModel:
    """An export that is compared.

    Attributes:
        folder: of it.
        target: name of the runtime.
        library: that runs it, with its version.
        seconds: that it took to be made and compared with PyTorch.
        peak: bytes at the peak of that; None where the system does not tell.
        size: bytes of the folder.
        difference: the greatest from PyTorch's outputs in float32, absolute.
    """

    folder: Path
    target: Target
    library: str
    seconds: float
    peak: int | None
    size: int
    difference: float


def with_runtimes(settings: GenerationSettings, asked: Sequence[str] | None, *, quick: bool) -> GenerationSettings:
    """Settings with the runtimes to compare, and why others are left out.

    Args:
        settings: of the comparison.
        asked: names of them, whose libraries are there; None: all that can run, or with ``quick`` none.
        quick: whether little time is wanted.

    Raises:
        ValueError: for a runtime that was asked for and that can't run on the settings' device.
    """
    on_cpu = torch.device(settings.device).type == "cpu"
    if asked is not None:
        check_runtimes_device(asked, settings.device)
        return replace(settings, runtimes=tuple(asked))
    left_out = {}
    for name in RUNTIMES:
        try:
            check_libraries(cast(Target, name), "the runtime", to_run=False)
        except ValueError as error:
            left_out[name] = str(error)
        if quick:
            left_out[name] = f"--quick makes no exports unless asked with --runtimes {name}"
        elif not on_cpu:
            left_out[name] = f"it runs on the CPU, and this run is on {settings.device}"
    return replace(settings, runtimes=tuple(name for name in RUNTIMES if name not in left_out), left_out=left_out)


def runtime_dtype(settings: GenerationSettings, target: str) -> str:
    """Name of the dtype that a runtime calculates in: the settings' if it has it, else float32."""
    return settings.dtype if settings.dtype in OF_EXPORTS[cast(Target, target)].dtypes else "float32"


def export_models(
    settings: GenerationSettings, counts: Mapping[str, Count], folder: Path
) -> tuple[dict[str, ExportedModel], dict[str, str]]:
    """Export Latent-Shift for each of the settings' runtimes, each in a process of its own.

    Args:
        settings: of the comparison.
        counts: by the video model's name.
        folder: for all exports.

    Returns:
        The exports by the runtime's name; and, of the other runtimes, why they are left out, in a sentence.
    """
    exports, left_out, base = {}, dict(settings.left_out), open_base(settings.base, settings.size)
    for name in settings.runtimes:
        needed = BESIDE + round(_COPIES[name] * _FLOAT * counts["latent-shift"].total)
        free = available_memory()
        if needed > free:
            weights = f"its weights alone take {too_much(needed, free)}"
            left_out[name] = f"the model is too large to be exported here: {weights}"
            continue
        of_runtime = replace(settings, device="cpu", dtype=runtime_dtype(settings, name))
        needed = export_memory(of_runtime, base, fused_attention=name != "onnx")
        if needed > free:
            left_out[name] = f"what is measured takes about {too_much(needed, free)}"
            continue
        what = f"the export for {OF_EXPORTS[cast(Target, name)].title}"
        try:
            exports[name] = in_own_process(what, export_model, settings, cast(Target, name), folder / name)
        except (ValueError, OSError, MemoryError) as error:
            left_out[name] = one_line(error) or type(error).__name__
    return exports, left_out


def export_model(settings: GenerationSettings, target: Target, folder: Path) -> ExportedModel:
    """Export Latent-Shift at the base's width with random weights.

    Raises:
        ValueError: if it can't be exported.
        OSError: if it can't be written.
    """
    settings = replace(settings, device="cpu", dtype="float32")
    device = prepare(settings)
    base = open_base(settings.base, settings.size)
    encoders = build_text(settings, base)
    texts: dict[str, Any] = {}
    for suffix, encoder, tokenizer in zip(("", "_2"), encoders.encoders, encoders.tokenizers, strict=False):
        texts |= {f"text_encoder{suffix}": encoder, f"tokenizer{suffix}": tokenizer}
    with building(settings):
        unet = UNet2DConditionModel.from_config(base.unet.config)
    pipeline = LatentShiftPipeline(
        vae=build_autoencoder(settings, base),
        **texts,
        unet=unet,
        scheduler=base.scheduler,
        num_frames=settings.num_frames,
        guidance_scale=settings.guidance,
    )
    known = can_measure_peak(device)
    if known:
        forget_peak(device)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as on the command line
        manifest = export_pipeline(pipeline, folder, target, height=base.side, width=base.side)
    (library,) = OF_EXPORTS[target].to_run
    return ExportedModel(
        folder=folder,
        target=target,
        library=f"{library} {version(library)}",
        seconds=time.perf_counter() - start,
        peak=peak(device) if known else None,
        size=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        difference=max(value for part in manifest.parts.values() for value in part.differences.values()),
    )


def time_exported_passes(settings: GenerationSettings, export: ExportedModel) -> Timing:
    """Passes of an exported U-Net, as :func:`latentshift.benchmarks.generation.time_model.time_passes`."""
    prepare(settings)
    base, unet = open_base(settings.base, settings.size), read_manifest(export.folder).parts["unet"]
    latents = torch.randn(settings.texts, *base.latent_shape(settings.num_frames))
    text = base.random_text(settings.texts)
    inputs = {"latents": latents, "timestep": torch.tensor(500.0), "tokens": text.tokens}
    if text.pooled is not None and text.sizes is not None:
        inputs |= {"pooled": text.pooled, "sizes": text.sizes}
    graph = open_graph(export.target, export.folder / unet.file, unet.inputs, runtime_dtype(settings, export.target))
    return repeat(lambda: graph(**inputs), settings)


def time_exported_video(settings: GenerationSettings, export: ExportedModel) -> Timing:
    """A whole video of an export, as :func:`latentshift.benchmarks.generation.time_model.time_video`."""
    prepare(settings)
    dtype = getattr(torch, runtime_dtype(settings, export.target))
    pipeline = ExportedPipeline(export.folder, export.target, dtype)
    pipeline.set_progress_bar_config(disable=True)

    def make(steps: int) -> None:
        pipeline(
            [PROMPT] * settings.videos,
            num_frames=settings.num_frames,
            num_inference_steps=max(steps, 2),  # the least of a call, where `time_video` makes one for the first time
            guidance_scale=settings.guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in range(settings.videos)],
            output_type="pt",
        )

    return time_steps(make, settings)

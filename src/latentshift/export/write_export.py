"""Write an export: all parts of a pipeline as graphs, compared with PyTorch, and what is needed to make videos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from latentshift.export.graph import Graph, backend, open_graph, versions, write_graph
from latentshift.export.manifest import (
    ExportedPart,
    ExportedSettings,
    ExportManifest,
    ExportSource,
    PartName,
    Target,
    check_libraries,
    sha256_of,
)
from latentshift.export.parts import Part, parts_of
from latentshift.files import atomic_write, atomic_write_text
from latentshift.models.denoiser import is_guidance_distilled, wants_sizes
from latentshift.models.storage.check_saveable import check_saveable
from latentshift.models.storage.fingerprint import model_fingerprint
from latentshift.models.storage.model_paths import EXPORT_INDEX
from latentshift.pipeline import LatentShiftPipeline
from latentshift.progress import status
from latentshift.settings import check_frame_size

MAX_DIFFERENCE = 1e-4
"""From PyTorch's output in float32, times its greatest absolute value where that is above 1."""

_VIDEOS = 2  # as in guidance
_SEED = 0


def export_pipeline(
    pipeline: LatentShiftPipeline,
    folder: Path,
    target: Target,
    *,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    model: str | None = None,
    source_files: Mapping[str, str] | None = None,
) -> ExportManifest:
    """Write a pipeline's U-Net, autoencoder decoder and text encoders as graphs, with its scheduler and tokenizers.

    The folder appears when all of it is written and every graph's output is PyTorch's, to :data:`MAX_DIFFERENCE`.

    Args:
        pipeline: in float32, on the CPU.
        folder: a new or an empty one; an existing export is replaced.
        target: ``"onnx"``, ``"openvino"`` or ``"aot"``.
        frames: the frame count of all videos that the export can make; None: any.
        height: of the frames in pixels; None: the model's.
        width: of the frames in pixels; None: the model's.
        model: name of the model, to be written into the export: no path, which others would read.
        source_files: path -> SHA-256 of the model's files, likewise.

    Raises:
        ValueError: for a folder that holds something else, a pipeline that can't be exported, a missing library, or a
            graph that the library can't make or whose output is not PyTorch's.
    """
    if folder.exists() and not (folder.is_dir() and ((folder / EXPORT_INDEX).exists() or not any(folder.iterdir()))):
        raise ValueError(f"{folder} exists, and is no export that could be replaced: name a new folder")
    check_libraries(target, "the target", to_run=False)
    height, width = height or pipeline.sample_size, width or pipeline.sample_size
    check_graph_export(pipeline)
    check_frame_size(height, width, pipeline.vae_scale_factor, len(pipeline.unet.config.block_out_channels))
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            written = {
                part.name: _write_part(part, temporary, target, pipeline.config.num_frames)
                for part in parts_of(pipeline, height, width, frames)
            }
        pipeline.scheduler.save_config(temporary / "scheduler")
        tokenizers = ("tokenizer", "tokenizer_2")[: len(pipeline.text_encoders.tokenizers)]
        for name, tokenizer in zip(tokenizers, pipeline.text_encoders.tokenizers, strict=True):
            tokenizer.save_pretrained(temporary / name)
        files = sorted(file for file in temporary.rglob("*") if file.is_file())
        manifest = ExportManifest(
            target=target,
            versions=versions(target),
            cpu_capability=torch.backends.cpu.get_cpu_capability() if target == "aot" else None,
            frames=frames,
            height=height,
            width=width,
            latent_channels=int(pipeline.unet.config.in_channels),
            scale=pipeline.vae_scale_factor,
            tokens=pipeline.text_encoders.length,
            has_sizes=wants_sizes(pipeline.unet),
            is_distilled=is_guidance_distilled(pipeline.unet),
            tokenizers=tokenizers,
            settings=_settings(pipeline, frames),
            parts=written,
            source=ExportSource(model=model, files=dict(source_files or {}), fingerprints=_fingerprints(pipeline)),
            files={file.relative_to(temporary).as_posix(): sha256_of(file) for file in files},
        )
        atomic_write_text(temporary / EXPORT_INDEX, manifest.model_dump_json(indent=1) + "\n")
    return manifest


def check_graph_export(pipeline: LatentShiftPipeline) -> None:
    """Refuse a pipeline that can't be exported as graphs.

    Raises:
        ValueError: for Latent-VDM, an unmerged LoRA, changed layers, or a pipeline that is not in float32 on the CPU.
    """
    if pipeline.temporal is not None:
        raise ValueError(
            "latentshift exports the temporal shift, and not Latent-VDM's temporal attention, which this model has"
        )
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    check_saveable(parts)
    for name, part in parts.items():
        for parameter in part.parameters():
            if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
                dtype = str(parameter.dtype).removeprefix("torch.")
                raise ValueError(
                    f"an export is made in float32 on the CPU, and the {name} is in {dtype} on {parameter.device}: "
                    'call pipeline.to("cpu", torch.float32) first'
                )


def _write_part(part: Part, folder: Path, target: Target, default_frames: int) -> ExportedPart:
    path = folder / f"{part.name}{backend(target).SUFFIX}"
    inputs = tuple(part.inputs(1, part.fixed_frames or 1))
    with status(f"exporting {part.name}"):
        write_graph(target, part.trace(), path, inputs, part.outputs)
    counts = [part.fixed_frames] if part.fixed_frames else sorted({1, 2, default_frames})
    if not part.frames and not part.fixed_frames:
        counts = [1]  # it knows no frames
    with status(f"comparing {part.name} with PyTorch"):
        graph = open_graph(target, path, inputs, "float32")
        differences = {str(count): _difference(part, graph, count) for count in counts}
    return ExportedPart(file=path.name, inputs=inputs, outputs=part.outputs, differences=differences)


@torch.no_grad()
def _difference(part: Part, graph: Graph, frames: int) -> float:
    """The greatest absolute difference between a graph's outputs and PyTorch's, for one video and for several.

    Raises:
        ValueError: if it is above :data:`MAX_DIFFERENCE`.
    """
    greatest = 0.0
    for videos in (1,) if part.fixed_frames else (1, _VIDEOS):
        given = part.inputs(videos, frames)
        for expected, actual in zip(part.module(**given), graph(**given), strict=True):
            difference = float((actual - expected).abs().max())
            allowed = MAX_DIFFERENCE * max(1.0, float(expected.abs().max()))
            if not difference <= allowed:  # NaN is not
                raise ValueError(
                    f"the exported {part.name} differs from PyTorch's by {difference:.2g} at {frames} frames, where "
                    f"{allowed:.2g} is allowed: nothing was written; please report this with the model's settings"
                )
            greatest = max(greatest, difference)
    return greatest


def _settings(pipeline: LatentShiftPipeline, frames: int | None) -> ExportedSettings:
    values = {name: pipeline.config[name] for name in ExportedSettings.model_fields}
    shift = None if values["shift"] is None else dict(values["shift"])
    return ExportedSettings(**{**values, "shift": shift, "num_frames": frames or values["num_frames"]})


def _fingerprints(pipeline: LatentShiftPipeline) -> dict[str, str]:
    parts: dict[PartName, tuple[Any, ...]] = {
        "unet": (pipeline.unet,),
        "decoder": (pipeline.vae,),
        "text_encoder": pipeline.text_encoders.parts,
    }
    return {name: model_fingerprint(*each) for name, each in parts.items()}

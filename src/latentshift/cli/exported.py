"""Exports at the command line: checks before torch is imported, the files of the source, and opening an export."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from latentshift.cli.preflight import (
    check_device_name,
    check_dtype_name,
    check_frame_count,
    check_model_files,
    check_new_model,
    check_sampler_name,
    check_video_memory,
)
from latentshift.diffusion.sampler_names import timestep_spacing
from latentshift.export.manifest import RUNTIMES, TARGETS, Target, check_libraries, open_manifest, sha256_of
from latentshift.models.storage.model_config import saved_parts
from latentshift.models.storage.model_paths import (
    BUNDLED,
    check_steps_and_size,
    has_temporal_attention,
    read_schedule,
)
from latentshift.models.storage.weight_files import weight_files
from latentshift.progress import status
from latentshift.settings import check_guidance, check_steps
from latentshift.user_input.error_text import printable

if TYPE_CHECKING:
    from latentshift.export.exported_pipeline import ExportedPipeline

DIFFUSERS = "diffusers"
_NOT_EXPORTED = {
    "--lora": "export the model with --lora",
    "--delta": "export the model with --delta",
    "--variant": "export the model with --variant",
    "--keyframe": "an export has no encoder for pictures",
    "--extend": "an export makes single clips",
    "--guidance-interval": "the graphs are called with guidance or without",
    "--deep-cache": "a graph is called as a whole",
    "--speed": "it is for PyTorch, and the graphs' runtime decides for itself",
    "--video": "an export has no encoder",
    "--prompt-at": "an export takes one text for all frames",
    "--frame-chunk": "a graph takes all frames of a video at once",
    "--offload-skips": "a graph takes all frames of a video at once",
}


def check_export(
    model: str,
    target: str,
    output: Path,
    *,
    frames: int | None,
    height: int | None,
    width: int | None,
    variant: str | None,
) -> Path | None:
    """Check the options of ``export``.

    Returns:
        The model's folder; None for a hub id.

    Raises:
        ValueError: for the first invalid option.
    """
    if target not in (*TARGETS, DIFFUSERS):
        raise ValueError(f"unknown target {target!r}: choose from {', '.join((*TARGETS, DIFFUSERS))}")
    check_new_model(output, "float32")
    for name, value in (("--frames", frames), ("--size", height)):
        if target == DIFFUSERS and value is not None:
            raise ValueError(f"{name} has no effect with --to {DIFFUSERS}, whose pipeline takes any: leave it out")
    if frames is not None:
        check_frame_count(frames)
    folder = check_model_files(model, variant)
    if folder is not None:
        check_steps_and_size(folder, None, height, width)
        if has_temporal_attention(folder):
            raise ValueError(
                f"latentshift exports the temporal shift, and not Latent-VDM's temporal attention, which {model} has"
            )
    if target in TARGETS:
        check_libraries(target, "--to", to_run=False)
    if target == "aot":
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise ValueError(
                f"--to aot needs a C++ compiler, and there is no {compiler}: install one, or name it in CXX"
            )
    return folder


def source_name(model: str, folder: Path | None) -> str:
    """What an export says of its model: a hub id, ``bundled``, or the last name of a folder, without the path to it."""
    return model if folder is None or model == BUNDLED else folder.resolve().name


def source_files(folder: Path | None, variant: str | None, loras: Sequence[str], delta: Path | None) -> dict[str, str]:
    """SHA-256 of the files that an export is made of, by their paths in the model's folder.

    Args:
        folder: of the model; None for a hub id, of which adapters alone are listed.
        variant: of its weight files.
        loras: ``FILE`` or ``FILE:WEIGHT`` of each LoRA.
        delta: the file; None for none.
    """
    files: dict[str, Path] = {}
    if folder is not None:
        files["model_index.json"] = folder / "model_index.json"
        for part in (*saved_parts(folder), "scheduler"):
            settings = [file for file in sorted((folder / part).glob("*")) if file.suffix in (".json", ".txt")]
            files |= {f"{part}/{file.name}": file for file in (*settings, *weight_files(folder / part, variant))}
    from latentshift.models.adapters.lora_file import parse_lora

    for number, (path, weight) in enumerate(map(parse_lora, loras), 1):
        files[f"lora {number}: {path.name} with weight {weight:g}"] = path
    if delta is not None:
        files[f"delta {delta.name}"] = delta
    return {name: sha256_of(file) for name, file in files.items() if file.is_file()}


def check_exported_generation(
    model: str,
    runtime: str,
    device: str,
    dtype: str,
    sampler: str | None,
    steps: int | None,
    guidance: float | None,
    *,
    frames: int | None,
    height: int | None,
    width: int | None,
    loop: bool,
    others: Mapping[str, Any],
) -> None:
    """Check the options of ``generate`` with a runtime as far as possible without opening the graphs.

    Args:
        others: options that an export has no use for -> their values.

    Raises:
        ValueError: for the first invalid option.
    """
    target = next((each for each in TARGETS if each == runtime), None)
    if target is None:
        raise ValueError(f"unknown runtime {runtime!r}: choose from torch, {', '.join(TARGETS)}")
    for name, value in others.items():
        if value is not None:
            raise ValueError(f"{name} has no effect with --runtime {runtime}: {_NOT_EXPORTED[name]}")
    check_device_name(device)
    if device not in ("auto", "cpu"):
        raise ValueError(f"--runtime {runtime} runs on the CPU, and not on {device}: leave --device out")
    check_dtype_name(dtype)
    known = ("auto", *RUNTIMES[target].dtypes)
    if dtype not in known:
        raise ValueError(f"--runtime {runtime} takes --dtype {' or '.join(known)}, not {dtype}")
    check_sampler_name(sampler)
    if guidance is not None:
        check_guidance(guidance, "--guidance")
    if model == BUNDLED:
        raise ValueError(
            f"--runtime {runtime} needs --model DIR, an export: latentshift export {BUNDLED} --to {runtime} "
            "-o DIR makes one"
        )
    folder = Path(model)
    manifest = open_manifest(folder, runtime)
    if frames is not None:
        manifest.check_frames(frames, "--frames")
    manifest.check_size(height or manifest.height, width or manifest.width, "--size")
    if loop and (manifest.settings.shift or {}).get("padding") != "circular":
        raise ValueError(
            "--loop needs an export with circular padding: latentshift init --base MODEL --padding circular -o DIR, "
            "then export that"
        )
    schedule = read_schedule(folder)
    if steps is not None and type(total := schedule.get("num_train_timesteps")) is int:
        if sampler is not None:
            schedule = {"num_train_timesteps": total, "timestep_spacing": timestep_spacing(sampler)}
        check_steps(steps, schedule, "--steps")
    check_video_memory(frames or manifest.settings.num_frames, manifest.height, manifest.width)
    check_libraries(manifest.target, "--runtime", to_run=True)


def open_export(model: str, runtime: str, dtype: str, sampler: str | None) -> ExportedPipeline:
    """Open an export, with a sampler.

    Args:
        model: its folder.
        runtime: the target it is for.
        dtype: ``float32`` or ``bfloat16``; ``auto`` is bfloat16 where the runtime has it and this CPU instructions for
            it, and else float32.
        sampler: by name; None: the model's.

    Raises:
        ValueError: if it can't be opened.
    """
    from latentshift.cli.models import quiet_libraries

    with status(f"opening {printable(model)}"):
        quiet_libraries()
        import torch

        from latentshift.diffusion.samplers import make_sampler
        from latentshift.export.exported_pipeline import ExportedPipeline
        from latentshift.models.precision import fast_dtype

        is_fast = fast_dtype("cpu") == torch.bfloat16 and "bfloat16" in RUNTIMES[cast(Target, runtime)].dtypes
        chosen = torch.bfloat16 if dtype == "bfloat16" or (dtype == "auto" and is_fast) else torch.float32
        pipeline = ExportedPipeline(model, runtime, chosen)
        pipeline.scheduler = make_sampler(sampler, pipeline.scheduler)
    return pipeline

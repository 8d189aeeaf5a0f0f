"""``export.json``: what the folder of an export holds, and what it was made of.

Imports neither torch nor the libraries of the targets, so that a mistake is refused at once.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from latentshift.files import missing_folder
from latentshift.models.storage.model_paths import EXPORT_INDEX
from latentshift.settings import MAX_FPS, MAX_FRAMES, MAX_NOISE_SHARE, STEPS
from latentshift.user_input.bounded_read import load_json_bounded
from latentshift.user_input.error_text import format_validation_error, printable

Target = Literal["onnx", "openvino", "aot"]
PartName = Literal["unet", "decoder", "text_encoder"]

TARGETS: tuple[Target, ...] = get_args(Target)
PARTS: tuple[PartName, ...] = get_args(PartName)
_SCHEDULER = "scheduler/scheduler_config.json"
_TOKENIZER = "tokenizer_config.json"
_BLOCK = 2**20  # bytes

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Of a file in the folder: no path can lead out of it.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)?$")]


class Runtime(NamedTuple):
    """What runs the graphs of a target.

    Attributes:
        title: its name.
        to_run: libraries beside torch that running needs.
        to_write: libraries that writing needs besides those.
        dtypes: that the graphs can be run in.
    """

    title: str
    to_run: tuple[str, ...]
    to_write: tuple[str, ...]
    dtypes: tuple[str, ...]


RUNTIMES: dict[Target, Runtime] = {
    "onnx": Runtime("ONNX Runtime", ("onnxruntime",), ("onnx", "onnxscript"), ("float32",)),
    "openvino": Runtime("OpenVINO", ("openvino",), (), ("float32", "bfloat16")),
    "aot": Runtime("AOTInductor", (), (), ("float32",)),
}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExportedPart(_Strict):
    """One graph.

    Attributes:
        file: in the folder.
        inputs: names in order.
        outputs: names in order.
        differences: frame count -> greatest absolute difference from PyTorch's output, as measured when it was written.
    """

    file: FileName
    inputs: tuple[str, ...] = Field(min_length=1)
    outputs: tuple[str, ...] = Field(min_length=1)
    differences: dict[str, float]


class ExportedSettings(_Strict):
    """The settings of the pipeline, as :class:`latentshift.LatentShiftPipeline` has them.

    ``num_frames`` is the fixed frame count where there is one.
    """

    num_frames: int = Field(ge=1, le=MAX_FRAMES)
    fps: int = Field(ge=1, le=MAX_FPS)
    guidance_scale: float = Field(ge=0, allow_inf_nan=False)
    num_inference_steps: int = Field(STEPS, ge=1)
    noise_share: float = Field(ge=0, le=MAX_NOISE_SHARE)
    force_zeros_for_empty_prompt: bool
    shift: dict[str, Any] | None


class ExportSource(_Strict):
    """What an export was made of.

    Attributes:
        model: a hub id, ``bundled``, or the last name of a folder; None for a pipeline in memory.
        files: path within the model's folder, or of an adapter -> SHA-256; empty for a hub id, and for a pipeline in
            memory.
        fingerprints: part -> first 16 digits of the SHA-256 of its weights in float32 and its settings.
    """

    model: str | None
    files: dict[str, Sha256]
    fingerprints: dict[str, str]


class ExportManifest(_Strict):
    """The content of ``export.json``.

    Attributes:
        format: of the folder.
        target: what runs it.
        versions: library -> version that wrote it.
        cpu_capability: instructions that an AOTInductor export was compiled for, as
            ``torch.backends.cpu.get_cpu_capability`` names them; None for other targets.
        frames: the frame count of its U-Net, which takes one video at a time then; None: any, and of several videos.
        height: of the frames in pixels.
        width: of the frames in pixels.
        latent_channels: C of the latents.
        scale: downsampling factor of the autoencoder.
        tokens: L, of every prompt.
        has_sizes: whether the U-Net takes a pooled embedding and sizes, like SDXL's.
        is_distilled: whether the U-Net takes the guidance scale as an input.
        tokenizers: folders of them, one for each text encoder.
        settings: of the pipeline.
        parts: the graphs.
        source: what it was made of.
        files: path in the folder -> SHA-256, of every file but this one.
    """

    format: Literal["latentshift-export/1"] = "latentshift-export/1"
    target: Target
    versions: dict[str, str]
    cpu_capability: str | None = None
    frames: int | None = Field(ge=1, le=MAX_FRAMES)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    latent_channels: int = Field(ge=1)
    scale: int = Field(ge=1)
    tokens: int = Field(ge=1)
    has_sizes: bool
    is_distilled: bool
    tokenizers: tuple[FileName, ...] = Field(min_length=1, max_length=2)
    settings: ExportedSettings
    parts: dict[PartName, ExportedPart]
    source: ExportSource
    files: dict[FileName, Sha256]

    def check_frames(self, num_frames: int, name: str = "num_frames") -> None:
        """Refuse a frame count that the exported U-Net does not have.

        Raises:
            ValueError: with the frame count it has.
        """
        if self.frames is not None and num_frames != self.frames:
            raise ValueError(
                f"{name} is {num_frames}, and this export makes videos of {self.frames} frames only: leave it out, or "
                "export the model without a fixed frame count"
            )

    def check_size(self, height: int, width: int, name: str = "the size") -> None:
        """Refuse a frame size that the exported parts do not have.

        Raises:
            ValueError: with the size they have.
        """
        if (height, width) != (self.height, self.width):
            raise ValueError(
                f"{name} is {width}x{height} pixels, and this export makes frames of {self.width}x{self.height} only: "
                "leave it out, or export the model with that size"
            )


def read_manifest(folder: Path) -> ExportManifest:
    """Read and check ``export.json``; the other files' content is looked at by :func:`check_files`.

    Raises:
        ValueError: if the folder is no export, its ``export.json`` can't be read or is of another version, or the
            folder holds a file that is not listed there.
    """
    if not folder.is_dir():
        raise ValueError(missing_folder(folder))
    file = folder / EXPORT_INDEX
    if not file.exists():
        raise ValueError(
            f"{folder} is no export: it has no {EXPORT_INDEX}; latentshift export MODEL --to TARGET -o DIR makes one"
        )
    try:
        manifest = ExportManifest.model_validate(load_json_bounded(file))
    except ValidationError as error:
        raise ValueError(f"{file} is no export of latentshift-export/1: {format_validation_error(error)}") from None
    if missing := [part for part in PARTS if part not in manifest.parts]:
        raise ValueError(f"{file} is damaged: it has no {missing[0]}")
    named = [part.file for part in manifest.parts.values()]
    named += [_SCHEDULER, *(f"{name}/{_TOKENIZER}" for name in manifest.tokenizers)]
    if unknown := [name for name in named if name not in manifest.files]:
        raise ValueError(f"{file} is damaged: {unknown[0]} is not among its files")
    _check_no_others(folder, manifest)
    return manifest


def _check_no_others(folder: Path, manifest: ExportManifest) -> None:
    """Refuse a folder with a file that is not listed: libraries would open some of them, by their names."""
    listed = {*manifest.files, EXPORT_INDEX}
    folders = {name.partition("/")[0] for name in listed if "/" in name}
    for entry in sorted(folder.iterdir()):
        for each in sorted(entry.iterdir()) if entry.is_dir() and entry.name in folders else [entry]:
            name = each.relative_to(folder).as_posix()
            if name not in listed:
                raise ValueError(
                    f"the export {folder} holds {printable(name)}, which is not among the files that were written: "
                    "move it elsewhere"
                )


def open_manifest(folder: Path, target: str) -> ExportManifest:
    """The manifest of an export for a target.

    Raises:
        ValueError: as :func:`read_manifest`, if it is for another target, or if it is machine code for another version
            of torch.
    """
    manifest = read_manifest(folder)
    if manifest.target != target:
        raise ValueError(
            f"{folder} is an export for {manifest.target}, and not for {target}: use --runtime {manifest.target}"
        )
    if target == "aot" and manifest.versions.get("torch") != version("torch"):
        raise ValueError(
            f"{folder} is machine code for torch {manifest.versions.get('torch')}, and torch {version('torch')} is "
            "installed: export the model again, or install that version"
        )
    return manifest


def check_files(folder: Path, manifest: ExportManifest) -> None:
    """Refuse an export with a file that is missing or was changed.

    Raises:
        ValueError: naming the first such file.
    """
    for name, digest in manifest.files.items():
        if not (folder / name).is_file():
            raise ValueError(f"the export {folder} is incomplete: {name} is missing; export the model again")
        if sha256_of(folder / name) != digest:
            raise ValueError(
                f"the export {folder} is damaged: {name} is not the file that was written (its SHA-256 differs); "
                "export the model again"
            )


def needed_to_write(target: Target) -> tuple[str, ...]:
    """The libraries that writing an export needs: each graph is run, too."""
    return (*RUNTIMES[target].to_write, *RUNTIMES[target].to_run)


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def check_libraries(target: Target, option: str, *, to_run: bool) -> None:
    """Refuse a target whose libraries are not installed.

    Args:
        target: of an export.
        option: of the command line, for the message: ``--to`` or ``--runtime``.
        to_run: whether an export is run; otherwise it is written.

    Raises:
        ValueError: naming the missing libraries and the extra.
    """
    needed = RUNTIMES[target].to_run if to_run else needed_to_write(target)
    if missing := [name for name in needed if find_spec(name) is None]:
        raise ValueError(f"{option} {target} needs {' and '.join(missing)}: pip install 'latentshift[{target}]'")

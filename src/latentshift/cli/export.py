"""``latentshift export``: graphs for ONNX Runtime, OpenVINO or AOTInductor, or a folder for plain diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import typer

from latentshift.models.storage.model_paths import BUNDLED
from latentshift.progress import status
from latentshift.user_input.error_text import printable


def export(
    model: str = typer.Argument(BUNDLED, help="The bundled model, a folder, or a hub id."),
    to: str = typer.Option(
        ...,
        "--to",
        help="onnx, openvino, aot (AOTInductor: needs a C++ compiler, and minutes), or diffusers (a folder with its "
        "own pipeline.py, which plain diffusers runs with trust_remote_code=True).",
    ),
    output: Path = typer.Option(..., "--output", "-o", help="The new folder."),
    frames: int | None = typer.Option(
        None, "--frames", help="Fix the number of frames. Default: it is an input, and any."
    ),
    size: str | None = typer.Option(
        None, "--size", help="Size of frames in pixels, e.g. 64 or 96x64 (width x height). Default: the model's."
    ),
    variant: str | None = typer.Option(
        None, "--variant", help="Variant of the weight files, e.g. fp16 for model.fp16.safetensors. Default: none."
    ),
    lora: list[str] | None = typer.Option(
        None, "--lora", metavar="FILE[:WEIGHT]", help="A LoRA for this model, which is merged; as for generate."
    ),
    delta: Path | None = typer.Option(None, "--delta", help="A file with the difference of all weights from training."),
) -> None:
    """Export a model to ONNX, OpenVINO or AOTInductor, for `generate --runtime`, or to plain diffusers."""
    from latentshift.cli.exported import DIFFUSERS, check_export, source_files, source_name
    from latentshift.cli.preflight import check_adapters
    from latentshift.cli.size_option import parse_size

    width, height = parse_size(size)
    folder = check_export(model, to, output, frames=frames, height=height, width=width, variant=variant)
    loras = lora or []
    check_adapters(loras, delta, model, variant)
    from latentshift.cli.models import load_adapted

    pipeline = load_adapted(model, "cpu", "float32", loras, delta, variant)
    if to == DIFFUSERS:
        from latentshift.models.storage.export_diffusers import export_diffusers

        with status("writing the model"):
            export_diffusers(pipeline, output)
        print(printable(output, 4096))
        return
    from latentshift.export.manifest import Target
    from latentshift.export.write_export import export_pipeline

    manifest = export_pipeline(
        pipeline,
        output,
        cast(Target, to),
        frames=frames,
        height=height,
        width=width,
        model=source_name(model, folder),
        source_files=source_files(folder, variant, loras, delta),
    )
    for name, part in manifest.parts.items():
        of_frames = ", ".join(
            f"{value:.1e}" + (f" ({count} frame{'s' * (count != '1')})" if name != "text_encoder" else "")
            for count, value in part.differences.items()
        )
        print(f"{part.file}: differs from PyTorch by at most {of_frames}")
    print(printable(output, 4096))

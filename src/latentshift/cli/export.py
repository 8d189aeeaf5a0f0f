"""``latentshift export``: a model's parts as graphs for ONNX Runtime, OpenVINO or AOTInductor."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import typer

from latentshift.error_text import printable
from latentshift.model_paths import BUNDLED


def export(
    model: str = typer.Argument(BUNDLED, help="The bundled model, a folder, or a hub id."),
    to: str = typer.Option(..., "--to", help="onnx, openvino or aot (AOTInductor: needs a C++ compiler, and minutes)."),
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
    """Export U-Net, decoder and text encoders, which `latentshift generate --runtime` makes videos with."""
    from latentshift.cli.exported import check_export, source_files
    from latentshift.cli.preflight import check_adapters
    from latentshift.cli.size_option import parse_size

    width, height = parse_size(size)
    folder = check_export(model, to, output, frames=frames, height=height, width=width, variant=variant)
    loras = lora or []
    check_adapters(loras, delta, model, variant)
    from latentshift.cli.models import load_adapted

    pipeline = load_adapted(model, "cpu", "float32", loras, delta, variant)
    from latentshift.export.manifest import Target
    from latentshift.export.write_export import export_pipeline

    manifest = export_pipeline(
        pipeline,
        output,
        cast(Target, to),
        frames=frames,
        height=height,
        width=width,
        model=model,
        source_files=source_files(folder, variant, loras, delta),
    )
    for name, part in manifest.parts.items():
        of_frames = ", ".join(
            f"{value:.1e}" + (f" ({count} frame{'s' * (count != '1')})" if name != "text_encoder" else "")
            for count, value in part.differences.items()
        )
        print(f"{part.file}: differs from PyTorch by at most {of_frames}")
    print(printable(output, 4096))

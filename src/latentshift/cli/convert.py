"""``latentshift convert``: convert a single-file checkpoint in the original layout to a pipeline."""

from __future__ import annotations

from pathlib import Path

import typer

from latentshift.progress import status
from latentshift.settings import FAMILIES
from latentshift.user_input.error_text import printable


def convert(
    file: Path = typer.Argument(..., help="A .safetensors file, or a .ckpt, from which only tensors are loaded."),
    output: Path = typer.Option(..., "--output", "-o", help="The new folder."),
    family: str | None = typer.Option(
        None,
        "--family",
        help="sd2 (v-prediction) or sd2-base, whose tensors are alike. Default: detected from the tensors.",
    ),
    tokenizer: str | None = typer.Option(
        None, "--tokenizer", help="Folder or hub id, since the file has none. Default: the family's on the hub."
    ),
    average: bool = typer.Option(True, help="Use the U-Net's averaged (EMA) weights if the file has them."),
    dtype: str = typer.Option("float32", "--dtype", help="Of the saved weights: float32, bfloat16 or float16."),
) -> None:
    """Convert an original checkpoint (LDM, SD 1.x, SD 2.x, SDXL) to a pipeline, ready for fine-tuning on clips."""
    from latentshift.cli.preflight import check_new_model, check_original_checkpoint
    from latentshift.files import atomic_write

    if family is not None and family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}: choose from {', '.join(FAMILIES)}")
    check_original_checkpoint(file, family)
    check_new_model(output, dtype)
    from latentshift.cli.models import quiet_libraries

    with status(f"reading {printable(file.name)}"):
        quiet_libraries()
        import torch

        from latentshift.models.storage.convert_checkpoint import load_original_checkpoint
        from latentshift.pipeline import LatentShiftPipeline

        parts = load_original_checkpoint(file, family, tokenizer, average=average, pickled=True)
        pipeline = LatentShiftPipeline(**parts).to(getattr(torch, dtype))
    with status("writing the model"), atomic_write(output) as temporary:
        pipeline.save_pretrained(temporary)
    print(printable(output, 4096))

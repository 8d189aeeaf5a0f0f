"""``latentshift init``: an image model becomes a latentshift pipeline, untrained for video."""

from __future__ import annotations

from pathlib import Path

import typer


def init(
    base: str | None = typer.Option(None, "--base", help="Folder or hub id of a stock image pipeline."),
    family: str | None = typer.Option(None, "--family", help="ldm, sd1 or sd2, together with --random-weights."),
    random_weights: bool = typer.Option(False, "--random-weights", help="Full size, nothing learned, no download."),
    output: Path = typer.Option(..., "--output", "-o", help="The new folder."),
    fold: int = typer.Option(3, "--fold", help="One in how many channels comes from each neighbouring frame."),
    padding: str = typer.Option("zeros", "--padding", help="zeros (the paper's) or circular."),
    frames: int = typer.Option(16, "--frames", help="Frames a video."),
    fps: int = typer.Option(8, "--fps", help="Frames a second."),
    dtype: str = typer.Option("float32", "--dtype", help="Of the saved weights: float32, bfloat16 or float16."),
) -> None:
    """Install the temporal shift on an image model and save the result: ready to be fine-tuned on clips."""
    from latentshift.cli.models import DTYPES, load_pipeline, quiet_libraries

    if (base is None) == (family is None):
        raise ValueError("give either --base FOLDER_OR_HUB_ID, or --family with --random-weights")
    if (family is not None) != random_weights:
        raise ValueError("--family and --random-weights go together: weights that are not random come from a --base")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} exists already; choose another folder, or delete it")
    if frames < 1 or fps < 1:
        raise ValueError(f"--frames and --fps must be 1 or more, not {frames} and {fps}")
    if dtype not in DTYPES:
        raise ValueError(f"no dtype is called {dtype!r}; there are {', '.join(DTYPES)}")
    quiet_libraries()
    import torch

    from latentshift.shift import ShiftConfig

    shift = ShiftConfig(fold=fold, padding=padding).to_dict()  # type: ignore[arg-type]
    if base is not None:
        pipeline = load_pipeline(base, dtype=dtype)
        pipeline.set_shift(shift)
        pipeline.register_to_config(num_frames=frames, fps=fps)
    else:
        from latentshift.models.families import random_weights as build
        from latentshift.pipeline import LatentShiftPipeline

        pipeline = LatentShiftPipeline(**build(str(family)), shift=shift, num_frames=frames, fps=fps)
        pipeline = pipeline.to(getattr(torch, dtype))
    save_whole(pipeline, output)
    print(output)


def save_whole(pipeline: object, folder: Path) -> None:
    """Save a pipeline through a temporary folder beside, so that the folder appears whole or not at all."""
    import os
    import shutil
    import tempfile

    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        pipeline.save_pretrained(temporary)  # type: ignore[attr-defined]
        temporary.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise

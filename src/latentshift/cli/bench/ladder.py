"""``latentshift bench ladder``: temporal methods and settings, trained at equal budget and scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from latentshift.cli.bench.common import JSON, OVERRIDES, QUICK, report_rows

if TYPE_CHECKING:
    from latentshift.benchmarks.rungs import Rung

_RECIPE = typer.Argument(..., help="A recipe of stage (c), whose model is an image stage's run.")
_OUTPUT = typer.Option(Path("outputs/ladder"), "--output", "-o", help="Folder for the runs and the studies.")
_SEEN = typer.Option(128, "--seen", min=1, help="Videos of (colour, thing, motion) triples, of each run.")
_STEPS = typer.Option(100, "--steps", help="Steps of the sampler.")
_DTYPE = "Of the videos: auto, float32, bfloat16 or float16."


def ladder(
    recipe: Path = _RECIPE,
    overrides: list[str] | None = OVERRIDES,
    output: Path = _OUTPUT,
    rungs: str | None = typer.Option(
        None,
        "--rungs",
        help="Some of zeros-independent (the paper's), replicate-independent, zeros-shared-1, replicate-shared-1, "
        "zeros-shared-2, replicate-shared-2, latent-vdm and none (default: these), or, each with one setting other "
        "than the paper's, shift-circular, shift-fold-2, shift-fold-4, shift-fold-8, shift-conv2, shift-block, "
        "shift-encoder, shift-decoder and shift-past-only, with commas.",
    ),
    seeds: int = typer.Option(1, "--seeds", min=1, help="Training seeds of each rung."),
    seen: int = _SEEN,
    images: int = typer.Option(64, "--images", min=0, help="One-frame images, of each run and of the image stage."),
    steps: int = _STEPS,
    sampler: str | None = typer.Option(None, "--sampler", help="As in generate. Default: the model's."),
    dtype: str = typer.Option("auto", "--dtype", help=_DTYPE),
    quick: bool = QUICK,
    json_file: Path | None = JSON,
) -> None:
    """Temporal methods, paddings and shared noise, trained from one image model at equal budget, and scored."""
    from latentshift.benchmarks.rungs import RUNGS, check_overrides, parse_rungs

    chosen = tuple(RUNGS.values()) if rungs is None else parse_rungs(rungs)
    check_overrides(overrides or [])
    counts = {"seen": seen, "images": images}
    _ladder(recipe, overrides, output, chosen, seeds, counts, steps, sampler, dtype, quick, json_file)


def methods(
    recipe: Path = _RECIPE,
    overrides: list[str] | None = OVERRIDES,
    output: Path = _OUTPUT,
    seen: int = _SEEN,
    images: int = typer.Option(0, "--images", min=0, help="One-frame images, of each method."),
    steps: int = _STEPS,
    dtype: str = typer.Option("bfloat16", "--dtype", help=_DTYPE),
    quick: bool = QUICK,
    json_file: Path | None = JSON,
) -> None:
    """The old name of bench ladder: the three methods with the recipe's own settings."""
    from latentshift.benchmarks.rungs import METHOD_RUNGS

    typer.echo(
        "warning: bench methods is called bench ladder now, which compares settings too; the old name goes in the next "
        "release",
        err=True,
    )
    counts = {"seen": seen, "images": images}
    _ladder(recipe, overrides, output, METHOD_RUNGS, 1, counts, steps, None, dtype, quick, json_file)


def _ladder(
    recipe: Path,
    overrides: list[str] | None,
    output: Path,
    rungs: Sequence[Rung],
    seeds: int,
    counts: dict[str, int],
    steps: int,
    sampler: str | None,
    dtype: str,
    quick: bool,
    json_file: Path | None,
) -> None:
    from latentshift.benchmarks.rungs import check_ladder_recipe
    from latentshift.cli.preflight import check_generation, check_recipe
    from latentshift.training.recipe import VideoRecipe
    from latentshift.training.recipe_file import load_recipe

    settings = load_recipe(recipe, overrides or [])
    if not isinstance(settings, VideoRecipe):
        raise ValueError(f"{recipe} is of stage {settings.stage}, and bench ladder trains stage video")
    check_recipe(settings, data=True)
    check_ladder_recipe(settings)
    check_generation(settings.model, settings.compute.device, dtype, sampler, steps, None, variant=settings.variant)

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.ladder import bench_ladder
        from latentshift.cli.models import load_dtype, pick_device

        device = pick_device(settings.compute.device)
        return bench_ladder(
            settings,
            output,
            counts,
            steps,
            device,
            load_dtype(dtype, device),
            quick,
            rungs=rungs,
            seeds=seeds,
            sampler=sampler,
        )

    report_rows("ladder", rows, json_file)

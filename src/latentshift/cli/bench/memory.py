"""``latentshift bench memory``: peak memory of a recipe beside what is expected of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from latentshift.cli.bench.common import JSON, OVERRIDES, QUICK, report_rows

_RECIPE = typer.Argument(..., help="The recipe, a YAML file; see recipes/.")


def memory(
    recipe: Path = _RECIPE,
    overrides: list[str] | None = OVERRIDES,
    steps: int = typer.Option(2, "--steps", min=2, help="Steps on clips to take."),
    quick: bool = QUICK,
    json_file: Path | None = JSON,
) -> None:
    """Peak memory of a recipe's first steps and of a sample, on one process, beside what train --dry-run expects.

    Also the seconds of each step, and clips a second over all steps on clips but the first.
    """
    from latentshift.cli.preflight import check_recipe
    from latentshift.training.recipe_file import load_recipe

    settings = load_recipe(recipe, overrides or [])
    check_recipe(settings, data=True)

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.memory import bench_memory
        from latentshift.cli.models import pick_device

        pick_device(settings.compute.device)
        return bench_memory(settings, steps, quick)

    report_rows("memory", rows, json_file)

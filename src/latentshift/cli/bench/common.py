"""What every ``latentshift bench`` does, and the options that several have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer

from latentshift.files import check_writable_file

JSON = typer.Option(None, "--json", help="Also write the rows as JSON.")
OVERRIDES = typer.Argument(None, help="Settings to change, as key=value.")
QUICK = typer.Option(False, "--quick", help="As little as shows that it works: the figures mean less.")


def report_rows(
    name: str, rows: Callable[[], Iterable[dict[str, Any]]], json_file: Path | None
) -> list[dict[str, Any]]:
    """Run a benchmark and return its rows; what can be checked without its libraries comes before they are imported."""
    if json_file is not None:
        check_writable_file(json_file)
    from latentshift.benchmarks.report import report
    from latentshift.cli.models import quiet_libraries

    quiet_libraries()
    return report(name, rows(), json_file)

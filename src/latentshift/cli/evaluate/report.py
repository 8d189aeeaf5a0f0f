"""``latentshift evaluate report``: results side by side, as pages."""

from __future__ import annotations

from pathlib import Path

import typer

from latentshift.files import check_writable
from latentshift.user_input.error_text import printable


def report(
    folders: list[Path] = typer.Argument(
        ..., metavar="FOLDER...", help="Folders of results, each with a report.json; that of study result too."
    ),
    output: Path = typer.Option(
        Path("outputs/report"), "--output", "-o", help="Folder for report.md, report.html, tables/ and plots/."
    ),
) -> None:
    """Put results side by side, and beside the numbers that the paper cites."""
    from latentshift.evaluation.report.pages import write_comparison_pages

    check_writable(output / "report.html")
    print(printable(write_comparison_pages(folders, output), 4096))

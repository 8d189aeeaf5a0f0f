"""A benchmark's rows as pages: ``report.md``, ``report.html``, each table as CSV and LaTeX, each plot as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from latentshift.benchmarks.report import Estimate, Result, Value, machine
from latentshift.document.blocks import Code, Document, Facts
from latentshift.document.plot import Plot, PlotRow
from latentshift.document.table import Cell, Table, number_cell
from latentshift.evaluation.report.pages import write_pages

_SPREAD = "Where a number has two more beside it, it is a median, and these are the lowest and the highest."


def write_benchmark_pages(
    folder: Path, title: str, lead: str, rows: Sequence[Result], plots: Sequence[Plot], command: str
) -> Path:
    """Write the pages of a benchmark into a folder; returns the path of ``report.html``.

    Args:
        folder: for all of them.
        title: of the pages.
        lead: a sentence or two on what was measured.
        rows: those with the same names make a table.
        plots: before the tables.
        command: that made the rows.

    Raises:
        OSError: if they can't be written.
    """
    facts = Facts("Machine", tuple((name, str(value)) for name, value in machine().items()))
    return write_pages(Document(title, lead, (*plots, *row_tables(rows), facts, Code(command))), folder)


def row_tables(rows: Sequence[Result]) -> Iterator[Table]:
    """One table for each run of rows with the same names, called like the first of these."""
    for number, (names, group) in enumerate(groupby(rows, key=tuple), 1):
        headings = tuple(name.replace("_", " ") for name in names)
        title = headings[0].capitalize()
        cells = tuple(tuple(map(_cell, row.values())) for row in group)
        spread = any(cell.interval for row in cells for cell in row)
        yield Table(f"{number}-{names[0].replace('_', '-')}", title, headings, cells, (_SPREAD,) if spread else ())


def value_plot(name: str, title: str, rows: Sequence[Result], column: str, unit: str, own: str) -> Plot | None:
    """Bars of one column, labelled by the first; None if no row has it.

    Args:
        name: of its file, without suffix.
        title: above it.
        rows: of a benchmark.
        column: whose values are shown.
        unit: of them; with ``%`` values are shares of 1.
        own: the label to stand out.
    """
    factor = 100 if unit == "%" else 1
    bars = []
    for row in rows:
        value = row.get(column)
        if not isinstance(value, (int, float, Estimate)):
            continue
        middle = value.value if isinstance(value, Estimate) else value
        bounds = (factor * value.low, factor * value.high) if isinstance(value, Estimate) else None
        label = str(next(iter(row.values())))
        bars.append(PlotRow(label, factor * middle, bounds, "own" if label == own else "reference"))
    return Plot(name, title, tuple(bars), unit) if bars else None


def _cell(value: Value) -> Cell:
    if value is None:
        return Cell()
    if isinstance(value, str):
        return Cell(value)
    if isinstance(value, Estimate):
        return number_cell(value.value, (value.low, value.high))
    return Cell(f"{value:,}", value) if isinstance(value, int) else number_cell(value)

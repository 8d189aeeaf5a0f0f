"""The paper's tables with one's own rows beside its cited ones, and the same as plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from latentshift.evaluation.report.numbers import ARROWS
from latentshift.evaluation.report.paper_tables import PAPER_TABLES, CitedRow, Column, PaperTable
from latentshift.evaluation.report.plot import Plot, PlotRow
from latentshift.evaluation.report.results import Result
from latentshift.evaluation.report.schema import Metric
from latentshift.evaluation.report.table import Cell, Table, number_cell

_IMAGES = ("images", "frozen images")


def paper_tables_for(results: Sequence[Result]) -> list[PaperTable]:
    """The tables that have a place for any of the results; Table 5 is for images, frozen or not."""
    return [table for table in PAPER_TABLES if rows_for(table, results)]


def rows_for(table: PaperTable, results: Sequence[Result]) -> list[Result]:
    """The results that stand in a table."""
    fitting = [each for each in results if each.report.protocol == table.protocol]
    if table.number == 5 and not any(each.report.system.kind in _IMAGES for each in fitting):
        return []
    return [each for each in fitting if any(_metric(each, column) for column in table.columns)]


def paper_table(table: PaperTable, results: Sequence[Result]) -> Table:
    """Cited rows, then one's own; each says which it is."""
    rows = [_cited_row(table, row) for row in table.rows]
    rows += [_own_row(table, each) for each in rows_for(table, results)]
    return Table(
        f"table-{table.number}",
        f"Table {table.number}: {table.title}",
        ("Method", *table.words, *map(_heading, table.columns), "Source"),
        tuple(rows),
        (*table.notes, "Cited numbers were made by other programs, on other machines: read them as a landmark."),
    )


def paper_plots(table: PaperTable, results: Sequence[Result]) -> Iterator[Plot]:
    """A plot of each column that one of the results has a number in."""
    own = rows_for(table, results)
    for column in table.columns:
        measured = [(each, metric) for each in own if (metric := _metric(each, column))]
        if not measured:
            continue
        cited = [(row, row.values[column.name]) for row in table.rows if column.name in row.values]
        yield Plot(
            f"table-{table.number}-{column.name.lower().replace(' ', '-')}",
            f"{column.name}{ARROWS[column.better]}, Table {table.number} (grey: cited)",
            (
                *(PlotRow(row.method, value.value, kind="cited") for row, value in cited),
                *(
                    PlotRow(each.label, metric.value, metric.interval, note=f"N = {metric.n:,}")
                    for each, metric in measured
                ),
            ),
            column.unit,
            bars=False,
        )


def _heading(column: Column) -> str:
    unit = f" ({column.unit})" if column.unit else ""
    return f"{column.name}{unit}{ARROWS[column.better]}"


def _cited_row(table: PaperTable, row: CitedRow) -> tuple[Cell, ...]:
    words = [Cell(row.words.get(name, "–")) for name in table.words]
    numbers = []
    for column in table.columns:
        cited = row.values.get(column.name)
        numbers.append(Cell() if cited is None else Cell(cited.text or f"{cited.value:g}", cited.value))
    return Cell(row.method), *words, *numbers, Cell(f"cited: {row.source}")


def _own_row(table: PaperTable, result: Result) -> tuple[Cell, ...]:
    numbers = []
    counts = set()
    for column in table.columns:
        metric = _metric(result, column)
        numbers.append(
            Cell() if metric is None else number_cell(metric.value, metric.interval, column.unit, anchor=result.anchor)
        )
        counts |= {metric.n} if metric else set()
    source = "this result, " + " and ".join(f"N = {n:,}" for n in sorted(counts))
    return Cell(result.label), *[Cell()] * len(table.words), *numbers, Cell(source)


def _metric(result: Result, column: Column) -> Metric | None:
    return next((found for name in column.metrics if (found := result.report.metric(name))), None)

"""The paper's tables with one's own rows beside its cited ones, and the same as plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from latentshift.document.numbers import ARROWS, format_count
from latentshift.document.plot import Plot, PlotRow
from latentshift.document.table import Cell, Table, number_cell
from latentshift.evaluation.report.cost_rows import cost_rows
from latentshift.evaluation.report.page_warnings import PageWarnings
from latentshift.evaluation.report.paper_tables import (
    AUTOENCODER,
    CORE,
    OVERALL,
    PAPER_TABLES,
    SPEED,
    TEXT_ENCODER,
    CitedRow,
    Column,
    PaperTable,
)
from latentshift.evaluation.report.results import Result

_IMAGES = ("images", "frozen images")
_LANDMARK = "Cited numbers were made by other programs, on other machines: read them as a landmark."


@dataclass(frozen=True)
class _OwnValue:
    value: float
    interval: tuple[float, float] | None = None
    note: str = ""  # its N
    metric: str = ""  # its name in the report


@dataclass(frozen=True)
class _OwnRow:
    """A row of this package's results: values by the column's name."""

    label: str
    anchor: str
    values: dict[str, _OwnValue]
    source: str


def paper_tables_for(results: Sequence[Result]) -> list[PaperTable]:
    """The tables that have a place for any of the results; Table 5 is for images, frozen or not."""
    return [table for table in PAPER_TABLES if _own_rows(table, results)]


def paper_table(table: PaperTable, results: Sequence[Result], warnings: PageWarnings) -> Table:
    """Cited rows, then one's own; each says which it is."""
    rows = [_cited_cells(table, row) for row in table.rows]
    rows += [_own_cells(table, row, warnings) for row in _own_rows(table, results)]
    columns = ("Method", *table.words, *map(_heading, table.columns), "Source")
    title = f"Table {table.number}: {table.title}"
    return Table(f"table-{table.number}", title, columns, tuple(rows), (*table.notes, _LANDMARK))


def paper_plots(table: PaperTable, results: Sequence[Result], warnings: PageWarnings) -> Iterator[Plot]:
    """A plot of each column in which more is better or worse, and one of the results has a number.

    What depends on the machine is plotted without the cited numbers.
    """
    own = _own_rows(table, results)
    for column in table.columns:
        measured = [(row, row.values[column.name]) for row in own if column.name in row.values]
        if not measured or column.better == "neither":
            continue
        rows = () if column.by_machine else table.rows
        cited = [(row, row.values[column.name]) for row in rows if column.name in row.values]
        yield Plot(
            f"table-{table.number}-{column.name.lower().replace(' ', '-')}",
            f"{column.name}{ARROWS[column.better]}, Table {table.number}{' (grey: cited)' if cited else ''}",
            (
                *(PlotRow(row.method, value.value, kind="cited") for row, value in cited),
                *(
                    PlotRow(
                        row.label,
                        value.value,
                        value.interval,
                        note=value.note,
                        marks=warnings.marks(row.label, value.metric),
                    )
                    for row, value in measured
                ),
            ),
            column.unit,
            bars=False,
        )


def _own_rows(table: PaperTable, results: Sequence[Result]) -> list[_OwnRow]:
    fitting = [each for each in results if each.report.protocol == table.protocol]
    if table.number == 5 and not any(each.report.system.kind in _IMAGES for each in fitting):
        return []
    rows = _rows_of_costs if table.protocol == "cost" else _rows_of_metrics
    return [row for each in fitting for row in rows(table, each)]


def _rows_of_metrics(table: PaperTable, result: Result) -> Iterator[_OwnRow]:
    values, counts = {}, dict[str, None]()
    for column in table.columns:
        metric = next((match for name in column.metrics if (match := result.report.metric(name))), None)
        if metric is not None:
            count = f"N = {format_count(metric.n, metric.repeats)}"
            values[column.name] = _OwnValue(metric.value, metric.interval, count, metric.name)
            counts[count] = None
    if values:
        source = "this result, " + " and ".join(counts)
        yield _OwnRow(result.label, result.anchor, values, source)


def _rows_of_costs(table: PaperTable, result: Result) -> Iterator[_OwnRow]:
    device = result.report.settings.get("device", "this machine")
    for row in cost_rows(result):
        parts = row.parameters
        by_name = {
            CORE: parts.unet,
            AUTOENCODER: parts.autoencoder,
            TEXT_ENCODER: parts.text_encoder,
            OVERALL: parts.overall,
        }
        values = {name: _OwnValue(count / 1e9) for name, count in by_name.items()}
        seconds = row.video_seconds
        values[SPEED] = _OwnValue(seconds.value, seconds.bounds, row.how)
        # The paper's rows are of methods of the same names.
        yield _OwnRow(f"{row.method} (own)", result.anchor, values, f"{result.label}, {device}, {row.how}".rstrip(", "))


def _heading(column: Column) -> str:
    unit = f" ({column.unit})" if column.unit else ""
    return f"{column.name}{unit}{ARROWS[column.better]}"


def _cited_cells(table: PaperTable, row: CitedRow) -> tuple[Cell, ...]:
    words = [Cell(row.words.get(name, "–")) for name in table.words]
    numbers = []
    for column in table.columns:
        cited = row.values.get(column.name)
        numbers.append(Cell() if cited is None else Cell(cited.text or f"{cited.value:g}", cited.value))
    return Cell(row.method), *words, *numbers, Cell(f"cited: {row.source}")


def _own_cells(table: PaperTable, row: _OwnRow, warnings: PageWarnings) -> tuple[Cell, ...]:
    numbers = []
    for column in table.columns:
        own = row.values.get(column.name)
        if own is None:
            numbers.append(Cell())
            continue
        marks = warnings.marks(row.label, own.metric)
        numbers.append(number_cell(own.value, own.interval, column.unit, anchor=row.anchor, marks=marks))
    return Cell(row.label), *[Cell()] * len(table.words), *numbers, Cell(row.source)

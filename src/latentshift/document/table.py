"""A table of a report, before it becomes HTML, Markdown, LaTeX or CSV."""

from __future__ import annotations

from dataclasses import dataclass

from latentshift.document.numbers import NOTHING, format_interval, format_number


@dataclass(frozen=True)
class Cell:
    """What stands in one place.

    Attributes:
        text: as it is shown, without unit.
        value: the number behind it in full precision; None for words.
        interval: bounds of the 95 % interval.
        detail: the interval as it is shown.
        anchor: of the settings that made the number; empty for none.
        strong: whether it is the best of its kind.
        marks: numbers of the page's warnings that it must be read with.
    """

    text: str = NOTHING
    value: float | None = None
    interval: tuple[float, float] | None = None
    detail: str = ""
    anchor: str = ""
    strong: bool = False
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings; the first column names the row.

    Attributes:
        name: of its files, without suffix.
        title: above it.
        columns: headings, with units.
        rows: of as many cells as columns.
        notes: sentences below it.

    Raises:
        ValueError: if a row has another number of cells.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {self.name} has {len(row)} cells for {len(self.columns)} columns")

    @property
    def marks(self) -> tuple[int, ...]:
        """Those of all cells, in order."""
        return tuple(sorted({mark for row in self.rows for cell in row for mark in cell.marks}))


def number_cell(
    value: float | None,
    interval: tuple[float, float] | None = None,
    unit: str = "",
    *,
    anchor: str = "",
    strong: bool = False,
    marks: tuple[int, ...] = (),
) -> Cell:
    """A cell of a number in ``unit``, which stands in the heading; a dash for None."""
    if value is None:
        return Cell()
    detail = format_interval(value, interval, unit)
    return Cell(format_number(value, unit), value, interval, detail, anchor, strong, marks)

"""A table as LaTeX and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from latentshift.document.blocks import PageWarning
from latentshift.document.table import Cell, Table

WARNINGS = "warnings"  # the column of CSV files
_LATEX = {
    "\\": r"\textbackslash{}",
    **{each: f"\\{each}" for each in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",  # with LaTeX's own fonts these three would be other signs
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # at the beginning of a row these two would belong to the command before it
    "*": "{*}",
    "κ": r"$\kappa$",
    "α": r"$\alpha$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "…": r"\dots{}",
}


def to_latex(table: Table, warnings: Sequence[PageWarning] = ()) -> str:
    """A ``table`` environment with the rules of the package booktabs; intervals in brackets behind their values.

    Args:
        table: whose notes, and those of ``warnings`` whose marks are in it, follow as comments.
        warnings: of the page.
    """
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{escape_latex(table.title)}}}",
        f"\\begin{{tabular}}{{l{'c' * (len(table.columns) - 1)}}}",
        "\\toprule",
        " & ".join(map(escape_latex, table.columns)) + r" \\",
        "\\midrule",
        *(" & ".join(map(_latex_cell, row)) + r" \\" for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    comments = [
        *table.notes,
        *(f"warning: {warnings[mark - 1].sentence}" for mark in table.marks if mark <= len(warnings)),
    ]
    return "\n".join([*lines, *(f"% {' '.join(each.split())}" for each in comments)]) + "\n"


def escape_latex(text: str) -> str:
    """Text in which no letter is a command."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    if cell.strong:
        text = f"\\textbf{{{text}}}"
    if cell.interval is None:
        return text
    low, high = cell.detail.split(" … ")
    return f"{text} [{low}, {high}]"


def to_csv(table: Table, warnings: Sequence[PageWarning] = ()) -> str:
    """Numbers in full precision, and two columns more for the bounds where a column has intervals.

    Args:
        table: with a last column ``warnings`` if a cell has a mark.
        warnings: of the page.
    """
    bounded = [any(row[place].interval for row in table.rows) for place in range(len(table.columns))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    marked = [WARNINGS] if table.marks else []
    names = [(f"{name} low", f"{name} high") for name in map(_no_formula, table.columns)]
    writer.writerow([*_wide(list(map(_no_formula, table.columns)), names, bounded), *marked])
    for row in table.rows:
        bounds = [tuple(map(repr, cell.interval)) if cell.interval else ("", "") for cell in row]
        said = [_said(row, warnings)] if marked else []
        writer.writerow([*_wide([_csv_cell(cell) for cell in row], bounds, bounded), *said])
    return text.getvalue()


def _said(row: Sequence[Cell], warnings: Sequence[PageWarning]) -> str:
    """The warnings of a row's cells, each with its number on the page."""
    marks = sorted({mark for cell in row for mark in cell.marks if mark <= len(warnings)})
    return " | ".join(f"{mark}. {warnings[mark - 1].sentence}" for mark in marks)


def _wide(cells: Sequence[str], bounds: Sequence[tuple[str, ...]], bounded: Sequence[bool]) -> Iterator[str]:
    for cell, pair, wanted in zip(cells, bounds, bounded, strict=True):
        yield cell
        if wanted:
            yield from pair


def _csv_cell(cell: Cell) -> str:
    if cell.value is not None:
        return repr(cell.value)
    return _no_formula(cell.text)


def _no_formula(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text

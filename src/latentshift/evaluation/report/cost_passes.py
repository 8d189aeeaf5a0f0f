"""What one pass of each video model takes: the table of a cost comparison beside the paper's Table 4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from latentshift.document.table import Cell, Table, number_cell
from latentshift.evaluation.report.cost_rows import CostRow, cost_rows
from latentshift.evaluation.report.results import Result

_GIB = 2**30
_COLUMNS = (
    "Method",
    "Added parameters (million)",
    "Operations of a pass (TFLOP)",
    "First pass (s)",
    "Later passes (s)",
    "Of the device's best (%)",
    "Video, to the first row",
    "Peak memory (GiB)",
)
_NOTES = (
    "Seconds are medians, with the lowest and the highest beside them; one without was timed once. The first pass of a "
    "process is the one in which libraries choose kernels and take their memory.",
    "Added: beyond the image model's U-Net. The device's best is the faster one of a large matrix product and a large "
    "convolution in the same run.",
)


def pass_tables(results: Sequence[Result]) -> Iterator[Table]:
    """A table of each result that holds passes.

    Raises:
        ValueError: as :func:`latentshift.evaluation.report.cost_rows.cost_rows`.
    """
    for result in results:
        rows = tuple(_cells(row, result.anchor) for row in cost_rows(result) if row.pass_seconds is not None)
        if rows:
            yield Table(f"passes-{result.anchor}", f"Passes of {result.label}", _COLUMNS, rows, _NOTES)


def _cells(row: CostRow, anchor: str) -> tuple[Cell, ...]:
    first, later = row.first_pass_seconds, row.pass_seconds
    share = None if row.share_of_device_peak is None else 100 * row.share_of_device_peak
    return (
        Cell(row.method),
        number_cell(None if row.parameters.added is None else row.parameters.added / 1e6, anchor=anchor),
        number_cell(None if row.flop_a_pass is None else row.flop_a_pass / 1e12, anchor=anchor),
        number_cell(None if first is None else first.value, anchor=anchor),
        Cell() if later is None else number_cell(later.value, later.bounds, "s", anchor=anchor),
        number_cell(share, unit="%", anchor=anchor),
        number_cell(row.to_first_row, anchor=anchor),
        number_cell(None if row.peak_bytes is None else row.peak_bytes / _GIB, anchor=anchor),
    )

"""Plots as SVG: one row a value, with its label above it, so that they are read on a phone too.

Lengths across are percentages of the width, and text has a fixed size: a plot is as wide as its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from latentshift.document.marks import shown_marks
from latentshift.document.numbers import format_interval, format_number

_ROW, _TOP, _BOTTOM = 44, 4, 26  # pixels
_LONGEST = 44  # letters of a label; more would run into its value on a phone
_LEFT, _RIGHT = 1.0, 99.0  # percent of the width, where the axis begins and ends
_TICKS = 5  # about so many
_STYLE = """
.plot { font: 13px system-ui, sans-serif; color: #1d2430; --own: #2563c9; --cited: #858d99; --reference: #2c8a5b }
@media (prefers-color-scheme: dark) { .plot { color: #e4e8ee; --own: #79a9ff; --cited: #8f98a6; --reference: #58c08d } }
@media (max-width: 34rem) { .plot .detail { display: none } }
.plot text { fill: currentColor } .plot .faint { opacity: .7 } .plot .grid { stroke: currentColor; opacity: .15 }
.plot .mark { font-size: 10px; opacity: .75 }
.plot rect { opacity: .65 }
.plot .whisker { stroke: currentColor; stroke-width: 1.5 }
.plot .own { fill: var(--own) } .plot .cited { fill: var(--cited) } .plot .reference { fill: var(--reference) }
"""


@dataclass(frozen=True)
class PlotRow:
    """One value.

    Attributes:
        label: of the row.
        value: of the row.
        interval: bounds of the 95 % interval.
        kind: what it is of: a result here, one cited from the paper, or something to compare with.
        note: behind the value.
        marks: as of a :class:`.table.Cell`.
    """

    label: str
    value: float
    interval: tuple[float, float] | None = None
    kind: Literal["own", "cited", "reference"] = "own"
    note: str = ""
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plot:
    """Values of one scale.

    Attributes:
        name: of its file, without suffix.
        title: above it; :attr:`heading` adds the unit.
        rows: one or more.
        unit: of all values.
        bars: bars from 0, or else dots on an axis that may begin elsewhere.
        end: of the axis; None: where the largest value or bound is.

    Raises:
        ValueError: without rows.
    """

    name: str
    title: str
    rows: tuple[PlotRow, ...]
    unit: str = ""
    bars: bool = True
    end: float | None = None

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError(f"the plot {self.name} has no rows")

    @property
    def heading(self) -> str:
        """The title with the unit."""
        return f"{self.title}, in {self.unit}" if self.unit else self.title

    @property
    def marks(self) -> tuple[int, ...]:
        """Those of all rows, in order."""
        return tuple(sorted({mark for row in self.rows for mark in row.marks}))


def to_svg(plot: Plot, sentences: Sequence[str] = ()) -> str:
    """The plot as an ``svg`` element that is also a file of its own.

    Args:
        plot: what it shows.
        sentences: of the page's warnings, in the order of their marks; those that are marked here go along as its
            description.
    """
    return "".join(_parts(plot, sentences))


def _parts(plot: Plot, sentences: Sequence[str]) -> Iterator[str]:
    ticks = _axis(plot)
    bottom = _TOP + _ROW * len(plot.rows)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" role="img" width="640" height="{bottom + _BOTTOM}" '
        f'aria-label="{escape(_in_words(plot))}"><style>{_STYLE}</style>'
    )
    if said := " ".join(f"Warning {mark}: {sentences[mark - 1]}" for mark in plot.marks if mark <= len(sentences)):
        yield f"<desc>{escape(said)}</desc>"

    def x(value: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    for number, tick in enumerate(ticks):
        place = "start" if number == 0 else "end" if number == len(ticks) - 1 else "middle"
        yield f'<line class="grid" x1="{x(tick):.2f}%" x2="{x(tick):.2f}%" y1="{_TOP}" y2="{bottom}"/>'
        yield f'<text class="faint" x="{x(tick):.2f}%" y="{bottom + 17}" text-anchor="{place}">{tick:g}</text>'
    for number, row in enumerate(plot.rows):
        yield from _row(plot, row, _TOP + _ROW * number, x)
    yield "</svg>"


def _row(plot: Plot, row: PlotRow, top: float, x: Callable[[float], float]) -> Iterator[str]:
    middle = top + 28
    shown = format_number(row.value, plot.unit)
    interval = format_interval(row.value, row.interval, plot.unit)
    behind = "".join(f" · {each}" for each in (interval, row.note) if each)
    label = _shortened(row.label)
    first, rest = shown_marks(row.marks)
    marks = " ".join([*map(str, first), *([f"+{len(rest)}"] if rest else [])])
    marked = f' <tspan class="mark" dy="-4">{marks}</tspan>' if marks else ""
    yield f'<line class="grid" x1="{_LEFT}%" x2="{_RIGHT}%" y1="{middle}" y2="{middle}"/>'
    yield f'<text x="{_LEFT}%" y="{top + 15}">{escape(label)}{marked}</text>'
    yield (
        f'<text x="{_RIGHT}%" y="{top + 15}" text-anchor="end"><tspan font-weight="600">{shown}</tspan>'
        f'<tspan class="faint detail">{escape(behind)}</tspan></text>'
    )
    if plot.bars:
        width = max(x(row.value) - x(0), 0)
        yield (f'<rect class="{row.kind}" x="{x(0):.2f}%" y="{middle - 5}" width="{width:.2f}%" height="10" rx="2"/>')
    if row.interval:
        low, high = x(row.interval[0]), x(row.interval[1])
        yield f'<line class="whisker" x1="{low:.2f}%" x2="{high:.2f}%" y1="{middle}" y2="{middle}"/>'
        for end in (low, high):
            yield f'<line class="whisker" x1="{end:.2f}%" x2="{end:.2f}%" y1="{middle - 4}" y2="{middle + 4}"/>'
    if not plot.bars:
        yield f'<circle class="{row.kind}" cx="{x(row.value):.2f}%" cy="{middle}" r="5"/>'


def _shortened(label: str) -> str:
    """Without its middle where it is too long: what tells labels apart stands at either end."""
    half = _LONGEST // 2
    return label if len(label) <= _LONGEST else f"{label[: half - 1]}…{label[-half:]}"


def _axis(plot: Plot) -> list[float]:
    """Round numbers, evenly spaced, from the axis' beginning to its end."""
    all_of = [bound for row in plot.rows for bound in (row.value, *(row.interval or ()))]
    low, high = min(all_of), max(all_of)
    if plot.bars:
        low, high = min(low, 0.0), max(high, 0.0)
    if plot.end is not None:
        high = plot.end
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _in_words(plot: Plot) -> str:
    unit = f" {plot.unit}" if plot.unit else ""
    return f"{plot.title}: " + ", ".join(
        f"{row.label} {format_number(row.value, plot.unit)}{unit}" for row in plot.rows
    )

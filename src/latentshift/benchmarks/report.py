"""What every benchmark returns: rows of values by name, printed as a table while they come, and written as JSON.

A benchmark is a generator of rows. All rows with the same names make one table. Names tell the unit.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from latentshift import __version__
from latentshift.evaluation.estimates import Mean, wilson_interval
from latentshift.files import atomic_write_text
from latentshift.user_input.error_text import printable


@dataclass(frozen=True)
class Estimate:
    """A value and the bounds of its interval."""

    value: float
    low: float
    high: float


Value = str | int | float | Estimate | None  # None: nothing to show
Result = dict[str, Value]


def mean_value(mean: Mean) -> Estimate | float | None:
    """A mean with its 95 % interval, as far as it has them."""
    if mean.mean is None or mean.interval is None:
        return mean.mean
    return Estimate(mean.mean, *mean.interval)


def share_value(right: int, n: int) -> Estimate:
    """A share of ``right`` in ``n`` with its 95 % Wilson interval."""
    return Estimate(right / n, *wilson_interval(right, n))


_TEXT_WIDTH, _NUMBER_WIDTH, _ESTIMATE_WIDTH = 36, 9, 20


def table(rows: Iterable[Result]) -> Iterator[str]:
    """Lines of Markdown, one per row and as early as it comes; a new heading where the names change."""
    widths: dict[str, int] = {}
    for row in rows:
        if list(row) != list(widths):
            if widths:
                yield ""
            widths = {name: _width(name, value) for name, value in row.items()}
            yield _line(name.replace("_", " ").ljust(width) for name, width in widths.items())
            yield _line("-" * (width - 1) + _rule_end(row[name]) for name, width in widths.items())
        yield _line(_cell(value, widths[name]) for name, value in row.items())


def to_json(name: str, rows: Iterable[Result]) -> str:
    """The benchmark's name, the machine, and the rows in full precision."""
    return json.dumps({"benchmark": name, "machine": machine(), "rows": list(rows)}, indent=1, default=asdict) + "\n"


def machine() -> dict[str, str | int | None]:
    """What figures depend on beside what is measured."""
    return {
        "latentshift": __version__,
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def report(name: str, rows: Iterable[Result], json_file: Path | None = None) -> list[Result]:
    """Run a benchmark: print its rows as they come, and write them as JSON if a file is named."""
    kept: list[Result] = []

    def keeping() -> Iterator[Result]:
        for row in rows:
            kept.append(row)
            yield row

    for line in table(keeping()):
        print(line, flush=True)
    if json_file is not None:
        atomic_write_text(json_file, to_json(name, kept))
        print(printable(json_file, 4096))
    return kept


def _width(name: str, value: Value) -> int:
    least = {str: _TEXT_WIDTH, Estimate: _ESTIMATE_WIDTH}.get(type(value), _NUMBER_WIDTH)
    return max(len(name), least)


def _rule_end(value: Value) -> str:
    return "-" if isinstance(value, str) else ":"  # Markdown sets numbers flush right


def _cell(value: Value, width: int) -> str:
    return value.ljust(width) if isinstance(value, str) else _number(value).rjust(width)


def _number(value: int | float | Estimate | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, Estimate):
        return f"{_number(value.value)} [{_number(value.low)}, {_number(value.high)}]"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1:
        return f"{value:.3g}"
    return f"{value:.{2 if abs(value) < 100 else 1}f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"

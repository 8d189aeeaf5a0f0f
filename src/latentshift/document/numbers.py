"""How numbers are shown: as many decimals as the field prints, the same for a value and its interval."""

from __future__ import annotations

NOTHING = "–"
ARROWS = {"lower": " ↓", "higher": " ↑", "neither": ""}


def decimals(value: float, unit: str = "") -> int:
    """0 from 10,000 on, 1 for percentages, levels and from 100 on, 2 from 1 on, 4 below."""
    if abs(value) >= 10_000:
        return 0
    if unit in ("%", "levels") or abs(value) >= 100:
        return 1
    return 2 if abs(value) >= 1 else 4


def format_number(value: float | None, unit: str = "") -> str:
    """A value without its unit; a dash for None."""
    return NOTHING if value is None else f"{value:,.{decimals(value, unit)}f}"


def format_interval(value: float, interval: tuple[float, float] | None, unit: str = "") -> str:
    """``60.7 … 71.5`` with the decimals of the value; empty without an interval."""
    if interval is None:
        return ""
    places = decimals(value, unit)
    return f"{interval[0]:,.{places}f} … {interval[1]:,.{places}f}"


def format_count(n: int, repeats: int = 1) -> str:
    """``2,048``, or of repeats ``10 × 2,048``; ``20,479 in 10 repeats`` where they differ in number."""
    if repeats == 1:
        return f"{n:,}"
    return f"{n:,} in {repeats:,} repeats" if n % repeats else f"{repeats:,} × {n // repeats:,}"


def percent(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    """Bounds of a share, 0 … 1, in %."""
    return None if interval is None else (100 * interval[0], 100 * interval[1])

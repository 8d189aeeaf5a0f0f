"""How many steps and hours a run took, and on what machine, read from the logs in its folder. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

from latentshift.user_input.bounded_read import load_json_settings, read_appended_lines

_MAX_LINE = 2**20  # bytes
_REMEDY = "repair the log, or move it away"


def training_cost(run: Path) -> str:
    """As ``4,000 steps in 1.2 hours on AMD EPYC, 2 threads``; empty without logs.

    The hours are those of the steps in the log alone: without encoding, samples, and steps that a killed run lost. The
    machine is the one that the run was last started on.

    Args:
        run: the folder of a training run.

    Raises:
        ValueError: for a log or a record of versions that can't be read.
    """
    log = run / "metrics.jsonl"
    if not log.is_file():
        return ""
    samples, seconds, steps = 0, 0.0, 0
    with log.open("rb") as file:
        for (step, total, speed), _ in read_appended_lines(file, log, _row, _REMEDY, _MAX_LINE):
            if speed > 0:
                seconds += (total - samples) / speed
            samples, steps = total, step
    return f"{steps:,} steps in {_time(seconds)}{_machine(run / 'versions.json')}"


def _row(line: bytes) -> tuple[int, int, float]:
    """Step, samples until then, and samples a second.

    Raises:
        ValueError: for what is none of these.
    """
    try:
        row = json.loads(line)
        return int(row["step"]), int(row["samples"]), float(row["samples_per_second"])
    except (TypeError, KeyError):
        raise ValueError from None


def _time(seconds: float) -> str:
    """In hours, or in minutes below one."""
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"


def _machine(file: Path) -> str:
    if not file.is_file():
        return ""
    about = load_json_settings(file)
    processes = f"{about['processes']} processes of " if about.get("processes", 1) != 1 else ""
    if about.get("device") not in (None, "cpu"):
        return f" on {processes}{about['device']}"
    if not about.get("processor"):  # in files from before it was recorded
        return ""
    threads = about.get("threads")
    return f" on {processes}{about['processor']}" + (
        f", {threads} thread{'s' * (threads != 1)}" if isinstance(threads, int) else ""
    )

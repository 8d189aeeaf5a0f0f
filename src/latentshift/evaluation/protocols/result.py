"""``report.json`` of a protocol, from its readings and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from latentshift import __version__
from latentshift.data.manifest import escape_invalid_utf8
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.readings_files import Reading
from latentshift.evaluation.protocols.summary import Summary
from latentshift.evaluation.report.schema import Example, Protocol, Rejected, Report, System, write_report


def write_result(
    folder: Path,
    protocol: Protocol,
    command: str,
    system: System,
    settings: Mapping[str, Any],
    summary: Summary,
    rejected: Iterable[Rejected],
    examples: Sequence[tuple[Reading, str | None]],
) -> Report:
    """Write the report of a result.

    Args:
        folder: of the result.
        protocol: that made it.
        command: that makes it again.
        system: that was evaluated.
        settings: of the generation and the measuring.
        summary: its metrics.
        rejected: everything that could not be used.
        examples: readings of the videos to show, the best first, each with its file relative to the folder.
    """
    report = Report(
        protocol=protocol,
        command=escape_invalid_utf8(command),
        date=datetime.now(UTC).date().isoformat(),
        latentshift=__version__,
        system=system,
        settings=dict(settings),
        metrics=tuple(summary.metrics),
        notes=tuple(summary.notes),
        rejected=tuple(rejected),
        videos=tuple(
            Example(
                index=each.index,
                prompt=escape_invalid_utf8(each.prompt),
                source=escape_invalid_utf8(each.file or "") if each.seed is None else "",
                seed=each.seed,
                file=file,
                values=each.values,
            )
            for each, file in examples
        ),
    )
    write_report(folder, report)
    return report


def rejected_of(readings: Readings, where: str = "") -> Iterator[Rejected]:
    """The rejected videos of a plan.

    Args:
        readings: of it.
        where: put before each file's name, as ``reference/``.
    """
    for each in readings.rejected():
        name = each.file or f"{each.prompt} (seed {each.seed})"
        again = "; the same command tries it again" if each.passing else ""
        yield Rejected(file=escape_invalid_utf8(where + name), reason=escape_invalid_utf8(each.rejected) + again)

"""What the verbs of ``latentshift data`` share: sources on the command line, limits, and lists of what was refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from latentshift.error_text import printable

if TYPE_CHECKING:
    from latentshift.data.manifest import RejectedRow

Word = TypeVar("Word", bound=str)

SOURCE = typer.Argument(
    ...,
    help="A folder, a manifest (.jsonl), sprites, or KIND:PATH, where KIND is webvid, ucf101, msrvtt or webdataset.",
)
OPTIONS = typer.Argument(None, help="Of the source, as key=value: root=/data/webvid.")
SHORT = typer.Option("refuse", "--short", help="Clips that are shorter: refuse, hold or shorten.")
WORKERS = typer.Option(2, "--workers", help="Clips that are decoded side by side.")
TIME_LIMIT = typer.Option(60.0, "--time-limit", help="Seconds that one clip may take.")
MEMORY_LIMIT = typer.Option(4.0, "--memory-limit", help="GiB that one clip may take.")

MOST_SHOWN = 20
MOST_OF_A_PATH = 4096


def source_of(words: str, options: list[str] | None) -> Any:
    """The source that a user means.

    Raises:
        ValueError: for one that there is not, or options that do not hold.
    """
    from latentshift.data.sources import parse_source

    values: dict[str, str] = {}
    for word in options or []:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ValueError(f"{word!r} is not of the form key=value")
        values[key] = value
    return parse_source(words, values)


def limits_of(workers: int, time_limit: float, memory_limit: float) -> Any:
    """What one clip may cost; ``memory_limit`` in GiB."""
    from latentshift.data.worker_pool import WorkerLimits

    return WorkerLimits(workers, time_limit, round(memory_limit * 2**30))


def one_of(option: str, value: str, known: tuple[Word, ...]) -> Word:
    """``value``, if it is one of the words that an option knows.

    Raises:
        ValueError: if it is not.
    """
    for each in known:
        if value == each:
            return each
    raise ValueError(f"{option} must be one of {', '.join(known)}, not {value!r}")


def print_refused(first: Sequence[RejectedRow], total: int, where_all_are: str) -> None:
    """A line for each of the first that were refused, and where the rest stand."""
    here = f"{Path.cwd()}{os.sep}"
    for each in first:
        print(f"refused {printable(each.name.removeprefix(here))}: {printable(each.reason)}")
    if total > len(first):
        print(f"… and {total - len(first)} more; {printable(where_all_are, MOST_OF_A_PATH)}")

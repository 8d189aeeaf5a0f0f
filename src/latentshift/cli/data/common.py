"""Shared by the commands of ``latentshift data``: sources, limits, and lists of rejected clips."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from latentshift.user_input.error_text import printable

if TYPE_CHECKING:
    from latentshift.data.manifest import RejectedRow

Word = TypeVar("Word", bound=str)

SOURCE = typer.Argument(
    ...,
    help="A folder, a video, a manifest (.jsonl), sprites, or KIND:PATH, where KIND is webvid, ucf101, msrvtt or "
    "webdataset.",
)
OPTIONS = typer.Argument(None, help="Options of the source as key=value, e.g. root=/data/webvid.")
SHORT = typer.Option(
    "refuse",
    "--short",
    help="For shorter clips: refuse them, hold the last frame, or shorten the window (refuse, hold, shorten).",
)
VARIANT = typer.Option(
    None, "--variant", help="Variant of the model's weight files, e.g. fp16 for model.fp16.safetensors. Default: none."
)
WORKERS = typer.Option(2, "--workers", help="Number of decoding processes.")
TIME_LIMIT = typer.Option(60.0, "--time-limit", help="Time limit for one clip, in seconds.")
MEMORY_LIMIT = typer.Option(4.0, "--memory-limit", help="Memory limit for one clip, in GiB.")

MAX_SHOWN = 20
MAX_PATH_LENGTH = 4096


def source_of(words: str, options: list[str] | None) -> Any:
    """Parse a source and its options.

    Raises:
        ValueError: for an unknown source or invalid options.
    """
    from latentshift.data.sources import parse_source

    values: dict[str, str] = {}
    for word in options or []:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ValueError(f"{word!r} is not of the form key=value")
        if key in values:
            raise ValueError(f"the option {key} is given twice")
        values[key] = value
    return parse_source(words, values)


def limits_of(workers: int, time_limit: float, memory_limit: float) -> Any:
    """Limits of the decoding workers; ``memory_limit`` in GiB.

    Raises:
        ValueError: for a limit that is out of range.
    """
    from latentshift.data.worker_pool import WorkerLimits

    if workers < 1:
        raise ValueError(f"--workers must be 1 or more, not {workers}")
    if not time_limit > 0:
        raise ValueError(f"--time-limit must be a number of seconds above 0, not {time_limit:g}")
    if not 0.25 <= memory_limit < math.inf:
        raise ValueError(f"--memory-limit must be a number of GiB, 0.25 or more, not {memory_limit:g}")
    return WorkerLimits(workers, time_limit, round(memory_limit * 2**30))


def one_of(option: str, value: str, known: tuple[Word, ...]) -> Word:
    """Check that an option's value is one of ``known``.

    Raises:
        ValueError: if it is not.
    """
    for each in known:
        if value == each:
            return each
    raise ValueError(f"{option} must be one of {', '.join(known)}, not {value!r}")


def print_refused(first: Sequence[RejectedRow], total: int, where_all_are: str) -> None:
    """Print the first rejected clips, and where the full list is."""
    here = f"{Path.cwd()}{os.sep}"
    for each in first:
        print(f"refused {printable(each.name.removeprefix(here))}: {printable(each.reason)}")
    if total > len(first):
        print(f"… and {total - len(first)} more; {printable(where_all_are, MAX_PATH_LENGTH)}")

"""Progress on standard error: shown on a terminal, silent elsewhere.

``status`` is for work of unknown length: it shows the elapsed seconds. ``progress_bar`` is tqdm's, for countable
work. Both may be nested, also in other tqdm bars.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from latentshift.user_input.error_text import printable

_REFRESH_SECONDS = 0.5

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Turn progress off, even on a terminal."""
    global _quiet
    _quiet = quiet


@contextmanager
def quiet_inside(quiet: bool = True) -> Iterator[None]:
    """Turn progress off inside the block, if ``quiet``."""
    before = _quiet
    set_quiet(before or quiet)
    try:
        yield
    finally:
        set_quiet(before)


def is_shown() -> bool:
    """Whether progress is shown: standard error is a terminal, and quiet is off."""
    return not _quiet and sys.stderr.isatty()


@contextmanager
def status(text: str, *, shown: bool = True) -> Iterator[None]:
    """Show ``text`` and the elapsed seconds inside the block; the line is removed afterwards.

    Args:
        text: e.g. ``"loading the model"``.
        shown: False for all but the first of several processes.
    """
    if not (shown and is_shown()):
        yield
        return
    from tqdm import tqdm

    done = threading.Event()
    with tqdm(bar_format="{desc} {elapsed}", desc=printable(text, 200), leave=False, file=sys.stderr) as line:

        def tick() -> None:  # nothing else updates the line during one call
            while not done.wait(_REFRESH_SECONDS):
                line.refresh()

        ticking = threading.Thread(target=tick, name="status", daemon=True)
        ticking.start()
        try:
            yield
        finally:
            done.set()
            ticking.join()


def progress_bar(
    work: Iterable[Any] | None = None,
    *,
    total: int | None = None,
    text: str,
    unit: str,
    shown: bool = True,
    **kwargs: Any,
) -> Any:
    """A tqdm bar.

    Args:
        work: iterable to count; None: ``update`` counts.
        total: number of items; None: ``len(work)``, if it has one.
        text: description.
        unit: e.g. ``"clip"``.
        shown: as for :func:`status`.
        **kwargs: further ones of tqdm.
    """
    from tqdm import tqdm

    hidden = not (shown and is_shown())
    return tqdm(work, total=total, desc=printable(text, 200), unit=unit, disable=hidden, file=sys.stderr, **kwargs)

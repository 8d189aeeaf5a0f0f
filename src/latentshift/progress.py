"""What goes on, and how far it is, on standard error: for whoever watches a terminal, and silent elsewhere.

``status`` is for work whose length is not known: it shows the seconds. ``progress_bar`` is tqdm's, for work that is
counted. Both may be nested, within any other tqdm bar too.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from latentshift.error_text import printable

_REFRESH_SECONDS = 0.5

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Whether nothing is shown, even on a terminal."""
    global _quiet
    _quiet = quiet


def is_shown() -> bool:
    """Whether somebody watches: standard error is a terminal, and nobody asked for quiet."""
    return not _quiet and sys.stderr.isatty()


@contextmanager
def status(text: str, *, shown: bool = True) -> Iterator[None]:
    """Show ``text`` and the seconds that it has taken, while inside; the line is gone afterwards.

    Args:
        text: what goes on, as ``"loading the model"``.
        shown: False for all but the first of several processes.
    """
    if not (shown and is_shown()):
        yield
        return
    from tqdm import tqdm

    done = threading.Event()
    with tqdm(bar_format="{desc} {elapsed}", desc=printable(text, 200), leave=False, file=sys.stderr) as line:

        def tick() -> None:  # nothing else moves the line while one call works
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
        work: what is counted as it is taken; None: ``update`` counts.
        total: how much there is; None: ``len(work)``, if it has one.
        text: what goes on.
        unit: what is counted, as ``"clip"``.
        shown: as for :func:`status`.
        **kwargs: further ones of tqdm.
    """
    from tqdm import tqdm

    hidden = not (shown and is_shown())
    return tqdm(work, total=total, desc=printable(text, 200), unit=unit, disable=hidden, file=sys.stderr, **kwargs)

"""SIGTERM: a run that is asked to end saves what it has learned and ends, with an exit code of its own.

Knows nothing of what a run is.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: try again


class Terminated(BaseException):
    """A run was asked to end, and has saved what it has learned.

    Like KeyboardInterrupt no ``Exception``: it may come in the middle of anything, and is not to be taken for a fault
    of a file that is being read or written then.
    """


class Termination:
    """Takes note of SIGTERM while it is entered; outside the main thread, where signals don't arrive, of nothing."""

    def __init__(self) -> None:
        self.asked = False
        self._waiting = False

    def __enter__(self) -> Termination:
        self._here = threading.current_thread() is threading.main_thread()
        if self._here:
            self._former = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        if self._here:
            signal.signal(signal.SIGTERM, self._former)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, where there is nothing to be finished first, SIGTERM ends the block at once.

        Raises:
            Terminated: when it comes, or has come.
        """
        self._waiting = True
        try:
            if self.asked:
                raise Terminated
            yield
        finally:
            self._waiting = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self._waiting:
            self._waiting = False  # what follows is not to be interrupted by a second one
            raise Terminated

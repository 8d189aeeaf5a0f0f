"""SIGTERM, as schedulers send it before they take a machine away: the run saves its progress and exits with code 75.

Knows nothing of what a run is.
"""

from __future__ import annotations

import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: try again


class Terminated(BaseException):
    """A run was stopped by SIGTERM and has saved its progress.

    Like KeyboardInterrupt no ``Exception``: it may be raised in the middle of anything, and must not be taken for a
    fault of a file that is being read or written then.
    """


class SigtermHandler:
    """Records SIGTERM while it is entered; outside the main thread, where signals don't arrive, it does nothing.

    Attributes:
        stop_requested: whether SIGTERM has come.
    """

    def __init__(self) -> None:
        self.stop_requested = False
        self._interruptible = False
        self._raised: weakref.ref[Terminated] | None = None  # by the last signal that interrupted

    def __enter__(self) -> SigtermHandler:
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        if self._in_main_thread:
            self._previous = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        if self._in_main_thread:
            signal.signal(signal.SIGTERM, self._previous)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside, where nothing has to be completed first, SIGTERM ends the block at once.

        Where a library drops the exception and goes on, the next SIGTERM raises it again.

        Raises:
            Terminated: when SIGTERM comes, or has come before; at the end of the block, if it was dropped inside.
        """
        self._interruptible = True
        try:
            if self.stop_requested:
                raise Terminated
            yield
            if self.stop_requested:
                raise Terminated
        except Exception as error:
            # Libraries that catch everything, such as diffusers where it reads weights, turn the signal into a fault of
            # the file they were at. A real fault comes again when the run goes on.
            if self.stop_requested:
                raise Terminated from error
            raise
        finally:
            self._interruptible = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.stop_requested = True
        # While an exception is on its way out of the block, a second signal must not interrupt what it passes, nor what
        # follows the block. One that was dropped is deleted.
        on_its_way = self._raised is not None and self._raised() is not None
        if self._interruptible and not on_its_way:
            raised = Terminated()
            self._raised = weakref.ref(raised)
            try:
                raise raised
            finally:
                del raised  # with its traceback it would keep itself alive

"""Reading ahead: an iterator is run in a thread of its own, a few items in front of whoever uses them.

Or only once that pays: what lies in the page cache is read in less time than a thread costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")

_PATIENCE = 0.1  # seconds between two looks at whether it was all given up
_FAREWELL = 5.0  # seconds that a thread has to end in, when what it reads is not wanted any more
_SLOW = 0.005  # seconds that an item may take before it is worth a thread
_SLOW_IN_A_ROW = 2  # the first item often has more to do


def prefetch_if_slow(source: Iterator[T], depth: int, clock: Callable[[], float] = time.perf_counter) -> Generator[T]:
    """The items of ``source``, made when they are asked for until two in a row took over 5 ms; ahead from then on.

    Args:
        source: run in this thread, and perhaps later in another; it is in one of them at a time.
        depth: of reading ahead, 1 or more.
        clock: in seconds.
    """
    slow = 0
    while slow < _SLOW_IN_A_ROW:
        start = clock()
        try:
            item = next(source)
        except StopIteration:
            return
        slow = slow + 1 if clock() - start > _SLOW else 0
        yield item
    yield from prefetch(source, depth)


def prefetch(source: Iterator[T], depth: int, stop: Callable[[], None] = lambda: None) -> Generator[T]:
    """The items of ``source``, of which up to ``depth`` are there before they are asked for.

    Args:
        source: run in another thread; what it raises is raised here.
        depth: 1 or more.
        stop: called when the generator is closed before its end, to end a ``source`` that would go on waiting.
    """
    items: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
    room: SimpleQueue[None] = SimpleQueue()  # a token for each item that may be there
    for _ in range(depth):
        room.put(None)
    given_up = Event()

    def work() -> None:
        try:
            for item in source:
                if not _taken(room, given_up):
                    return
                items.put((True, item))
            items.put((False, None))
        except BaseException as error:
            items.put((False, error))

    ended = False
    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            try:
                more, item = items.get(timeout=_PATIENCE)
            except Empty:
                continue
            if more:
                room.put(None)
                yield item
                continue
            ended = True
            if item is not None:
                raise item
            return
    finally:
        given_up.set()
        if not ended:
            stop()
        thread.join(_FAREWELL)  # a read from a disk that is gone holds its thread, and is not to hold whoever gave up


def _taken(room: SimpleQueue[None], given_up: Event) -> bool:
    """Wait for a token; False if it was all given up meanwhile."""
    while not given_up.is_set():
        try:
            room.get(timeout=_PATIENCE)
            return True
        except Empty:
            continue
    return False

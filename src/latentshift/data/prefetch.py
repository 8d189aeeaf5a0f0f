"""Prefetching: run an iterator in a background thread, a few items ahead of its consumer.

Optionally only once reads are slow: data in the page cache is read in less time than a thread costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1  # how often cancellation is checked
_JOIN_TIMEOUT = 5.0  # seconds that a cancelled thread has to end
_SLOW = 0.005  # seconds: an item that takes longer is worth a thread
_SLOW_IN_A_ROW = 2  # the first item often has more to do


def prefetch_if_slow(source: Iterator[T], depth: int, clock: Callable[[], float] = time.perf_counter) -> Generator[T]:
    """The items of ``source``: read on demand until two in a row take over 5 ms, prefetched from then on.

    Args:
        source: run in the caller's thread first and possibly in another later, never in both at once.
        depth: items to prefetch, 1 or more.
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
    """The items of ``source``, with up to ``depth`` of them prefetched.

    Args:
        source: run in another thread; its exceptions are raised here.
        depth: 1 or more.
        stop: called when the generator is closed early, to unblock a ``source`` that is waiting.
    """
    items: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
    slots: SimpleQueue[None] = SimpleQueue()  # a token for each item that may be queued
    for _ in range(depth):
        slots.put(None)
    cancelled = Event()

    def work() -> None:
        try:
            for item in source:
                if not _acquire(slots, cancelled):
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
                more, item = items.get(timeout=_POLL_SECONDS)
            except Empty:
                continue
            if more:
                slots.put(None)
                yield item
                continue
            ended = True
            if item is not None:
                raise item
            return
    finally:
        cancelled.set()
        if not ended:
            stop()
        thread.join(_JOIN_TIMEOUT)  # a read from a lost disk blocks its thread and must not block the caller


def _acquire(slots: SimpleQueue[None], cancelled: Event) -> bool:
    """Wait for a token; False if cancelled meanwhile."""
    while not cancelled.is_set():
        try:
            slots.get(timeout=_POLL_SECONDS)
            return True
        except Empty:
            continue
    return False

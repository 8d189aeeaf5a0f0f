"""Reading ahead: an iterator is run in a thread of its own, a few items in front of whoever uses them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")

_PATIENCE = 0.1  # seconds between two looks at whether it was all given up


def ahead(source: Iterator[T], depth: int, stop: Callable[[], None] = lambda: None) -> Generator[T]:
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
        thread.join()


def _taken(room: SimpleQueue[None], given_up: Event) -> bool:
    """Wait for a token; False if it was all given up meanwhile."""
    while not given_up.is_set():
        try:
            room.get(timeout=_PATIENCE)
            return True
        except Empty:
            continue
    return False

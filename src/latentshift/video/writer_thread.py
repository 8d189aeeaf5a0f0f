"""A thread that writes chunks of frames while the next ones are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from threading import Thread

import numpy as np


class _NoMoreFramesError(Exception):
    """What the writer meets in place of the next chunk when making it has failed."""


def write_in_thread(chunks: Iterable[np.ndarray], write: Callable[[Iterable[np.ndarray]], None]) -> None:
    """Hand chunks to ``write``, which runs in a thread of its own: it is at one while the next is made here.

    Frames are made in the calling thread: signals arrive there, and torch's process groups expect one thread.

    Args:
        chunks: of frames. What raises here is raised when the writer has ended, which meets an error in place of the
            next chunk.
        write: takes them one by one. What raises there is raised once the chunk that is made meanwhile is complete.
    """
    # All waiting is at queues in C: a signal in the middle of a lock of Python's would leave it held, and the other
    # thread waiting for ever.
    queue = SimpleQueue[np.ndarray | _NoMoreFramesError | None]()
    room, ended = SimpleQueue[None](), SimpleQueue[BaseException | None]()
    room.put(None)

    def handed_over() -> Iterator[np.ndarray]:
        while (chunk := queue.get()) is not None:
            if isinstance(chunk, _NoMoreFramesError):
                raise chunk
            yield chunk
            room.put(None)

    def run() -> None:
        error: BaseException | None = None
        try:
            write(handed_over())
        except BaseException as raised:
            error = raised
        ended.put(error)
        room.put(None)  # whatever it has not taken

    thread = Thread(target=run, name="writer", daemon=True)  # an interpreter that ends does not wait for it
    started = False
    try:
        thread.start()
        started = True
        for chunk in chunks:
            room.get()
            if not ended.empty():
                break
            queue.put(chunk)
            del chunk  # not to be kept while the next is made
        queue.put(None)
        error = ended.get()
    except BaseException:
        queue.put(_NoMoreFramesError("the frames end here"))
        if started:
            thread.join()
        raise
    thread.join()
    if error is not None:
        raise error

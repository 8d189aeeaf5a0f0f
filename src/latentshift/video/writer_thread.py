"""A thread that writes chunks of frames while the next ones are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Semaphore

import numpy as np


class _NoMoreFramesError(Exception):
    """What the writer meets in place of the next chunk when making it has failed."""


def write_in_thread(chunks: Iterable[np.ndarray], write: Callable[[Iterable[np.ndarray]], None]) -> None:
    """Hand chunks to ``write``, which runs in a thread of its own: it is at one while the next is made here.

    They are made here and not there, since this may be the main thread, where signals arrive and where torch has its
    workers and processes of a group talk to each other.

    Args:
        chunks: of frames. What raises here is raised when the writer has ended, which meets an error in place of the
            next chunk.
        write: takes them one by one. What raises there is raised once the chunk that is made meanwhile is complete.
    """
    queue = SimpleQueue[np.ndarray | _NoMoreFramesError | None]()
    room = Semaphore()

    def handed_over() -> Iterator[np.ndarray]:
        while (chunk := queue.get()) is not None:
            if isinstance(chunk, _NoMoreFramesError):
                raise chunk
            yield chunk
            room.release()

    with ThreadPoolExecutor(1, thread_name_prefix="writer") as executor:
        written: Future[None] = executor.submit(write, handed_over())
        written.add_done_callback(lambda _: room.release())  # whatever it has not taken
        try:
            for chunk in chunks:
                room.acquire()
                if written.done():
                    break
                queue.put(chunk)
                del chunk  # not to be kept while the next is made
            queue.put(None)
        except BaseException:
            queue.put(_NoMoreFramesError("the frames end here"))
            raise
        written.result()

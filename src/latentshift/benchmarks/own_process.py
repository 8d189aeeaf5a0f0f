"""A call in a process of its own, so that its memory and its first use of everything are nobody else's.

However the caller's process ends, the other one ends with it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import Connection
from threading import Thread
from typing import TypeVar

T = TypeVar("T")

# What the calls need and takes seconds to import; torch and diffusers with it.
_PRELOADED = "latentshift.benchmarks.generation.time_model"

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler reports each start and stop, once torch is imported
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns, when imported, of missing optional libraries


def in_own_process(what: str, call: Callable[..., T], *arguments: object) -> T:
    """``call(*arguments)`` in a new process, which ends afterwards; what it raises is raised here.

    The process is forked from one that has imported the libraries and has done nothing else, so that imports are not
    done again each time.

    Args:
        what: is done, for the message if the process ends without an answer.
        call: a function of a module.
        *arguments: that can be pickled.

    Raises:
        ValueError: if the process ended without an answer.
    """
    server = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if server else "spawn")
    if server:
        context.set_forkserver_preload([__name__, _PRELOADED])
    alive, ours = context.Pipe(duplex=False)
    with alive, ours, ProcessPoolExecutor(1, context, _end_with_caller, (alive,)) as pool:
        try:
            return pool.submit(call, *arguments).result()
        except BrokenProcessPool:
            raise ValueError(
                f"the process that was to do {what} ended without an answer, most likely killed for lack of memory: "
                "choose a smaller model or fewer frames"
            ) from None


def _end_with_caller(alive: Connection) -> None:
    """End this process when the other end of the pipe is closed, as it is when the process that holds it is killed.

    Nothing else would: the process waits for its next call on a pipe that it holds both ends of, and the server that it
    was forked from waits for it.
    """

    def watch() -> None:
        with suppress(EOFError, OSError):
            alive.recv()
        os._exit(1)

    Thread(target=watch, daemon=True).start()

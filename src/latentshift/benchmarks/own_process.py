"""A call in a process of its own, so that its memory and its first use of everything are nobody else's."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

T = TypeVar("T")

# What the calls need and takes seconds to import; torch and diffusers with it.
_PRELOADED = "latentshift.benchmarks.generation_timing"

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
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(call, *arguments).result()
        except BrokenProcessPool:
            raise ValueError(
                f"the process that was to do {what} ended without an answer, most likely killed for lack of memory: "
                "choose a smaller model or fewer frames"
            ) from None

"""Work that the main process of a run does alone, of any length, while the others wait for it.

Collectives wait no longer than a limit, since a process that hangs looks like one that is late. Here the main process
gives signs of life meanwhile, and the limit is on how long there are none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count
from typing import Any

from accelerate import Accelerator
from torch.distributed.rendezvous import rendezvous

from latentshift.process_group import RankError, other_rank
from latentshift.training.distributed import RANK_TIMEOUT

_MOST_SECONDS_BETWEEN_SIGNS = 5.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5  # seconds between two looks; between them, a tenth of the wait so far
_WHO = "the main process of this run"

_places = count()  # the same ones in each process, which come to them in the same order
_known_store: Any = None


@contextmanager
def main_process_alone(accelerator: Accelerator) -> Iterator[bool]:
    """The main process does the block; the others are given False, do nothing, and wait until it has.

    To be entered by all processes.

    Raises:
        RankError: if the main process ends, or gives no sign of life for as long as the run's limit.
    """
    if accelerator.num_processes == 1:
        yield True
        return
    timeout: timedelta = accelerator.init_handler.timeout
    with other_rank(_WHO, timeout, RANK_TIMEOUT):
        store = _store(timeout)
    place = f"latentshift/alone/{next(_places)}"
    if not accelerator.is_main_process:
        yield False
        with other_rank(_WHO, timeout, RANK_TIMEOUT):
            _wait(store, place, timeout)
        return
    try:
        with _signs_of_life(store, place, timeout):
            yield True
    finally:  # where it failed, it is about to end, and the others see that at the next collective
        with suppress(RuntimeError):
            store.set(f"{place}/done", "1")


@contextmanager
def _signs_of_life(store: Any, place: str, timeout: timedelta) -> Iterator[None]:
    ended = threading.Event()

    def beat() -> None:
        with suppress(RuntimeError):  # whoever kept the store is gone: the next collective says so
            while not ended.wait(min(_MOST_SECONDS_BETWEEN_SIGNS, timeout.total_seconds() / 4)):
                store.add(f"{place}/signs", 1)

    beating = threading.Thread(target=beat, name="signs of life", daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()


def _wait(store: Any, place: str, timeout: timedelta) -> None:
    begun = since = time.monotonic()
    signs = 0
    while not store.check([f"{place}/done"]):
        if (now := store.add(f"{place}/signs", 0)) != signs:
            signs, since = now, time.monotonic()
        elif time.monotonic() - since > timeout.total_seconds():
            limit = timeout.total_seconds()
            raise RankError(f"{_WHO} gave no sign of life for {limit:g} seconds ({RANK_TIMEOUT} sets the limit)")
        time.sleep(min(_LONGEST_PAUSE, max(_SHORTEST_PAUSE, (time.monotonic() - begun) / 10)))


def _store(timeout: timedelta) -> Any:
    """A connection of its own to where the processes met."""
    global _known_store
    if _known_store is None:
        _known_store = next(rendezvous("env://", timeout=timeout))[0]
    return _known_store

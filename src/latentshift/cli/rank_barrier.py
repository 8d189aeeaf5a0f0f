"""Processes that share clips or videos out, and wait for each other only at places on the way.

One may take hours longer than another, so what is limited is how long one of those that are missing gives no sign of
life. While a process goes through its share, its signs are the items that it finishes; at other times, as while a model
is loaded, a thread gives them.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from latentshift.process_group import RankError, other_rank

RANK_TIMEOUT = "--rank-timeout"
_MOST_SECONDS_BETWEEN_SIGNS = 5.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5  # seconds between two looks; between them, a tenth of the wait so far

Item = TypeVar("Item")


def meet(device: str, timeout: timedelta) -> Any:
    """accelerate's ``PartialState`` of this process, once those that a launcher started with it have come.

    Args:
        device: ``cpu``, or any other: accelerate's choice.
        timeout: how long the others are waited for.

    Raises:
        RankError: if one does not come.
    """
    from accelerate import PartialState

    if "RANK" not in os.environ:
        return PartialState(cpu=device == "cpu")
    with other_rank("one of the ranks", timeout, RANK_TIMEOUT):
        return PartialState(cpu=device == "cpu", timeout=timeout)


class RankBarrier:
    """Where the processes of a launcher wait for each other.

    Args:
        state: accelerate's ``PartialState``, of processes that have met.
        timeout: how long a process that is missing may give no sign of life.

    Raises:
        RankError: if the store where they met can't be reached.
    """

    def __init__(self, state: Any, timeout: timedelta) -> None:
        self._number, self._count, self._timeout = state.process_index, state.num_processes, timeout
        self._waits, self._signs_by_item, self._last_sign = 0, False, 0.0
        if self._count == 1:
            return
        import torch.distributed
        from torch.distributed.rendezvous import rendezvous

        dist: Any = torch.distributed
        with self._others():
            self._store: Any = dist.PrefixStore("barrier", next(rendezvous("env://", timeout=timeout))[0])
        atexit.register(self.end)
        threading.Thread(target=self._beat, name="signs of life", daemon=True).start()

    def items(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items of this process's share as they are finished, each a sign of life."""
        self._signs_by_item = True
        try:
            for item in items:
                self._sign()
                yield item
        finally:
            self._signs_by_item = False

    def end(self) -> None:
        """Let those who wait for this process know that it won't come; by itself when it ends, unless it is killed."""
        with suppress(RuntimeError):  # nobody is left
            self._store.set(f"ended/{self._number}", "1")

    def wait(self) -> None:
        """Until all processes have come here; to be called by all, equally often.

        Raises:
            RankError: if one of those that are missing has ended, or gave no sign of life for as long as the limit.
        """
        if self._count == 1:
            return
        self._waits += 1
        with self._others():
            self._wait_for(f"come/{self._waits}")
            if self._number == 0:  # who may keep the store, and ends last
                self._wait_for(f"gone/{self._waits}")
            else:
                self._store.set(f"gone/{self._waits}/{self._number}", "1")

    def _wait_for(self, place: str) -> None:
        self._store.set(f"{place}/{self._number}", "1")
        begun = time.monotonic()
        heard = dict.fromkeys(range(self._count), (-1, begun))
        missing = list(heard)
        while missing := [number for number in missing if not self._store.check([f"{place}/{number}"])]:
            for number in missing:
                if self._store.check([f"ended/{number}"]) and not self._store.check([f"{place}/{number}"]):
                    raise RankError(f"rank {number} of {self._count} has ended too early: its own message says why")
                signs, since = heard[number]
                if (now := self._store.add(f"signs/{number}", 0)) != signs:
                    heard[number] = now, time.monotonic()
                elif time.monotonic() - since > self._timeout.total_seconds():
                    limit = self._timeout.total_seconds()
                    raise RankError(
                        f"rank {number} of {self._count} gave no sign of life for {limit:g} seconds: it hangs or has "
                        f"ended ({RANK_TIMEOUT} sets the limit)"
                    )
            time.sleep(min(_LONGEST_PAUSE, max(_SHORTEST_PAUSE, (time.monotonic() - begun) / 10)))

    def _sign(self) -> None:
        if self._count > 1 and time.monotonic() - self._last_sign > self._seconds_between_signs():
            self._last_sign = time.monotonic()
            self._store.add(f"signs/{self._number}", 1)

    def _beat(self) -> None:
        with suppress(RuntimeError):  # whoever kept the store is gone: the next wait says so
            while True:
                if not self._signs_by_item:
                    self._store.add(f"signs/{self._number}", 1)
                time.sleep(self._seconds_between_signs())

    def _seconds_between_signs(self) -> float:
        return min(_MOST_SECONDS_BETWEEN_SIGNS, self._timeout.total_seconds() / 4)

    def _others(self) -> Any:
        return other_rank(f"one of {self._count} ranks", self._timeout, RANK_TIMEOUT)

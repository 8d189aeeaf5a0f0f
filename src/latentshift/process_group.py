"""Processes of torch.distributed that wait for one another: how long, and what is said where one does not come.

Imports no torch.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from latentshift.preemption import SigtermHandler

_MOST_DAYS = 30
# As gloo, NCCL and torch's store put it, in lower case.
_LATE = ("timed out waiting", "timed out after", "wait timeout", "operation timeout", "application timeout")
_CLOSED = ("closed by peer", "reset by peer", "broken pipe", "connection refused", "failed to recv", "pair closure")
_DRAIN_SECONDS = 0.5
_NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")


class RankError(ConnectionError):
    """Another process has ended, or didn't answer in time; the processes can't go on together."""


@dataclass(frozen=True)
class LaunchedProcess:
    """This process among those that a launcher has started, alone if it was started by itself.

    Attributes:
        rank: of this process, 0 … ``count`` - 1.
        local_rank: among those on this machine.
        count: of all.
    """

    rank: int = 0
    local_rank: int = 0
    count: int = 1

    @staticmethod
    def from_environment(command: str) -> LaunchedProcess:
        """As the environment says.

        Args:
            command: to be launched, for messages: ``generate …``.

        Raises:
            ValueError: for an environment that no launcher makes.
        """
        start = f"start several processes with torchrun --nproc-per-node=N -m latentshift {command}"
        count = _number("WORLD_SIZE", 1, start)
        if count == 1:
            return LaunchedProcess()
        if missing := [name for name in _NEEDED if not os.environ.get(name)]:
            raise ValueError(f"the environment has WORLD_SIZE={count} and no {missing[0]}: {start}")
        rank = _number("RANK", 0, start)
        if rank >= count:
            raise ValueError(f"the environment has RANK={rank} and WORLD_SIZE={count}: {start}")
        _number("MASTER_PORT", 0, start)
        return LaunchedProcess(rank, _number("LOCAL_RANK", rank, start), count)


def check_timeout(seconds: float, name: str) -> timedelta:
    """The limit as torch takes it.

    Args:
        seconds: how long a process waits for another.
        name: of the setting, for the message.

    Raises:
        ValueError: unless it is above 0, and no more than 30 days.
    """
    if not (math.isfinite(seconds) and 0 < seconds <= _MOST_DAYS * 86_400):
        raise ValueError(
            f"{name} must be above 0 and at most {_MOST_DAYS * 86_400:,} seconds ({_MOST_DAYS} days), not {seconds:g}"
        )
    return timedelta(seconds=seconds)


@contextmanager
def other_rank(who: str, timeout: timedelta, setting: str) -> Iterator[None]:
    """Inside, a RuntimeError of torch.distributed about another process becomes a RankError.

    Args:
        who: the other one, e.g. ``rank 1 of 4``.
        timeout: of the group.
        setting: which sets it, for the message.
    """
    try:
        yield
    except RuntimeError as error:
        words = str(error).lower()
        if any(sign in words for sign in _LATE):
            limit = timeout.total_seconds()
            raise RankError(f"{who} did not answer within {limit:g} seconds ({setting} sets the limit)") from error
        if any(sign in words for sign in _CLOSED):
            raise RankError(f"{who} has ended too early: its own message says why, or it was killed") from error
        raise


def drain_process_group() -> None:
    """Give the threads of process groups the time to release the tensors of the last collective.

    They need the interpreter for it. Whoever destroys the group holds the interpreter and waits for its threads, so
    doing that right after a collective would wait forever (docs/log.md, 2026-11-22).
    """
    with SigtermHandler():  # a second SIGTERM finds everything saved, and must not hide how the first ended the run
        time.sleep(_DRAIN_SECONDS)


def _number(name: str, default: int, start: str) -> int:
    value = os.environ.get(name, "").strip()
    if not value:
        return default
    if not value.isdecimal():
        raise ValueError(f"the environment has {name}={value}, which is no whole number: {start}")
    return int(value)

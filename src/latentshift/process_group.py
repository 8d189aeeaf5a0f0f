"""Processes of torch.distributed that wait for one another: how long, and what is said where one does not come.

Imports no torch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from latentshift.preemption import SigtermHandler

_MOST_DAYS = 30
# As gloo, NCCL and torch's store put it, in lower case.
_LATE = ("timed out waiting", "timed out after", "wait timeout", "operation timeout", "application timeout")
_CLOSED = ("closed by peer", "reset by peer", "broken pipe", "connection refused", "failed to recv", "pair closure")
_DRAIN_SECONDS = 0.5


class RankError(ConnectionError):
    """Another process has ended, or didn't answer in time; the processes can't go on together."""


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

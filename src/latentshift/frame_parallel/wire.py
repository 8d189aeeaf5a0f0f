"""Tensors between two processes, with a limit on how long one waits for the other; their bytes are counted.

Knows no frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_CLOSED = ("closed by peer", "reset by peer", "broken pipe", "connection refused", "socket closed", "pair closure")


class RankError(ConnectionError):
    """Another process of the group has ended, or didn't answer in time; the group can't be used any more."""


@dataclass
class Traffic:
    """Bytes that this process has sent since it was last set to 0.

    Attributes:
        edges: channels of frames at the boundaries between processes, in the U-Net's passes.
        guidance: predictions for the prompts or for what to avoid.
        gathered: latents or finished frames, to the first process.
    """

    edges: int = 0
    guidance: int = 0
    gathered: int = 0


def check_timeout(seconds: float, name: str) -> timedelta:
    """The limit as torch takes it.

    Raises:
        ValueError: unless it is a number of seconds above 0, and no more than 30 days.
    """
    if not (math.isfinite(seconds) and 0 < seconds <= 30 * 86_400):
        raise ValueError(f"{name} must be above 0 and at most 2,592,000 seconds (30 days), not {seconds:g}")
    return timedelta(seconds=seconds)


@contextmanager
def other_rank(who: str, timeout: timedelta) -> Iterator[None]:
    """Inside, a failure of torch.distributed becomes a RankError that names the other process.

    Args:
        who: e.g. ``rank 1 of 4``.
        timeout: of the group.
    """
    try:
        yield
    except RuntimeError as error:
        if any(sign in str(error).lower() for sign in _CLOSED):
            raise RankError(f"{who} has ended before the video was complete; its own message says why") from error
        raise RankError(
            f"{who} did not answer within {timeout.total_seconds():g} seconds, the limit that --rank-timeout, or "
            "timeout in Python, sets"
        ) from error


class Wire:
    """Two processes that send one another a tensor each, any number of times and in the same order.

    Args:
        group: of these two.
        who: the other one, for messages.
        timeout: of the group.
        count: is told the bytes of each tensor that is sent.
    """

    def __init__(self, group: Any, who: str, timeout: timedelta, count: Callable[[int], None]) -> None:
        self._group = group
        self._who = who
        self._timeout = timeout
        self._count = count

    def hand_over(self, outgoing: Tensor, like: Tensor) -> Callable[[], Tensor]:
        """Begin to send ``outgoing`` and to receive a tensor of the shape and dtype of ``like``.

        One without elements is neither sent nor waited for.

        Returns:
            A function that waits for both and returns what came; to be called in the order of these calls.
        """
        sent = outgoing.clone(memory_format=torch.contiguous_format)
        received = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        peer = 1 - dist.get_rank(self._group)
        operations = [
            dist.P2POp(operation, tensor, group=self._group, group_peer=peer)
            for operation, tensor in ((dist.isend, sent), (dist.irecv, received))
            if tensor.numel()
        ]
        self._count(sent.nbytes)
        with other_rank(self._who, self._timeout):
            begun = dist.batch_isend_irecv(operations) if operations else []

        def wait() -> Tensor:
            with other_rank(self._who, self._timeout):
                for work in begun:
                    work.wait()
            return received

        return wait

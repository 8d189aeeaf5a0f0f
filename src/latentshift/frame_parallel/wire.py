"""Tensors between two processes, with a limit on how long one waits for the other; their bytes are counted.

Knows no frames.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from latentshift.process_group import other_rank


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


def waiting_for(who: str, timeout: timedelta) -> AbstractContextManager[None]:
    """Inside, it is a RankError if ``who`` is gone or late."""
    return other_rank(who, timeout, "--rank-timeout, in Python timeout,")


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
        with waiting_for(self._who, self._timeout):
            begun = dist.batch_isend_irecv(operations) if operations else []

        def wait() -> Tensor:
            with waiting_for(self._who, self._timeout):
                for work in begun:
                    work.wait()
            return received

        return wait

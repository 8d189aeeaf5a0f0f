"""The processes that make one video, seen from one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from latentshift.frame_parallel.agreement import check_agreement
from latentshift.frame_parallel.layout import BACKENDS, EVERYONE, FRAMES, GUIDANCE, Layout, connect
from latentshift.frame_parallel.split import split_frames
from latentshift.frame_parallel.wire import Traffic, Wire, waiting_for
from latentshift.models.frame_chunks import Ends
from latentshift.process_group import check_timeout


class FrameRanks:
    """A process group that makes videos together. To be made by all processes, each with its own group.

    Args:
        group: of torch.distributed; None: all processes.
        device_type: ``"cpu"``, which uses gloo, or ``"cuda"``, NCCL.
        guidance_parallel: whether half of the processes predict for the prompt and half for what to avoid.
        timeout: seconds that a process waits for another.

    Attributes:
        rank: this process's number in the group.
        parts: R, into which frames are split.
        part: this process's, 0 … R - 1.
        half: 0 predicts for what to avoid and 1 for the prompt; None without guidance over ranks.
        device_type: as given.
        traffic: what this process has sent.
        everyone: a group of all for tensors on the CPU.

    Raises:
        ValueError: for a wrong argument, or if torch.distributed is not initialised.
        RankError: if another process does not come.
    """

    def __init__(self, group: Any, device_type: str, *, guidance_parallel: bool, timeout: float) -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise ValueError(
                "torch.distributed is not initialised: start the processes with torchrun, and call "
                "torch.distributed.init_process_group() first"
            )
        if device_type not in BACKENDS:
            raise ValueError(f"frames can't be split over devices of the type {device_type!r}: cpu and cuda only")
        self.rank = dist.get_rank(group)
        if self.rank < 0:
            raise ValueError("this process is not one of the group")
        ranks = tuple(dist.get_process_group_ranks(group or dist.group.WORLD))
        layout = Layout(ranks, guidance_parallel, device_type, check_timeout(timeout, "timeout"))
        self.device_type = device_type
        self.parts = layout.parts
        self.part = self.rank % self.parts
        self.half = self.rank // self.parts if guidance_parallel else None
        self.traffic = Traffic()
        self._count = len(ranks)
        self._timeout = layout.timeout
        with self._others():
            groups = connect(layout)
        self.everyone = groups.pop((EVERYONE, 0))
        first = (self.half or 0) * self.parts  # of this half
        self._wires: dict[tuple[str, int], Wire] = {}
        for (kind, part), pair in groups.items():
            if kind == FRAMES:
                peer = first + (part if part != self.part else (part + 1) % self.parts)
                self._wires[kind, part] = Wire(pair, self._name(peer), self._timeout, self._count_edges)
            else:
                peer = (self.rank + self.parts) % self._count
                self._wires[kind, part] = Wire(pair, self._name(peer), self._timeout, self._count_guidance)

    @property
    def is_first(self) -> bool:
        """Whether finished videos are gathered here."""
        return self.rank == 0

    def check_agreement(self, facts: Mapping[str, Any]) -> None:
        """:func:`latentshift.frame_parallel.agreement.check_agreement` of all processes."""
        with self._others():
            check_agreement(facts, self.everyone)

    def ends(self, *, ring: bool) -> Ends:
        """What lies beyond this process's frames."""
        if self.parts == 1:  # if they are a ring, it closes here
            return Ends()
        has_before, has_after = self.part > 0 or ring, self.part < self.parts - 1 or ring
        return Ends(
            self._wires[FRAMES, (self.part - 1) % self.parts].hand_over if has_before else None,
            self._wires[FRAMES, self.part].hand_over if has_after else None,
        )

    def exchange_predictions(self, own: Tensor) -> Tensor:
        """The prediction of the other half for the same frames, against this one's."""
        return self._wires[GUIDANCE, self.part].hand_over(own, own)()

    def gather(self, own: Tensor, num_frames: int) -> Tensor | None:
        """Frames (B, f, …) of all processes as (B, F, …) on the CPU of the first one; None in the others."""
        if self.half:  # the other half has the same
            return None
        if not self.is_first:
            self._send(own)
            return None
        parts = [own.cpu()]
        for number, frames in enumerate(split_frames(num_frames, self.parts)[1:], start=1):
            shape = (len(own), frames.stop - frames.start, *own.shape[2:])
            parts.append(self._receive(shape, own.dtype, number))
        return torch.cat(parts, dim=1)

    def in_order(self, chunks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Chunks (n, H, W, 3) of a video's frames, uint8, those of all processes in the first one; none in others.

        Args:
            chunks: of this process's frames; made as they are asked for.
        """
        if self.half:
            return
        for chunk in chunks:
            if self.is_first:
                yield chunk
            else:
                self._send(torch.tensor(chunk.shape), counted=False)
                self._send(torch.from_numpy(np.ascontiguousarray(chunk)))
        if not self.is_first:
            self._send(torch.zeros(4, dtype=torch.int64), counted=False)
            return
        for number in range(1, self.parts):
            while (shape := tuple(self._receive((4,), torch.int64, number).tolist()))[0]:
                yield self._receive(shape, torch.uint8, number).numpy()

    def wait_for_all(self) -> None:
        """Until every process has come here."""
        with self._others():
            dist.all_reduce(torch.zeros(1), group=self.everyone)

    def _others(self) -> AbstractContextManager[None]:
        return waiting_for(f"one of {self._count} ranks", self._timeout)

    def _name(self, number: int) -> str:
        return f"rank {number} of {self._count}"

    def _count_edges(self, sent: int) -> None:
        self.traffic.edges += sent

    def _count_guidance(self, sent: int) -> None:
        self.traffic.guidance += sent

    def _send(self, tensor: Tensor, *, counted: bool = True) -> None:
        sent = tensor.cpu().contiguous()
        if counted:
            self.traffic.gathered += sent.nbytes
        with waiting_for(self._name(0), self._timeout):
            dist.send(sent, group=self.everyone, group_dst=0)

    def _receive(self, shape: tuple[int, ...], dtype: torch.dtype, number: int) -> Tensor:
        received = torch.empty(shape, dtype=dtype)
        with waiting_for(self._name(number), self._timeout):
            dist.recv(received, group=self.everyone, group_src=number)
        return received

"""How the processes of a video share its frames, and the process groups that they send over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from latentshift.frame_parallel.split import count_parts

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
EVERYONE, FRAMES, GUIDANCE = "everyone", "frames", "guidance"

# Made once, and kept until torch.distributed is taken down: a group that is destroyed may wait for its own threads.
_made: tuple[Any, dict[Any, Any]] = (None, {})


@dataclass(frozen=True)
class Layout:
    """The processes of one video, as R parts of the frames and one or two halves that have each of them.

    Attributes:
        ranks: among all processes, in order.
        guidance_parallel: whether there are two halves.
        device_type: of the model.
        timeout: of the groups.
    """

    ranks: tuple[int, ...]
    guidance_parallel: bool
    device_type: str
    timeout: timedelta

    @property
    def parts(self) -> int:
        """R."""
        return count_parts(len(self.ranks), guidance_parallel=self.guidance_parallel)

    def groups(self) -> Iterator[tuple[tuple[str, int], list[int], str]]:
        """Name, ranks and backend of each process group.

        Each boundary between frames has one of its own: with NCCL none waits for another's then, and two processes in a
        ring have two.
        """
        backend = BACKENDS[self.device_type]
        yield (EVERYONE, 0), list(self.ranks), "gloo"
        for half in range(1 + self.guidance_parallel):
            own = self.ranks[half * self.parts : (half + 1) * self.parts]
            for part in range(self.parts if self.parts > 1 else 0):
                yield (FRAMES, part), [own[part], own[(part + 1) % self.parts]], backend
        if self.guidance_parallel:
            for part in range(self.parts):
                yield (GUIDANCE, part), [self.ranks[part], self.ranks[part + self.parts]], backend


def connect(own: Layout) -> dict[tuple[str, int], Any]:
    """The groups of a layout that this process is in, by name; to be called by all processes, each with its own layout.

    Raises:
        ValueError: in all, if processes of one video have different layouts.
    """
    layouts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(layouts, own)
    for layout in layouts:
        if any(layouts[rank] != layout for rank in layout.ranks):
            raise ValueError(
                "the processes of one video differ in group, guidance_parallel, device or timeout: call "
                "enable_frame_parallel with the same arguments in each"
            )
    known, here, mine = _groups_of(dist.group.WORLD), dist.get_rank(), {}
    for layout in dict.fromkeys(layouts):
        for name, ranks, backend in layout.groups():
            key = name, tuple(ranks), backend, layout.timeout
            if key not in known:  # in all processes or in none
                known[key] = dist.new_group(ranks, timeout=layout.timeout, backend=backend)
            if layout == own and here in ranks:
                mine[name] = known[key]
    return mine


def disconnect() -> None:
    """Take torch.distributed down, with the groups of layouts."""
    global _made
    _made = (None, {})
    dist.destroy_process_group()


def _groups_of(world: Any) -> dict[Any, Any]:
    global _made
    if _made[0] is not world:
        _made = (world, {})
    return _made[1]

"""Calls of one U-Net on consecutive chunks of videos, in turns: together they give what one call on all frames gives.

Layers that shift are all that looks at other frames, and each looks one frame ahead and one back. So a chunk stops at
each of them until both neighbours have come there too, takes their edges, and goes on. A new chunk starts only where no
other can go on: with N such layers at most N + 1 chunks are under way, each a layer behind the one before it, and
memory does not grow with the number of frames. In a ring, where the first chunk follows the last, N more wait for it.

The calls are stock forward passes, interrupted inside those layers. They are greenlets, which take turns in one thread:
what torch keeps for a thread (gradient mode, autocast, dispatch modes, its workers) is there for all of them.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from itertools import pairwise

from greenlet import getcurrent, greenlet
from torch import Tensor

from latentshift.frame_context import FrameContext


def run_in_turns(context: FrameContext, calls: Sequence[Callable[[], Tensor]], *, ring: bool) -> list[Tensor]:
    """Call each function once, in turns, in this thread.

    Args:
        context: of the U-Net, which every function calls once.
        calls: for consecutive chunks of the same videos.
        ring: whether the first chunk follows the last (circular padding).

    Returns:
        What they return, in order. If one raises, all are stopped.
    """
    chunks = [_Chunk(context, call) for call in calls]
    for before, after in pairwise(chunks):
        before.next, after.previous = after, before
    if ring:
        chunks[-1].next, chunks[0].previous = chunks[0], chunks[-1]
    to_start, under_way = iter(chunks), list[_Chunk]()
    try:
        while True:
            chunk = next((each for each in under_way if each.can_go_on), None)
            if chunk is None:
                if (chunk := next(to_start, None)) is None:
                    break
                under_way.append(chunk)
            if chunk.go_on():
                under_way.remove(chunk)
        assert not under_way, "chunks came to different numbers of layers"
    finally:
        for chunk in under_way:
            chunk.stop()
    return [chunk.output for chunk in chunks if chunk.output is not None]


class _Chunk:
    """One call, and what its neighbours have left for it.

    Attributes:
        reached: how many layers it has come to.
        from_previous: layer -> what it takes there from the chunk before; from_next likewise.
    """

    def __init__(self, context: FrameContext, call: Callable[[], Tensor]) -> None:
        self.previous: _Chunk | None = None
        self.next: _Chunk | None = None
        self.reached = 0
        self.from_previous: dict[int, Tensor] = {}
        self.from_next: dict[int, Tensor] = {}
        self.output: Tensor | None = None
        self._context = context
        self._state = context.state_of_a_part(self._exchange)
        self._scheduler = getcurrent()
        self._greenlet = greenlet(call)
        self._greenlet.gr_context = contextvars.copy_context()

    @property
    def can_go_on(self) -> bool:
        return all(other is None or other.reached >= self.reached for other in (self.previous, self.next))

    def go_on(self) -> bool:
        """Start, or go on, to the next layer where it has to wait, or to the end; whether it is there."""
        with self._context.switched_to(self._state):
            returned = self._greenlet.switch()
        if self._greenlet.dead:
            self.output = returned
        return self._greenlet.dead

    def stop(self) -> None:
        with self._context.switched_to(self._state):
            self._greenlet.throw()

    def _exchange(self, to_previous: Tensor, to_next: Tensor) -> tuple[Tensor | None, Tensor | None]:
        layer, self.reached = self.reached, self.reached + 1
        # Copies: views would keep all channels of all frames.
        if self.previous is not None:
            self.previous.from_next[layer] = to_previous.clone()
        if self.next is not None:
            self.next.from_previous[layer] = to_next.clone()
        while not self.can_go_on:
            self._scheduler.switch()
        return self.from_previous.pop(layer, None), self.from_next.pop(layer, None)

"""Calls of one U-Net on consecutive chunks of videos, in turns: together they give what one call on all frames gives.

Layers that shift are all that looks at other frames, and each looks one frame ahead and one back. So a chunk stops at
each of them until both neighbours have come there too, takes their edges, and goes on. A new chunk starts only where no
other can go on: with N such layers at most N + 1 chunks are under way, each a layer behind the one before it, and
memory does not grow with the number of frames. In a ring, where the first chunk follows the last, N more wait for it.

What lies beyond the first and the last chunk may be elsewhere, in another process (:class:`Ends`). While its edge is on
the way the other chunks are at work. Chunks start at such ends then, and meet in the middle: N more wait here too.

The calls are stock forward passes, interrupted inside those layers. They are greenlets, which take turns in one thread:
what torch keeps for a thread (gradient mode, autocast, dispatch modes, its workers) is there for all of them.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from greenlet import getcurrent, greenlet
from torch import Tensor

from latentshift.frame_context import FrameContext

HandOver = Callable[[Tensor, Tensor], Callable[[], Tensor]]
"""Begins to send the first tensor, and to receive one of the second's shape and dtype; what it returns waits for both,
and returns what came."""


@dataclass(frozen=True)
class Ends:
    """What lies beyond the chunks, where that is elsewhere; None: nothing, and the padding says what stands there."""

    before: HandOver | None = None
    after: HandOver | None = None


def run_in_turns(
    context: FrameContext, calls: Sequence[Callable[[], Tensor]], *, ring: bool, ends: Ends = Ends()
) -> list[Tensor]:
    """Call each function once, in turns, in this thread.

    Args:
        context: of the U-Net, which every function calls once.
        calls: for consecutive chunks of the same videos.
        ring: whether the first of these chunks follows the last (circular padding).
        ends: what lies beyond them; not for a ring.

    Returns:
        What they return, in order. If one raises, all are stopped.
    """
    chunks = [_Chunk(context, call) for call in calls]
    for before, after in pairwise(chunks):
        before.next, after.previous = after, before
    if ring:
        chunks[-1].next, chunks[0].previous = chunks[0], chunks[-1]
    chunks[0].before, chunks[-1].after = ends.before, ends.after
    to_start, under_way = _starting_order(chunks), list[_Chunk]()
    try:
        while to_start or under_way:
            chunk = _to_go_on(under_way, may_start=bool(to_start))
            if chunk is None:
                assert to_start, "chunks came to different numbers of layers"
                under_way.append(chunk := to_start.pop(0))
            if chunk.go_on():
                under_way.remove(chunk)
    finally:
        for chunk in under_way:
            chunk.stop()
    return [chunk.output for chunk in chunks if chunk.output is not None]


def _starting_order(chunks: Sequence[_Chunk]) -> list[_Chunk]:
    """From the ends where something is elsewhere, which is not to wait for all the others."""
    if chunks[-1].after is None:
        return list(chunks)
    if chunks[0].before is None:
        return list(reversed(chunks))
    inwards = sorted(range(len(chunks)), key=lambda index: min(index, len(chunks) - 1 - index))
    return [chunks[index] for index in inwards]


def _to_go_on(under_way: Sequence[_Chunk], *, may_start: bool) -> _Chunk | None:
    """The chunk to go on with; None: start another."""
    ready = [chunk for chunk in under_way if chunk.can_go_on]
    free = next((chunk for chunk in ready if not chunk.on_the_way), None)
    if free is not None or not ready or (may_start and len(under_way) == 1):
        return free
    # The one that is furthest behind: the others, here and beyond, may wait for it.
    return min(ready, key=lambda chunk: chunk.reached)


class _Chunk:
    """One call, and what its neighbours have left for it.

    Attributes:
        before: hands over to what precedes these chunks elsewhere, of the first one; after likewise, of the last one.
        reached: how many layers it has come to.
        on_the_way: whether edges from elsewhere are to be waited for before it goes on.
        from_previous: layer -> what it takes there from the chunk before; from_next likewise.
    """

    def __init__(self, context: FrameContext, call: Callable[[], Tensor]) -> None:
        self.previous: _Chunk | None = None
        self.next: _Chunk | None = None
        self.before: HandOver | None = None
        self.after: HandOver | None = None
        self.reached = 0
        self.on_the_way = False
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
        """Whether the chunks beside it have come as far."""
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
        # What comes from one side has the shape of what goes to the other.
        from_before = None if self.before is None else self.before(to_previous, to_next)
        from_after = None if self.after is None else self.after(to_next, to_previous)
        self.on_the_way = from_before is not None or from_after is not None
        if self.on_the_way:
            self._scheduler.switch()  # others can work meanwhile
        while not self.can_go_on:
            self._scheduler.switch()
        self.on_the_way = False
        return (
            self.from_previous.pop(layer, None) if from_before is None else from_before(),
            self.from_next.pop(layer, None) if from_after is None else from_after(),
        )

"""Rows of synthetic sprite clips, which are rendered on read.

The file of such a row is ``sprites://v1/SEED/INDEX`` or ``sprites://v1/SEED/held-out/INDEX``, where v1 is the version
of the data set.
"""

from __future__ import annotations

import numpy as np

from latentshift.data.footage.clip import Clip, Probe
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Row
from latentshift.data.rejected import Rejected
from latentshift.data.sprites import FPS, NUM_FRAMES, VERSION, Sprites, Track, render
from latentshift.video.cut import Cut

_SCHEME = "sprites://"


def drawn_row(world: Sprites, index: int, source: str) -> Row:
    """The row of clip ``index``, with a caption for the clip and one for single frames."""
    sprite = world.sprite(index)
    held_out = "held-out/" if world.held_out else ""
    return Row(
        f"{_SCHEME}v{VERSION}/{world.seed}/{held_out}{index}",
        (sprite.caption(),),
        source,
        split="test" if world.held_out else "train",
        image_captions=(sprite.caption(with_motion=False),),
    )


def is_drawn(row: Row) -> bool:
    """Whether a row is a sprite clip."""
    return row.file.startswith(_SCHEME)


def probe_drawn(row: Row) -> Probe:
    """The properties of a sprite clip, which can be rendered at any size."""
    _parse(row)
    return Probe(0.0, NUM_FRAMES / FPS, FPS, 64, 64, "drawn")


def read_drawn(row: Row, window: Window, cut: Cut, rng: np.random.Generator, only: int | None = None) -> Clip:
    """Render the clip, or one frame of it, at the requested size.

    Raises:
        Rejected: for an invalid row, or a window longer than the clip.
    """
    seed, held_out, index = _parse(row)
    side, _ = cut.scaled(1, 1)
    sprite, track, texture = Sprites(size=max(side, 32), seed=seed, held_out=held_out).describe(index)
    end = NUM_FRAMES / FPS if row.end is None else min(row.end, NUM_FRAMES / FPS)
    moments = window.moments(row.start or 0.0, end, rng)
    moments = moments if only is None else moments[only : only + 1]
    shown = np.minimum((moments * FPS + 1e-6).astype(int), NUM_FRAMES - 1)
    frames = render(sprite, Track(track.x[shown], track.y[shown], track.radius[shown], track.angle[shown]), texture)
    return Clip(np.stack([cut.cut(frame) for frame in frames]), shown / FPS)


def _parse(row: Row) -> tuple[int, bool, int]:
    version, _, rest = row.file.removeprefix(_SCHEME).partition("/")
    seed, _, rest = rest.partition("/")
    index = rest.removeprefix("held-out/")
    if version != f"v{VERSION}" or not (seed.isdecimal() and index.isdecimal()):
        raise Rejected(
            "bad-row", f"it names no clip of the sprites world as it is now: sprites://v{VERSION}/SEED/INDEX"
        )
    return int(seed), rest != index, int(index)

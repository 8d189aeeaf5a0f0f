"""The synthetic sprites data set as a source."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from latentshift.data.footage.sprite_clip import drawn_row
from latentshift.data.manifest import Entry
from latentshift.data.sprites import MOTIONS, Sprites


def read_sprites(
    clips: int, seed: int = 0, held_out: bool = False, motions: Collection[str] = (), name: str = "sprites"
) -> Iterator[Entry]:
    """The first clips of a random stream of sprites.

    Args:
        clips: number of clips.
        seed: which stream.
        held_out: use the held-out triples instead of the training ones.
        motions: keep only clips with these motions; empty for all.
        name: of the source, recorded in the rows.

    Raises:
        ValueError: for an unknown motion.
    """
    if unknown := sorted(set(motions) - set(MOTIONS)):
        raise ValueError(f"sprites know no motion {unknown[0]!r}; they know {', '.join(MOTIONS)}")
    world = Sprites(seed=seed, held_out=held_out)
    for index in range(clips):
        if not motions or world.sprite(index).motion in motions:
            yield drawn_row(world, index, name)

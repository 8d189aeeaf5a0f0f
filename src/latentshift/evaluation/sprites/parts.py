"""The parts of the sprites study: prompts and seeds that are fixed, so that models and settings can be compared."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from latentshift.data.sprites import LASTING_MOTIONS, MOTIONS, NUM_FRAMES, Sprite, Sprites
from latentshift.evaluation.protocols.plan import Item

_PROMPT_SEED = 20_230_417  # a stream of sprites that no recipe trains on


@dataclass(frozen=True)
class Part:
    """One part of the study.

    Attributes:
        name: for the report.
        held_out: whether the triples are held out from training.
        image: one frame, without motion in the prompt.
        shift: False makes frames independent at inference (Sec. 4.4, Figs. 6 and 7): no temporal shift or attention.
        first_seed: of video 0; video k has ``first_seed + k``.
        motions: that its prompts are of.
        frames: of its videos; None: the model's own.
    """

    name: str
    held_out: bool = False
    image: bool = False
    shift: bool = True
    first_seed: int = 0
    motions: tuple[str, ...] = MOTIONS
    frames: int | None = None

    @property
    def true_clips(self) -> str:
        """Name of its true clips: parts that differ in how a model generates have the same."""
        if self.motions != MOTIONS:
            return self.name
        return "images" if self.image else "held_out" if self.held_out else "seen"

    @property
    def true_frames(self) -> int:
        """Frames of its true clips, an image's too, which is one of them."""
        return self.frames or NUM_FRAMES


PARTS = (
    Part("seen"),
    Part("held_out", held_out=True, first_seed=100_000),
    Part("images", image=True, first_seed=200_000),
    Part("shift_off", shift=False),
    Part("images_shift_off", image=True, shift=False, first_seed=200_000),
    # The same prompts and seeds at three lengths: motions that have no end within the frame.
    Part("lasting", first_seed=300_000, motions=LASTING_MOTIONS),
    Part("lasting_32", first_seed=300_000, motions=LASTING_MOTIONS, frames=32),
    Part("lasting_64", first_seed=300_000, motions=LASTING_MOTIONS, frames=64),
)


def part_named(name: str) -> Part:
    """The part of the study with a name, one of ``PARTS``."""
    return next(part for part in PARTS if part.name == name)


def prompts_of(part: Part, count: int, size: int) -> list[tuple[Sprite, str, int]]:
    """The first ``count`` (sprite, prompt, seed) of a part; motions, things and colours come about equally often."""
    world = world_of(part, size)
    sprites = [world.sprite(index) for index in islice(_indices(part, world), count)]
    return [
        (sprite, sprite.caption(with_motion=not part.image), part.first_seed + number)
        for number, sprite in enumerate(sprites)
    ]


def world_of(part: Part, size: int) -> Sprites:
    """The stream of clips that a part's prompts were written for, in frames of a side in pixels."""
    return Sprites(size=size, seed=_PROMPT_SEED, held_out=part.held_out, num_frames=part.true_frames)


def _indices(part: Part, world: Sprites) -> Iterator[int]:
    """Which of the world's clips are the part's, in order."""
    if part.motions == MOTIONS:
        return itertools.count()
    return (index for index in itertools.count() if world.sprite(index).motion in part.motions)


def plan_of(part: Part, count: int, size: int) -> list[Item]:
    """The first ``count`` videos of a part as a plan: a shorter one is the beginning of a longer one."""
    return [Item(prompt, seed) for _, prompt, seed in prompts_of(part, count, size)]


def true_clip(part: Part, index: int, size: int) -> np.ndarray:
    """The clip of the world, uint8 (F, S, S, 3), that prompt ``index`` of a part was written for."""
    world = world_of(part, size)
    index = next(islice(_indices(part, world), index, None))
    return world.frame(index)[0][None] if part.image else world[index][0]

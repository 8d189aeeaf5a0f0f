"""The sprites study: does a generated video show what its prompt describes? Scored by the analytic reader.

Prompts and seeds are fixed, so that models and settings can be compared. Knows no pipeline. How steady the thing's
colour is (:mod:`latentshift.evaluation.sprite_stability`) is measured in the same videos.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from latentshift.data.rejected import Rejected
from latentshift.data.sprites import LASTING_MOTIONS, MOTIONS, NUM_FRAMES, Sprite, Sprites
from latentshift.evaluation.estimates import mean_of
from latentshift.evaluation.protocols.measure import Measurer
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.readings_files import Reading
from latentshift.evaluation.settings_file import check_or_write_settings as check_or_write_settings  # renamed.py's
from latentshift.evaluation.sprite_reader import Reading as Read
from latentshift.evaluation.sprite_reader import calibrate, read_clip, score
from latentshift.evaluation.sprite_stability import measure_stability

_PROMPT_SEED = 20_230_417  # a stream of sprites that no recipe trains on
_CALIBRATION_CLIPS = 512
READ_FIELDS = ("background", "colour", "thing", "motion")
STABILITY_FIELDS = ("colour_drift", "frame_flicker")  # absent: no thing to measure


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


class ReadingMeasurer(Measurer):
    """Measures a video as every protocol does, reads it, and measures how steady its colour is."""

    def __call__(
        self, index: int, item: Item, video: np.ndarray | Rejected, file: str | None = None
    ) -> tuple[Reading, dict[str, np.ndarray]]:
        """As :class:`latentshift.evaluation.protocols.measure.Measurer`; what was read are the reading's words."""
        reading, rows = super().__call__(index, item, video, file)
        if isinstance(video, Rejected):
            return reading, rows
        read = read_clip(video)
        values = dict(reading.values)
        if len(video) > 1:
            values |= {name: each for name, each in asdict(measure_stability(video)).items() if each is not None}
        return replace(reading, values=values, words={name: getattr(read, name) for name in READ_FIELDS}), rows


def load_readings(kept: Readings, part: Part, size: int) -> list[Reading]:
    """The readings of a part's videos, in their order.

    Args:
        kept: of the part's first videos.
        part: of the study.
        size: side of the frames in pixels.

    Raises:
        ValueError: if one is missing, of another prompt or was not read, or a file is damaged.
    """
    readings = []
    for index, item in enumerate(plan_of(part, kept.total, size)):
        reading = kept.reading(index) if kept.done[index] else None
        if reading is None or set(reading.words) != set(READ_FIELDS):
            raise ValueError(f"{kept.folder} has no reading of video {index}: run the same command again")
        if (reading.prompt, reading.seed) != (item.prompt, item.seed):
            raise ValueError(f"{kept.folder}: video {index} is of another prompt; choose another output folder")
        readings.append(reading)
    return readings


def score_part(part: Part, size: int, readings: Sequence[Reading]) -> dict[str, Any]:
    """The scores of a part's first videos: those of :func:`score_readings`, and those of the reader on true clips."""
    clips = _CALIBRATION_CLIPS * NUM_FRAMES // part.true_frames
    reader = calibrate(
        size, clips, held_out=part.held_out, images=part.image, num_frames=part.true_frames, motions=part.motions
    )
    of_reader = {"reader_on_true_clips": reader.to_dict()}
    return {"part": asdict(part), **score_readings(part, size, readings), **of_reader}


def score_readings(part: Part, size: int, readings: Sequence[Reading]) -> dict[str, Any]:
    """The scores of the readings of a part's first videos.

    Returns:
        Accuracies, 0 … 1, by the names of :class:`latentshift.evaluation.sprite_reader.Scores`; of videos also
        ``colour_drift`` and ``frame_flicker`` (:class:`latentshift.evaluation.estimates.Mean` as a dict, in levels),
        and ``motions``: the same for the videos of each motion that was asked for. A video in which no thing is found
        counts as ``missing`` in the means.
    """
    sprites = [sprite for sprite, _, _ in prompts_of(part, len(readings), size)]
    scores = _score(readings, sprites)
    if not part.image:
        scores["motions"] = {}
        for motion in MOTIONS:
            if indices := [index for index, each in enumerate(sprites) if each.motion == motion]:
                of_motion = [readings[index] for index in indices], [sprites[index] for index in indices]
                scores["motions"][motion] = _score(*of_motion)
    return scores


def _score(readings: Sequence[Reading], sprites: Sequence[Sprite]) -> dict[str, Any]:
    read = [
        Read(each.words["background"], each.words["colour"], each.words["thing"], each.words["motion"], each.frames)
        for each in readings
    ]
    scores: dict[str, Any] = score(read, sprites).to_dict()
    if any(each.frames > 1 for each in readings):
        for name in STABILITY_FIELDS:
            scores[name] = asdict(mean_of([each.values.get(name) for each in readings]))
    return scores


def true_clip(part: Part, index: int, size: int) -> np.ndarray:
    """The clip of the world, uint8 (F, S, S, 3), that prompt ``index`` of a part was written for."""
    world = world_of(part, size)
    index = next(islice(_indices(part, world), index, None))
    return world.frame(index)[0][None] if part.image else world[index][0]

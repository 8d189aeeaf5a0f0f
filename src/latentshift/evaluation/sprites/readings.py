"""What the sprites study measures of each video: the reader's words, and how steady the thing's colour is."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from latentshift.data.rejected import Rejected
from latentshift.evaluation.protocols.measure import Measurer
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.readings_files import Reading
from latentshift.evaluation.sprites.parts import Part, plan_of
from latentshift.evaluation.sprites.reader import read_clip
from latentshift.evaluation.sprites.stability import measure_stability

READ_FIELDS = ("background", "colour", "thing", "motion")
STABILITY_FIELDS = ("colour_drift", "frame_flicker")  # absent: no thing to measure


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

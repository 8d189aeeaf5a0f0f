"""The sprites study: does a generated video show what its prompt describes? Scored by the analytic reader.

Prompts and seeds are fixed, so that models and settings can be compared. Knows no pipeline: videos come from a
callable. Readings are saved line by line, so that an interrupted study can be resumed. How steady the thing's colour is
(:mod:`latentshift.evaluation.sprite_stability`) is measured in the same videos.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentshift.data.sprites import MOTIONS, Sprite, Sprites
from latentshift.evaluation.estimates import mean_of
from latentshift.evaluation.settings_file import check_or_write_settings as check_or_write_settings
from latentshift.evaluation.sprite_reader import Reading, calibrate, read_clip, score
from latentshift.evaluation.sprite_stability import measure_stability
from latentshift.files import atomic_write_text

Generate = Callable[[str, int], np.ndarray]  # (prompt, seed) -> uint8 (F, H, W, 3)

_PROMPT_SEED = 20_230_417  # a stream of sprites that no recipe trains on
_CALIBRATION_CLIPS = 512
_READ_FIELDS = ("background", "colour", "thing", "motion", "frames")
STABILITY_FIELDS = ("colour_drift", "frame_flicker")  # None: no thing to measure; absent: read before these were


@dataclass(frozen=True)
class Part:
    """One part of the study.

    Attributes:
        name: for the report.
        held_out: whether the triples are held out from training.
        image: one frame, without motion in the prompt.
        shift: False makes frames independent at inference (Sec. 4.4, Figs. 6 and 7): no temporal shift or attention.
        first_seed: of video 0; video k has ``first_seed + k``.
    """

    name: str
    held_out: bool = False
    image: bool = False
    shift: bool = True
    first_seed: int = 0


PARTS = (
    Part("seen"),
    Part("held_out", held_out=True, first_seed=100_000),
    Part("images", image=True, first_seed=200_000),
    Part("shift_off", shift=False),
    Part("images_shift_off", image=True, shift=False, first_seed=200_000),
)


def prompts_of(part: Part, count: int, size: int) -> list[tuple[Sprite, str, int]]:
    """The first ``count`` (sprite, prompt, seed) of a part; motions, things and colours come about equally often."""
    world = Sprites(size=size, seed=_PROMPT_SEED, held_out=part.held_out)
    sprites = [world.describe(index)[0] for index in range(count)]
    return [
        (sprite, sprite.caption(with_motion=not part.image), part.first_seed + index)
        for index, sprite in enumerate(sprites)
    ]


def read_part(part: Part, count: int, size: int, generate: Generate, log: Path) -> Iterator[np.ndarray | None]:
    """Generate and read the videos missing in ``log`` (JSON lines); yields each video, None if already read.

    Raises:
        ValueError: if the log has readings of other prompts.
    """
    readings = load_readings(log)
    atomic_write_text(
        log, "".join(json.dumps(reading) + "\n" for reading in readings)
    )  # drops a line cut short by a kill
    with log.open("a") as file:
        for index, (_, prompt, seed) in enumerate(prompts_of(part, count, size)):
            if index < len(readings):
                if (readings[index]["prompt"], readings[index]["seed"]) != (prompt, seed):
                    raise ValueError(f"{log} line {index + 1} is of another prompt; choose another output folder")
                yield None
                continue
            video = generate(prompt, seed)
            read = read_clip(video)
            reading = {"prompt": prompt, "seed": seed, **{name: getattr(read, name) for name in _READ_FIELDS}}
            if read.frames > 1:
                reading |= asdict(measure_stability(video))
            file.write(json.dumps(reading) + "\n")
            file.flush()
            yield video


def score_part(part: Part, count: int, size: int, log: Path) -> dict[str, Any]:
    """The scores of a part's log: those of :func:`score_log`, and those of the reader on true clips."""
    reader = calibrate(size, _CALIBRATION_CLIPS, held_out=part.held_out, images=part.image)
    return {"part": asdict(part), **score_log(part, count, size, log), "reader_on_true_clips": reader.to_dict()}


def score_log(part: Part, count: int, size: int, log: Path) -> dict[str, Any]:
    """The scores of the first ``count`` readings of a log.

    Returns:
        Accuracies, 0 … 1, by the names of :class:`latentshift.evaluation.sprite_reader.Scores`; of videos also
        ``colour_drift`` and ``frame_flicker`` (:class:`latentshift.evaluation.estimates.Mean` as a dict, in levels),
        and ``motions``: the same for the videos of each motion that was asked for. A video in which no thing is found
        counts as ``missing`` in the means; one that was read before they were measured is in neither count.
    """
    sprites = [sprite for sprite, _, _ in prompts_of(part, count, size)]
    readings = load_readings(log)[:count]
    scores = _score(readings, sprites)
    if not part.image:
        asked = {motion: [index for index, each in enumerate(sprites) if each.motion == motion] for motion in MOTIONS}
        scores["motions"] = {
            motion: _score([readings[index] for index in chosen], [sprites[index] for index in chosen])
            for motion, chosen in asked.items()
            if chosen
        }
    return scores


def _score(readings: Sequence[dict[str, Any]], sprites: Sequence[Sprite]) -> dict[str, Any]:
    scores: dict[str, Any] = score(
        [Reading(**{name: reading[name] for name in _READ_FIELDS}) for reading in readings], sprites
    ).to_dict()
    if any(reading["frames"] > 1 for reading in readings):
        for name in STABILITY_FIELDS:
            scores[name] = asdict(mean_of([reading[name] for reading in readings if name in reading]))
    return scores


def true_clip(part: Part, index: int, size: int) -> np.ndarray:
    """The clip of the world, uint8 (F, S, S, 3), that prompt ``index`` of a part was written for."""
    world = Sprites(size=size, seed=_PROMPT_SEED, held_out=part.held_out)
    return world.frame(index)[0][None] if part.image else world[index][0]


def load_readings(log: Path) -> list[dict[str, Any]]:
    """The readings of a log, without a line that a kill cut short; none if there is no log.

    Raises:
        ValueError: for a damaged line.
    """
    if not log.exists():
        return []
    lines = log.read_text().splitlines(keepends=True)
    readings: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            continue  # cut short by a kill
        try:
            reading = json.loads(line)
        except ValueError:
            reading = None
        if not isinstance(reading, dict) or not reading.keys() >= {"prompt", "seed", *_READ_FIELDS}:
            raise ValueError(f"{log} line {number} is damaged; delete the file to generate again")
        readings.append(reading)
    return readings

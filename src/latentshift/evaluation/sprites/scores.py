"""How often the videos of a part of the sprites study show what their prompts describe, and how steady they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from latentshift.data.sprites import MOTIONS, NUM_FRAMES, Sprite
from latentshift.evaluation.estimates import mean_of
from latentshift.evaluation.protocols.readings_files import Reading
from latentshift.evaluation.sprites.parts import Part, prompts_of
from latentshift.evaluation.sprites.reader import Reading as Read
from latentshift.evaluation.sprites.reader import calibrate, score
from latentshift.evaluation.sprites.readings import STABILITY_FIELDS

SCORES = ("background", "colour", "motion", "thing", "joint")
_CALIBRATION_CLIPS = 512


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
        Accuracies, 0 … 1, by the names of :class:`latentshift.evaluation.sprites.reader.Scores`; of videos also
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

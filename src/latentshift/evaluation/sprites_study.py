"""The sprites study: does a generated video show what its sentence said? Read by the analytic reader.

Prompts and seeds are fixed, so that two models, or two settings, answer the same questions. Knows no pipeline: videos
come from a callable. What was read is kept line by line, so that a broken study goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentshift.data.sprites import Sprite, Sprites
from latentshift.evaluation.sprite_reader import Reading, calibrate, read_clip, score

Generate = Callable[[str, int], np.ndarray]  # (prompt, seed) -> uint8 (F, H, W, 3)

_PROMPT_SEED = 20_230_417  # a stream of sprites that no recipe trains on
_CALIBRATION_CLIPS = 512


@dataclass(frozen=True)
class Part:
    """One part of the study.

    Attributes:
        name: for the report.
        held_out: whether the triples are the ones that were never trained on.
        image: one frame, without motion in the prompt.
        shift: False switches the temporal shift off at inference (Sec. 4.4, Fig. 7).
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
)


def questions(part: Part, count: int, size: int) -> list[tuple[Sprite, str, int]]:
    """The first ``count`` (sprite, prompt, seed) of a part; motions, things and colours come about equally often."""
    world = Sprites(size=size, seed=_PROMPT_SEED, held_out=part.held_out)
    sprites = [world.describe(index)[0] for index in range(count)]
    return [
        (sprite, sprite.caption(with_motion=not part.image), part.first_seed + index)
        for index, sprite in enumerate(sprites)
    ]


def read_part(part: Part, count: int, size: int, generate: Generate, log: Path) -> Iterator[np.ndarray | None]:
    """Generate and read the videos that ``log`` (JSON lines) does not hold yet; yields each video, None if it was read.

    Raises:
        ValueError: if the log holds answers to other questions.
    """
    answers = _load(log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        for index, (_, prompt, seed) in enumerate(questions(part, count, size)):
            if index < len(answers):
                if (answers[index]["prompt"], answers[index]["seed"]) != (prompt, seed):
                    raise ValueError(f"{log} line {index + 1} answers another prompt; choose another output folder")
                yield None
                continue
            video = generate(prompt, seed)
            file.write(json.dumps({"prompt": prompt, "seed": seed, **_attributes(read_clip(video))}) + "\n")
            file.flush()
            yield video


def score_part(part: Part, count: int, size: int, log: Path) -> dict[str, Any]:
    """The scores of a part that was read: shares of right answers in [0, 1] beside the reader's own on real clips."""
    sprites = [sprite for sprite, _, _ in questions(part, count, size)]
    readings = [
        Reading(**{name: answer[name] for name in ("background", "colour", "thing", "motion")})
        for answer in _load(log)[:count]
    ]
    reader = calibrate(size, _CALIBRATION_CLIPS, held_out=part.held_out, images=part.image)
    return {"part": asdict(part), **score(readings, sprites).to_dict(), "reader_on_real_clips": reader.to_dict()}


def _attributes(reading: Reading) -> dict[str, str | None]:
    return {name: getattr(reading, name) for name in ("background", "colour", "thing", "motion")}


def _load(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

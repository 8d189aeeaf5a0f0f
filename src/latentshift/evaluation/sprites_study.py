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
from latentshift.files import atomic_write_text

Generate = Callable[[str, int], np.ndarray]  # (prompt, seed) -> uint8 (F, H, W, 3)

_PROMPT_SEED = 20_230_417  # a stream of sprites that no recipe trains on
_CALIBRATION_CLIPS = 512
_ANSWER = ("background", "colour", "thing", "motion", "frames")


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


def settle(folder: Path, settings: dict[str, Any]) -> None:
    """Write what a study's answers depend on beside them, or check that it is what they were made with.

    Raises:
        ValueError: if the folder's answers were made with other settings, or their record is damaged; the message
            names the difference.
    """
    path = folder / "settings.json"
    if not path.exists():
        atomic_write_text(path, json.dumps(settings, indent=1) + "\n")
        return
    try:
        before = dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        raise ValueError(f"{path} is damaged; choose another output folder") from None
    for key in sorted(before.keys() | settings.keys()):
        if before.get(key) != settings.get(key):
            raise ValueError(
                f"{folder} holds a study of something else: {key} was {before.get(key)!r} and is now "
                f"{settings.get(key)!r}; choose another output folder"
            )


def read_part(part: Part, count: int, size: int, generate: Generate, log: Path) -> Iterator[np.ndarray | None]:
    """Generate and read the videos that ``log`` (JSON lines) does not hold yet; yields each video, None if it was read.

    Raises:
        ValueError: if the log holds answers to other questions.
    """
    answers = _load(log)
    atomic_write_text(
        log, "".join(json.dumps(answer) + "\n" for answer in answers)
    )  # without a line that a kill cut short
    with log.open("a") as file:
        for index, (_, prompt, seed) in enumerate(questions(part, count, size)):
            if index < len(answers):
                if (answers[index]["prompt"], answers[index]["seed"]) != (prompt, seed):
                    raise ValueError(f"{log} line {index + 1} answers another prompt; choose another output folder")
                yield None
                continue
            video = generate(prompt, seed)
            reading = read_clip(video)
            answer = {"prompt": prompt, "seed": seed, **{name: getattr(reading, name) for name in _ANSWER}}
            file.write(json.dumps(answer) + "\n")
            file.flush()
            yield video


def score_part(part: Part, count: int, size: int, log: Path) -> dict[str, Any]:
    """The scores of a part that was read: shares of right answers in [0, 1] beside the reader's own on true clips."""
    sprites = [sprite for sprite, _, _ in questions(part, count, size)]
    readings = [Reading(**{name: answer[name] for name in _ANSWER}) for answer in _load(log)[:count]]
    reader = calibrate(size, _CALIBRATION_CLIPS, held_out=part.held_out, images=part.image)
    return {"part": asdict(part), **score(readings, sprites).to_dict(), "reader_on_true_clips": reader.to_dict()}


def _load(log: Path) -> list[dict[str, Any]]:
    if not log.exists():
        return []
    lines = log.read_text().splitlines(keepends=True)
    answers: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            continue  # a kill in the middle of it
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not answer.keys() >= {"prompt", "seed", *_ANSWER}:
            raise ValueError(f"{log} line {number} is damaged; delete the file to ask again")
        answers.append(answer)
    return answers

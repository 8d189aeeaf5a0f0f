"""Which videos of a sprites study its page shows: the first ones, the best and the worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from latentshift.data.sprites import Sprite
from latentshift.evaluation.protocols.readings_files import Reading
from latentshift.evaluation.sprites.parts import Part, prompts_of

EACH = 4
KINDS = ("first", "best", "worst")


def choose_examples(part: Part, size: int, readings: Sequence[Reading]) -> dict[str, list[dict[str, Any]]]:
    """The examples of a part, from its readings alone.

    The best show most of what was asked for, with the least colour drift among equals; no video is among the best and
    the worst. The first ones are chosen by nobody.

    Args:
        part: of the study.
        size: side of the frames in pixels.
        readings: of its first videos.

    Returns:
        By ``KINDS``: each a list of ``index``, ``prompt``, ``seed``, and ``asked`` and ``read``, both by attribute.
    """
    sprites = [sprite for sprite, _, _ in prompts_of(part, len(readings), size)]
    videos = [_example(sprite, reading, part) for reading, sprite in zip(readings, sprites, strict=True)]

    def rank(video: dict[str, Any]) -> tuple[int, float, int]:
        drift = readings[video["index"]].values.get("colour_drift")
        return -right_count(video), float("inf") if drift is None else drift, video["index"]

    ranked = sorted(videos, key=rank)
    each = min(EACH, len(ranked) // 2)
    return {"first": videos[:EACH], "best": ranked[:each], "worst": ranked[len(ranked) - each :]}


def right_count(video: dict[str, Any]) -> int:
    """How many attributes of an example are as they were asked for."""
    return sum(video["read"][name] == word for name, word in video["asked"].items())


def _example(sprite: Sprite, reading: Reading, part: Part) -> dict[str, Any]:
    names = ["colour", "thing", *([] if part.image else ["motion"]), "background"]
    return {
        "index": reading.index,
        "prompt": reading.prompt,
        "seed": reading.seed,
        "asked": {name: getattr(sprite, name) for name in names},
        "read": {name: reading.words[name] for name in names},
    }

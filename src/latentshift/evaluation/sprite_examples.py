"""Which videos of a sprites study its page shows: the first ones, the best and the worst."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentshift.data.sprites import Sprite
from latentshift.evaluation.sprites_study import Part, load_readings, prompts_of

EACH = 4
KINDS = ("first", "best", "worst")


def choose_examples(part: Part, count: int, size: int, log: Path) -> dict[str, list[dict[str, Any]]]:
    """The examples of a part, from its readings alone.

    The best show most of what was asked for, with the least colour drift among equals; no video is among the best and
    the worst. The first ones are chosen by nobody.

    Args:
        part: of the study.
        count: of its videos.
        size: side of the frames in pixels.
        log: of its readings.

    Returns:
        By ``KINDS``: each a list of ``index``, ``prompt``, ``seed``, and ``asked`` and ``read``, both by attribute.
    """
    readings = load_readings(log)[:count]
    videos = [
        _example(index, sprite, reading, part)
        for index, (reading, (sprite, _, _)) in enumerate(zip(readings, prompts_of(part, count, size), strict=True))
    ]

    def rank(video: dict[str, Any]) -> tuple[int, float, int]:
        drift = readings[video["index"]].get("colour_drift")
        return -right_count(video), float("inf") if drift is None else drift, video["index"]

    ranked = sorted(videos, key=rank)
    each = min(EACH, len(ranked) // 2)
    return {"first": videos[:EACH], "best": ranked[:each], "worst": ranked[len(ranked) - each :]}


def right_count(video: dict[str, Any]) -> int:
    """How many attributes of an example are as they were asked for."""
    return sum(video["read"][name] == word for name, word in video["asked"].items())


def _example(index: int, sprite: Sprite, reading: dict[str, Any], part: Part) -> dict[str, Any]:
    names = ["colour", "thing", *([] if part.image else ["motion"]), "background"]
    return {
        "index": index,
        "prompt": reading["prompt"],
        "seed": reading["seed"],
        "asked": {name: getattr(sprite, name) for name in names},
        "read": {name: reading[name] for name in names},
    }

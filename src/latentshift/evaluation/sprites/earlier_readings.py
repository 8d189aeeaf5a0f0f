"""Takes over what earlier versions had read of a study's videos: a line a video in one file, without features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.protocols.readings_files import Reading
from latentshift.evaluation.protocols.readings_writer import ReadingsWriter
from latentshift.evaluation.sprites.parts import Part, plan_of
from latentshift.evaluation.sprites.readings import READ_FIELDS, STABILITY_FIELDS
from latentshift.files import atomic_write
from latentshift.settings import MAX_FRAMES
from latentshift.user_input.bounded_read import parse_json_bounded, read_text_bounded

_MOST_BYTES = 2**26
_MOST_LEVELS = 2**11  # of drift and flicker: more than 4 · 255 · √3


def take_over_earlier(log: Path, folder: Path, part: Part, size: int) -> int:
    """Write the readings of a log into a folder that has none yet; returns how many.

    Lines that a kill cut short, and clips that were read before their stability was measured, are left out, and so
    made again.

    Args:
        log: ``readings/PART.jsonl``; it may be missing.
        folder: of the readings.
        part: that the log is of.
        size: side of the frames in pixels.

    Raises:
        ValueError: for a damaged line, or one of another prompt; the folder is not made then.
    """
    if folder.exists() or not log.is_file():
        return 0
    lines = [
        each for each in read_text_bounded(log, _MOST_BYTES, "the log").splitlines(keepends=True) if each[-1] == "\n"
    ]
    items = plan_of(part, len(lines), size)
    readings = [
        reading
        for index, (line, item) in enumerate(zip(lines, items, strict=True))
        if (reading := _reading(line, index, item, size, f"{log} line {index + 1}")) is not None
    ]
    # The folder tells that a log is taken over: it is there as a whole or not at all.
    with atomic_write(folder) as temporary, ReadingsWriter(temporary, 0, {}) as writer:
        for reading in readings:
            writer.append(reading, {})
    return len(readings)


def _reading(line: str, index: int, item: Item, size: int, where: str) -> Reading | None:
    try:
        values = parse_json_bounded(line, where)
    except ValueError:
        values = None
    if not _is_sound(values):
        raise ValueError(f"{where} is damaged; delete the file to generate again")
    if (values["prompt"], values["seed"]) != (item.prompt, item.seed):
        raise ValueError(f"{where} is of another prompt; choose another output folder")
    frames = values["frames"]
    if frames > 1 and not values.keys() >= set(STABILITY_FIELDS):
        return None
    steady = {name: values[name] for name in STABILITY_FIELDS if values.get(name) is not None}
    words = {name: values[name] for name in READ_FIELDS}
    return Reading(index, item.prompt, item.seed, frames, size, size, steady, words=words)


def _is_sound(values: Any) -> bool:
    """Whether a line has what is taken over of it, in the types that readings have."""
    if not isinstance(values, dict) or not values.keys() >= {"prompt", "seed", "frames", *READ_FIELDS}:
        return False
    steady = [values[name] for name in STABILITY_FIELDS if values.get(name) is not None]
    return (
        type(values["frames"]) is int
        and 1 <= values["frames"] <= MAX_FRAMES
        and all(values[name] is None or isinstance(values[name], str) for name in READ_FIELDS)
        and all(isinstance(each, int | float) and abs(each) <= _MOST_LEVELS for each in steady)
    )

"""Takes over what earlier versions had read of a study's videos: a line a video in one file, without features."""

from __future__ import annotations

from pathlib import Path

from latentshift.bounded_read import parse_json_bounded, read_text_bounded
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.protocols.readings import Reading, ReadingsWriter
from latentshift.evaluation.sprites_study import READ_FIELDS, STABILITY_FIELDS, Part, plan_of

_MOST_BYTES = 2**26


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
        ValueError: for a damaged line, or one of another prompt.
    """
    if folder.exists() or not log.is_file():
        return 0
    lines = [
        each for each in read_text_bounded(log, _MOST_BYTES, "the log").splitlines(keepends=True) if each[-1] == "\n"
    ]
    taken = 0
    with ReadingsWriter(folder, 0, {}) as writer:
        for index, (line, item) in enumerate(zip(lines, plan_of(part, len(lines), size), strict=True)):
            reading = _reading(line, index, item, size, f"{log} line {index + 1}")
            if reading is not None:
                writer.append(reading, {})
                taken += 1
    return taken


def _reading(line: str, index: int, item: Item, size: int, where: str) -> Reading | None:
    try:
        values = parse_json_bounded(line, where)
    except ValueError:
        values = None
    if not isinstance(values, dict) or not values.keys() >= {"prompt", "seed", "frames", *READ_FIELDS}:
        raise ValueError(f"{where} is damaged; delete the file to generate again")
    if (values["prompt"], values["seed"]) != (item.prompt, item.seed):
        raise ValueError(f"{where} is of another prompt; choose another output folder")
    frames = values["frames"]
    if frames > 1 and not values.keys() >= set(STABILITY_FIELDS):
        return None
    steady = {name: values[name] for name in STABILITY_FIELDS if values.get(name) is not None}
    words = {name: values[name] for name in READ_FIELDS}
    return Reading(index, item.prompt, item.seed, frames, size, size, steady, words=words)

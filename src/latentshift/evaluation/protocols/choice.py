"""Which extractors a result is made with. Imports no torch: what is missing is told before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast, get_args

from latentshift.evaluation.extractors.cache import find_extractor, require_extractor
from latentshift.evaluation.extractors.known import COMPARED, EXTRACTORS, Output, known_extractor

WORDS = "available, standard, sprites, or names with commas, as clip,i3d or inception-2015:logits"


@dataclass(frozen=True)
class Choice:
    """The extractors of a result.

    Attributes:
        keys: ``name``, or ``name:output`` where it isn't the first output.
        notes: sentences on those that are left out.
    """

    keys: list[str]
    notes: list[str] = field(default_factory=list)


def choose_extractors(words: str, standard: Sequence[str], frames: int | None, *, needed: bool = True) -> Choice:
    """Resolve what the user wrote.

    Args:
        words: ``available``: those of ``standard`` that are there; ``standard``: all of them; ``sprites``: those that
            are shipped with the package; or names.
        standard: keys of the protocol's own ones.
        frames: of every clip that is measured; None: not known yet.
        needed: whether there is nothing to measure without any, so that ``available`` must find one.

    Raises:
        ValueError: for an unknown name or output; if one is missing (where it comes from, and how to add it); or if
            one that was asked for can't read clips of so many frames.
    """
    if words == "available":
        return _available(standard, frames, needed)
    if words == "standard":
        keys = list(standard)
    elif words == "sprites":
        keys = [f"{each.name}:{output}" for each in EXTRACTORS.values() if each.shipped for output in each.outputs]
        if not keys:
            raise ValueError("this version of latentshift ships no extractors of its own")
    else:
        keys = list(dict.fromkeys(each.strip() for each in words.split(",")))
    for key in keys:
        name, _ = parse_key(key)
        require_extractor(name)
        if wrong := _unfit(name, frames):
            raise ValueError(f"{wrong}: choose other --extractors ({WORDS}) or another number of frames")
    return Choice([_canonical(key) for key in keys])


def parse_key(key: str) -> tuple[str, Output | None]:
    """Name and output of ``name`` or ``name:output``.

    Raises:
        ValueError: for an unknown one.
    """
    name, colon, output = key.partition(":")
    known = known_extractor(name)
    if not colon:
        return name, None
    if output not in get_args(Output) or output not in known.outputs:
        raise ValueError(f"the extractor {name} gives {' or '.join(known.outputs)}, not {output!r}")
    return name, cast(Output, output)


def compares(key: str) -> bool:
    """Whether the rows of ``name`` or ``name:output`` are compared with those of a reference.

    Raises:
        ValueError: for an unknown one.
    """
    name, output = parse_key(key)
    return (output or next(iter(known_extractor(name).outputs))) in COMPARED


def _available(standard: Sequence[str], frames: int | None, needed: bool) -> Choice:
    keys, notes, absent = [], [], []
    for key in standard:
        name, _ = parse_key(key)
        if find_extractor(name) is None:
            absent.append(name)
            serves = known_extractor(name).serves
            notes.append(f"{name} is not there: no {serves} (`latentshift evaluate extractors` says how to add it)")
        elif wrong := _unfit(name, frames):
            notes.append(wrong)
        else:
            keys.append(key)
    if not keys and needed:
        if absent:
            require_extractor(absent[0])  # tells how it is added
        raise ValueError(f"no extractor can read these clips: {'; '.join(notes)}")
    return Choice(keys, notes)


def _unfit(name: str, frames: int | None) -> str:
    """Why an extractor can't read clips of so many frames; empty if it can."""
    known = known_extractor(name)
    if frames is None:
        return ""
    if known.per == "clip" and known.frames is not None and frames != known.frames:
        return f"the extractor {name} reads clips of {known.frames} frames, not {frames}"
    if frames < known.least_frames:
        return f"the extractor {name} needs clips of {known.least_frames} frames or more, not {frames}"
    return ""


def _canonical(key: str) -> str:
    name, output = parse_key(key)
    return name if output in (None, next(iter(known_extractor(name).outputs))) else key

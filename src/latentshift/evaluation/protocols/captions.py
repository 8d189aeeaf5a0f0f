"""Which caption is of which clip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latentshift.data.manifest import not_text
from latentshift.data.sources.text import find_spelling, lines_of, table_of
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.report.schema import Rejected
from latentshift.user_input.bounded_read import parse_json_bounded
from latentshift.video.prompt_slug import prompt_slug, slugs_of_name


@dataclass(frozen=True)
class Captioned:
    """Clips with the captions that were found for them.

    Attributes:
        items: all of them, in their order.
        rejected: captions that are of no clip, and clips without one.
    """

    items: list[Item]
    rejected: list[Rejected]


def own_captions(items: Sequence[Item], own: Mapping[str, str]) -> Captioned:
    """The captions in the clips' metadata, by file, where there are some; that others have none is no fault."""
    return Captioned([replace(each, prompt=own.get(each.file or "", "")) for each in items], [])


def captions_from_file(path: Path, items: Sequence[Item], own: Mapping[str, str]) -> Captioned:
    """Captions of a file.

    Args:
        path: ``.csv`` or ``.jsonl`` with ``file_name`` and ``text``; or a text with a caption a line, each found at the
            clips that have it in their metadata, else in their name, as ``a-red-star.mp4`` or ``A red star_7.gif``.
        items: the clips.
        own: the prompt in the metadata of each clip that has one, by file.

    Raises:
        ValueError: if the file can't be read, or none of its captions is of a clip.
    """
    if path.suffix.lower() in (".csv", ".jsonl"):
        caption_of, rejected = _by_file_name(path, items)
    else:
        caption_of, rejected = _by_name(path, items, own)
    if not caption_of:
        raise ValueError(
            f"none of the captions in {path} is of a clip: name the clips by their captions, or write a "
            "csv with the columns file_name and text"
        )
    without = [each for each in items if each.file not in caption_of]
    reason = f"no caption in {path.name} is of it; it counts in all metrics but those of captions"
    rejected += [Rejected(file=each.name, reason=reason) for each in without]
    return Captioned([replace(each, prompt=caption_of.get(each.file or "", "")) for each in items], rejected)


def _by_file_name(path: Path, items: Sequence[Item]) -> tuple[dict[str, str], list[Rejected]]:
    known = {each.file for each in items}
    caption_of: dict[str, str] = {}
    rejected = []
    for number, values in _rows(path):
        where = f"{path.name} line {number}"
        if isinstance(values, str):
            rejected.append(Rejected(file=where, reason=values))
            continue
        name, text = values.get("file_name"), values.get("text")
        name = str(Path(name)) if isinstance(name, str) else ""
        if not isinstance(text, str) or not text.strip():
            rejected.append(Rejected(file=where, reason="its text is empty"))
        elif wrong := not_text(text):
            rejected.append(Rejected(file=where, reason=wrong))
        elif name not in known and (name := find_spelling(name)) not in known:
            rejected.append(Rejected(file=where, reason=f"there is no clip {name}"))
        elif name in caption_of:
            rejected.append(Rejected(file=where, reason=f"{name} has a caption already"))
        else:
            caption_of[name] = " ".join(text.split())
    return caption_of, rejected


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    if path.suffix.lower() == ".csv":
        yield from table_of(path, ("file_name", "text"))
        return
    for number, line in lines_of(path):
        if line.strip():
            try:
                values = parse_json_bounded(line, "it")
            except ValueError as error:
                values = str(error)
            yield number, values if isinstance(values, dict | str) else "it must hold file_name and text"


def _by_name(path: Path, items: Sequence[Item], own: Mapping[str, str]) -> tuple[dict[str, str], list[Rejected]]:
    captions = {" ".join(line.split()): number for number, line in lines_of(path) if line.strip()}
    by_slug = captions_by_slug(captions)
    caption_of: dict[str, str] = {}
    rejected = []
    for each in items:
        written = " ".join(own.get(each.file or "", "").split())
        fitting = [written] if written else captions_of_name(by_slug, Path(each.file or "").stem)
        fitting = [caption for caption in fitting if caption in captions]
        if len(fitting) > 1:
            reason = f"its name fits several captions, {fitting[0]!r} and {fitting[1]!r}: it is measured without one"
            rejected.append(Rejected(file=each.name, reason=reason))
        elif fitting:
            caption_of[each.file or ""] = fitting[0]
    used = set(caption_of.values())
    for caption, number in captions.items():
        if caption not in used:
            rejected.append(Rejected(file=f"{path.name} line {number}", reason=f"no clip is of it: {caption}"))
    return caption_of, rejected


def captions_by_slug(captions: Iterable[str]) -> dict[str, list[str]]:
    """Captions by what names of files are made of them."""
    by_slug: dict[str, list[str]] = defaultdict(list)
    for caption in captions:
        by_slug[prompt_slug(caption)].append(caption)
    return dict(by_slug)


def captions_of_name(by_slug: Mapping[str, list[str]], stem: str) -> list[str]:
    """Those that the name of a file fits, without its suffix."""
    return [caption for name in sorted(slugs_of_name(stem)) for caption in by_slug.get(name, [])]

"""Where clips come from: one small reader a layout, all onto the rows of one manifest.

A source is named by its kind and its place, ``webvid:results.csv``, and settled by options: ``root=/data/webvid``.
Without a kind a folder is ``folder``, a file of JSON lines is ``manifest``, and ``sprites`` is the sprites world.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from latentshift.data.content import content_hash
from latentshift.data.manifest import Entry, Manifest, RejectedRow, Row, write_manifest
from latentshift.data.media import is_media
from latentshift.data.sources.folder import read_folder
from latentshift.data.sources.msrvtt import read_msrvtt
from latentshift.data.sources.sprites import read_sprites
from latentshift.data.sources.ucf101 import Captions, read_ucf101
from latentshift.data.sources.webdataset import read_webdataset
from latentshift.data.sources.webvid import read_webvid
from latentshift.error_text import format_validation_error

Ignore = Callable[[str], object]

_MOST_REASONS = 3
# Rows are read elsewhere than where the user stands.
_Path = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    path: _Path
    name: str = ""
    split: str = ""

    def entries(self, ignore: Ignore = lambda name: None) -> Iterator[Entry]:
        """Its rows and what it leaves out, one after the other, in the same order every time.

        Where a ``split`` is asked for, rows of others are passed over. So are the files that macOS adds beside others
        (``._name``, ``__MACOSX``); ``ignore`` is told their names.
        """
        rows = self._entries(ignore)
        return (row for row in rows if not self.split or isinstance(row, RejectedRow) or row.split == self.split)

    def _entries(self, ignore: Ignore) -> Iterator[Entry]:
        raise NotImplementedError


class FolderSource(_Source):
    """A folder of videos and images with captions beside them (:mod:`.folder`)."""

    kind: Literal["folder"] = "folder"
    allow_outside: bool = False

    def _entries(self, ignore: Ignore) -> Iterator[Entry]:
        return read_folder(self.path, self.name or self.kind, self.allow_outside, ignore)


class ManifestSource(_Source):
    """A manifest, as ``data split`` writes it."""

    kind: Literal["manifest"] = "manifest"

    def _entries(self, ignore: Ignore) -> Iterator[Entry]:
        return Manifest(self.path).entries()


class WebVidSource(_Source):
    """WebVid's csv (:mod:`.webvid`)."""

    kind: Literal["webvid"] = "webvid"
    root: _Path | None = None

    def _entries(self, ignore: Ignore) -> Iterator[Entry]:
        return read_webvid(self.path, self.root, self.name or self.kind)


class Ucf101Source(_Source):
    """UCF-101 (:mod:`.ucf101`)."""

    kind: Literal["ucf101"] = "ucf101"
    lists: _Path | None = None
    fold: int = 1
    captions: Captions = "sentence"
    sentences: _Path | None = None

    def _entries(self, ignore: Ignore) -> Iterator[Entry]:
        return read_ucf101(
            self.path, self.lists, self.fold, self.split, self.captions, self.sentences, self.name or self.kind
        )


class MsrVttSource(_Source):
    """MSR-VTT (:mod:`.msrvtt`)."""

    kind: Literal["msrvtt"] = "msrvtt"
    root: _Path | None = None

    def _entries(self, ignore: Ignore) -> Iterator[Entry]:
        return read_msrvtt(self.path, self.root, self.split, self.name or self.kind)


class WebDatasetSource(_Source):
    """webdataset's tars (:mod:`.webdataset`)."""

    kind: Literal["webdataset"] = "webdataset"

    def _entries(self, ignore: Ignore) -> Iterator[Entry]:
        return read_webdataset(self.path, self.name or self.kind, ignore)


def _listed(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


class SpritesSource(_Source):
    """The first clips of the sprites world (:mod:`.sprites`), which lie nowhere."""

    kind: Literal["sprites"] = "sprites"
    clips: int = Field(24_000, ge=1)
    seed: int = Field(0, ge=0)
    held_out: bool = False
    motions: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()

    def _entries(self, ignore: Ignore) -> Iterator[Entry]:
        return read_sprites(self.clips, self.seed, self.held_out, self.motions, self.name or self.kind)


Source = FolderSource | ManifestSource | WebVidSource | Ucf101Source | MsrVttSource | WebDatasetSource | SpritesSource
_KINDS = {each.model_fields["kind"].default: each for each in get_args(Source)}
_ADAPTER: TypeAdapter[Source] = TypeAdapter(Annotated[Source, Field(discriminator="kind")])


def source_from(words: str, options: Mapping[str, Any]) -> Source:
    """``"kind:path"``, a bare path to a folder or a manifest, or ``"sprites"``, with its options by name.

    Raises:
        ValueError: for a kind or an option that there is not, or a path whose kind must be said.
    """
    kind, colon, path = words.partition(":")
    if words == "sprites":  # a folder of that name is ./sprites
        kind, path = words, "."
    elif not colon or kind not in _KINDS:
        place = Path(words)
        if place.suffix == ".jsonl":
            kind = "manifest"
        elif place.is_dir():
            kind = "folder"
        else:
            kinds = ", ".join(f"{each}:PATH" for each in _KINDS if each != "sprites")
            raise ValueError(f"{words} is no folder; for anything else say what it is: {kinds}, or sprites")
        path = words
    try:
        return _ADAPTER.validate_python({"kind": kind, "path": path, **options})
    except ValidationError as error:
        raise ValueError(f"the options of {words} do not hold: {format_validation_error(error, leave_out=1)}") from None


def list_source(
    target: Path,
    source: Source,
    leave_out: Callable[[RejectedRow], None],
    *,
    measured: bool = False,
    hashed: bool = False,
    captioned: bool = True,
) -> Manifest:
    """Write the manifest of a source.

    Args:
        target: the file.
        source: what to list.
        leave_out: told of everything that the source has to leave out.
        measured: note how long each file is, so that another file in its place is noticed.
        hashed: note a hash of its content too, so that one of the same length is.
        captioned: whether captions are needed; if not, videos and images without one are listed with an empty one.

    Raises:
        ValueError: if it offers no clip at all.
    """
    reasons: dict[str, str] = {}  # each with the first that it is of

    def note(left_out: RejectedRow) -> None:
        if len(reasons) < _MOST_REASONS:
            reasons.setdefault(left_out.reason, left_out.name)
        leave_out(left_out)

    entries = source.entries() if captioned else uncaptioned_entries(source)
    if not write_manifest(target, _measured(entries, hashed) if measured else entries, note):
        said = "".join(f"; {name}: {reason}" for reason, name in sorted(reasons.items()))
        what = "video or image with a caption" if captioned else "video or image"
        raise ValueError(f"{source.path} holds no {what}{said}")
    return Manifest(target)


def uncaptioned_entries(source: Source) -> Iterator[Entry]:
    """A source's entries, with an empty caption for each video and image that it refuses for want of one."""
    for entry in source.entries():
        uncaptioned = isinstance(entry, RejectedRow) and entry.kind == "missing-caption"
        # And a file of its own: not the line of a list, or a member of a tar.
        if uncaptioned and is_media(entry.name) and os.path.isfile(entry.name):
            yield Row(entry.name, ("",), source.name or source.kind)
        else:
            yield entry


def _measured(entries: Iterator[Entry], hashed: bool) -> Iterator[Entry]:
    file, length = "", None
    part: tuple[str, int | None, int | None] | None = None
    content: str | None = None
    for entry in entries:
        if isinstance(entry, RejectedRow):
            yield entry
            continue
        if entry.file != file:
            file = entry.file
            try:
                length = os.stat(file).st_size
            except OSError:
                length = None
        if hashed and length is not None and part != (file, entry.offset, entry.size):
            part = file, entry.offset, entry.size
            try:
                content = content_hash(file, entry.offset or 0, entry.size)
            except OSError:
                content = None
        yield replace(entry, file_bytes=length, file_hash=content if hashed and length is not None else None)

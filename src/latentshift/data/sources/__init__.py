"""Sources of clips: one reader for each data set layout, all of which give rows of a manifest.

A source is written as kind and path, ``webvid:results.csv``, with options such as ``root=/data/webvid``. Without a
kind, a folder is ``folder``, a ``.jsonl`` file is ``manifest``, a video or image is ``file``, and ``sprites`` is the
synthetic sprites data set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from latentshift.data.content import content_hash
from latentshift.data.manifest import Entry, Manifest, RejectedRow, Row, write_manifest
from latentshift.data.media import is_media
from latentshift.data.sources.folder import captioned_file, read_folder
from latentshift.data.sources.msrvtt import read_msrvtt
from latentshift.data.sources.sprites import read_sprites
from latentshift.data.sources.ucf101 import Captions, read_ucf101
from latentshift.data.sources.webdataset import read_webdataset
from latentshift.data.sources.webvid import read_webvid
from latentshift.files import missing_file
from latentshift.user_input.error_text import format_validation_error
from latentshift.user_input.strict_numbers import StrictNumbers

Ignore = Callable[[str], object]

_MAX_REASONS = 3
# Absolute: workers may run in another directory.
_Path = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


class _Source(StrictNumbers):
    model_config = ConfigDict(extra="forbid", frozen=True)

    path: _Path
    name: str = ""
    split: str = ""

    def entries(self, ignore: Ignore = lambda name: None) -> Iterator[Entry]:
        """Its rows and rejected entries, in the same order every time.

        Rows of splits other than ``split`` are skipped, if one is set. So are files that macOS adds (``._name``,
        ``__MACOSX``); ``ignore`` is called with their names.
        """
        rows = self._entries(ignore)
        return (row for row in rows if not self.split or isinstance(row, RejectedRow) or row.split == self.split)

    def _entries(self, ignore: Ignore) -> Iterator[Entry]:
        raise NotImplementedError


class FolderSource(_Source):
    """A folder of videos and images with caption files (:mod:`.folder`)."""

    kind: Literal["folder"] = "folder"
    allow_outside: bool = False

    def _entries(self, ignore: Ignore) -> Iterator[Entry]:
        return read_folder(self.path, self.name or self.kind, self.allow_outside, ignore)


class FileSource(_Source):
    """One video or image, with the caption that is given or that of a ``.txt`` of its name beside it."""

    kind: Literal["file"] = "file"
    caption: str = ""
    start: float | None = Field(None, ge=0, allow_inf_nan=False)

    def _entries(self, ignore: Ignore) -> Iterator[Entry]:
        yield captioned_file(str(self.path), self.name or self.kind, self.caption, self.start)


class ManifestSource(_Source):
    """A manifest, e.g. of ``data split``."""

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
    """The first clips of the synthetic sprites data set (:mod:`.sprites`)."""

    kind: Literal["sprites"] = "sprites"
    clips: int = Field(24_000, ge=1)
    seed: int = Field(0, ge=0)
    held_out: bool = False
    motions: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()

    def _entries(self, ignore: Ignore) -> Iterator[Entry]:
        return read_sprites(self.clips, self.seed, self.held_out, self.motions, self.name or self.kind)


Source = (
    FolderSource
    | ManifestSource
    | FileSource
    | WebVidSource
    | Ucf101Source
    | MsrVttSource
    | WebDatasetSource
    | SpritesSource
)
_KINDS = {each.model_fields["kind"].default: each for each in get_args(Source)}
_ADAPTER: TypeAdapter[Source] = TypeAdapter(Annotated[Source, Field(discriminator="kind")])


def parse_source(text: str, options: Mapping[str, Any]) -> Source:
    """Parse ``"kind:path"``, the path of a folder, a manifest or a video, or ``"sprites"``, with options by name.

    Raises:
        ValueError: for an unknown kind or option, or a path that needs a kind.
    """
    kind, colon, path = text.partition(":")
    if text == "sprites":  # a folder of that name is ./sprites
        kind, path = text, "."
    elif not colon or kind not in _KINDS:
        place = Path(text)
        if place.suffix == ".jsonl":
            kind = "manifest"
        elif place.is_dir():
            kind = "folder"
        elif is_media(text):
            kind = "file"
            if not place.is_file():
                raise ValueError(missing_file(place))
        else:
            kinds = ", ".join(f"{each}:PATH" for each in _KINDS if each != "sprites")
            raise ValueError(f"{text} is no folder; for anything else say what it is: {kinds}, or sprites")
        path = text
    try:
        return _ADAPTER.validate_python({"kind": kind, "path": path, **options})
    except ValidationError as error:
        known = set(_KINDS[kind].model_fields) - {"kind", "path"}
        wrong = format_validation_error(error, leave_out=1, known=known)
        raise ValueError(f"the options of {text} are not valid: {wrong}") from None


def check_not_empty(source: Source, *, captioned: bool = True, images_unused_reason: str = "") -> None:
    """Refuse a source without anything usable, as far as its list says so: entries are read up to the first usable one.

    Args:
        source: to check.
        captioned: as for :func:`list_source`.
        images_unused_reason: why images are not used; empty: they are.

    Raises:
        ValueError: if there is none; the message says why.
    """
    reasons, images = _Reasons(), 0
    for entry in source.entries() if captioned else uncaptioned_entries(source):
        if isinstance(entry, RejectedRow):
            reasons.add(entry)
        elif images_unused_reason and entry.is_image:
            images += 1
        else:
            return
    if images:
        raise ValueError(f"{source.path} holds no clips; it has images, and {images_unused_reason} ({images})")
    raise ValueError(_empty(source, reasons, captioned))


class _Reasons:
    """The first reasons why entries were rejected, each with the first name."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def add(self, rejected: RejectedRow) -> None:
        if len(self._names) < _MAX_REASONS:
            self._names.setdefault(rejected.reason, rejected.name)

    @property
    def first(self) -> str:
        return next(iter(self._names), "")

    def __str__(self) -> str:
        return "".join(f"; {name}: {reason}" for reason, name in sorted(self._names.items()))


def _empty(source: Source, reasons: _Reasons, captioned: bool) -> str:
    if isinstance(source, FileSource):
        return f"{source.path} needs a caption: {reasons.first}; write it there, or give it as caption="
    what = "video or image with a caption" if captioned else "video or image"
    return f"{source.path} holds no {what}{reasons}"


def list_source(
    target: Path,
    source: Source,
    reject: Callable[[RejectedRow], None],
    *,
    measured: bool = False,
    hashed: bool = False,
    captioned: bool = True,
) -> Manifest:
    """Write the manifest of a source.

    Args:
        target: the file.
        source: what to list.
        reject: called with each rejected entry.
        measured: record file sizes, so that a replaced file is noticed.
        hashed: record content hashes too, so that a replaced file of equal size is noticed.
        captioned: whether captions are required; if not, videos and images without one get an empty caption.

    Raises:
        ValueError: if the source has no usable clip.
    """
    reasons = _Reasons()

    def note(rejected: RejectedRow) -> None:
        reasons.add(rejected)
        reject(rejected)

    entries = source.entries() if captioned else uncaptioned_entries(source)
    if not write_manifest(target, _measured(entries, hashed) if measured else entries, note):
        raise ValueError(_empty(source, reasons, captioned))
    return Manifest(target)


def uncaptioned_entries(source: Source) -> Iterator[Entry]:
    """A source's entries; videos and images without a caption get an empty one."""
    for entry in source.entries():
        uncaptioned = isinstance(entry, RejectedRow) and entry.kind == "missing-caption"
        # A file of its own, not a line of a list or a member of a tar.
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

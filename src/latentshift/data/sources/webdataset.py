"""webdataset tar shards: a sample is the members of one key, a video or an image with a ``.txt`` or ``.json``.

The tar's headers are read once; nothing is extracted. A row holds the byte offset and length of the video in the tar,
and it is read from there.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from latentshift.data.manifest import Entry, RejectedRow, Row, not_text
from latentshift.data.media import is_mac_file, is_media
from latentshift.user_input.bounded_read import parse_json_bounded

MAX_MEMBER = 2**36  # 64 GiB: no clip is larger
_MAX_TEXT = 2**20
_MAX_HEADER = 2**20  # of a member with a long name or many attributes
_MAX_NAME = 4096
_CAPTION_KEYS = ("caption", "text", "txt")


def read_webdataset(
    place: Path, name: str = "webdataset", ignore: Callable[[str], object] = lambda name: None
) -> Iterator[Entry]:
    """The samples of one ``.tar``, or of all in a folder, in the order of their names.

    Args:
        place: the tar, or the folder.
        name: of the source, recorded in the rows.
        ignore: called with the names of files added by macOS, which are skipped.

    Raises:
        ValueError: if there is no tar, or none that can be read: a compressed one allows no random access. One among
            others is a rejected entry.
    """
    shards = [place]
    if place.is_dir():
        shards = []
        for each in sorted(place.glob("*.tar")):
            if is_mac_file(each.name):
                ignore(str(each))
            else:
                shards.append(each)
    if not shards:
        raise ValueError(f"{place} holds no .tar")
    unreadable: list[_ShardError] = []
    for shard in shards:
        try:
            yield from _read_shard(shard, name, ignore)
        except _ShardError as error:
            unreadable.append(error)
            yield RejectedRow(str(shard), "damaged", error.reason)
    if len(unreadable) == len(shards):
        others = f" (nor can the {len(shards) - 1:,} others be read)" if len(shards) > 1 else ""
        raise ValueError(f"{unreadable[0]}{others}")


class _ShardError(ValueError):
    """A shard of which no member can be read."""

    def __init__(self, shard: Path, reason: str) -> None:
        super().__init__(f"cannot read {shard}: {reason}")
        self.reason = reason


@dataclass
class _Sample:
    """The members of one key read so far."""

    key: str
    media: list[tuple[str, int, int]] = field(default_factory=list)  # name, offset, size
    captions: list[str] = field(default_factory=list)
    faults: list[RejectedRow] = field(default_factory=list)


def _read_shard(shard: Path, name: str, ignore: Callable[[str], object]) -> Iterator[Entry]:
    if not shard.is_file():
        raise _ShardError(shard, "it is no file" if shard.exists() else "there is no such file")
    sample: _Sample | None = None
    seen_members = 0
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=cast(BinaryIO, _BoundedReads(file)), mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep all headers in memory
                seen_members += 1
                if member.isdir():
                    continue
                if is_mac_file(member.name):
                    ignore(f"{shard}/{member.name}")
                    continue
                inside = f"{shard}/{member.name}"
                fault = _fault(member)
                if fault:
                    yield RejectedRow(inside, "unsafe-member", fault)
                    continue
                key, suffix = _key(member.name)
                if sample is None or key != sample.key:
                    if sample is not None:
                        yield from _finished(shard, sample, name)
                    sample = _Sample(key)
                if is_media(f"x.{suffix}"):
                    sample.media.append((member.name, member.offset_data, member.size))
                elif suffix in ("txt", "json"):
                    if member.size > _MAX_TEXT:
                        sample.faults.append(RejectedRow(inside, "unsafe-member", f"a text of {member.size} bytes"))
                        continue
                    content = tar.extractfile(member)
                    assert content is not None  # it is a plain file
                    try:
                        sample.captions.append(_caption(content.read(), suffix))
                    except ValueError as error:
                        sample.faults.append(RejectedRow(inside, "missing-caption", str(error)))
            if not _ends_well(tar):
                yield RejectedRow(str(shard), "damaged", f"it breaks off after {seen_members} members")
    except (tarfile.TarError, OSError) as error:
        if not seen_members:
            if isinstance(error, tarfile.ReadError):
                reason = f"it is no plain tar ({error}); unpack a compressed one with gunzip"
            else:
                reason = str(getattr(error, "strerror", None) or error)
            raise _ShardError(shard, reason) from None
        yield RejectedRow(str(shard), "damaged", f"it breaks off after {seen_members} members: {error}")
    if sample is not None:
        yield from _finished(shard, sample, name)


def _ends_well(tar: tarfile.TarFile) -> bool:
    """Whether the tar ends with a block of zeros: tarfile takes a damaged header for the end."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    block = tar.fileobj.read(tarfile.BLOCKSIZE)
    return len(block) == tarfile.BLOCKSIZE and not any(block)


def _finished(shard: Path, sample: _Sample, name: str) -> Iterator[Entry]:
    """The one row of a sample, usable or not, after what is wrong with its texts where that is not the reason."""
    where = f"{shard}/{sample.key}"
    faults = sample.faults
    if faults and not sample.captions and len(sample.media) == 1:
        yield faults[0]
        faults = faults[1:]
    yield from (replace(fault, caption=True) for fault in faults)
    if len(sample.media) != 1:
        if sample.media:
            yield RejectedRow(
                where, "bad-row", f"it has {len(sample.media)} videos or images, and one belongs to a key"
            )
        else:
            yield RejectedRow(where, "no-video", "it has neither a video nor an image")
        return
    if not sample.captions:
        if not sample.faults:
            yield RejectedRow(where, "missing-caption", "it has no .txt or .json with a caption")
        return
    member, offset, size = sample.media[0]
    yield Row(str(shard), tuple(sample.captions[:1]), name, offset=offset, size=size, member=member)


def _key(member: str) -> tuple[str, str]:
    """webdataset's rule: the key ends at the first dot of the file's own name."""
    path = PurePosixPath(member)
    stem, _, suffix = path.name.partition(".")
    return str(path.parent / stem), suffix.lower()


def _fault(member: tarfile.TarInfo) -> str:
    if not member.isreg() or member.issparse():
        return "it is no plain file"
    if len(member.name) > _MAX_NAME:
        return f"its name has {len(member.name):,} characters"
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        return "its name leads out of the shard"
    if not 0 <= member.size <= MAX_MEMBER:
        return f"it claims {member.size} bytes"
    return ""


def _caption(content: bytes, suffix: str) -> str:
    """The caption of a ``.txt`` or ``.json``.

    Raises:
        ValueError: if there is none; the message does not include the file name.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    if suffix == "json":
        values = parse_json_bounded(text, "it")
        texts = [values[key] for key in _CAPTION_KEYS if isinstance(values, dict) and isinstance(values.get(key), str)]
        if not texts:
            raise ValueError(f"it has no {' or '.join(_CAPTION_KEYS)} that is a sentence")
        text = texts[0]
    if wrong := not_text(text):
        raise ValueError(wrong)
    if not text.strip():
        raise ValueError("its caption is empty")
    return " ".join(text.split())


class _BoundedReads:
    """A file that limits each read to the size of a header: the tar claims its length."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int) -> bytes:
        if size > _MAX_HEADER:
            raise tarfile.ReadError(f"a header claims {size:,} bytes")
        return self._file.read(size)

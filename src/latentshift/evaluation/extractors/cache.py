"""The folder with the extractors' files: where it is, what is in it, and reading a file only after its checksum.

A folder for each extractor: its files, and ``record.json`` with their checksums and whether they were added without a
known one. Imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from latentshift.evaluation.extractors.known import KnownExtractor, KnownFile, known_extractor
from latentshift.user_input.bounded_read import load_json_bounded, read_bytes_bounded
from latentshift.user_input.error_text import printable

VARIABLE = "LATENTSHIFT_EXTRACTORS"
RECORD = "record.json"
FORMAT = "latentshift-extractor/1"
MAX_FILE = 2**32  # bytes of one file of an extractor
SHIPPED = Path(__file__).with_name("shipped")


def cache_folder() -> Path:
    """The folder of ``LATENTSHIFT_EXTRACTORS``, else ``latentshift/extractors`` in the user's cache directory.

    Raises:
        ValueError: if the user has no home folder and names none.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen)
    try:
        return user_cache() / "latentshift" / "extractors"
    except RuntimeError:
        raise ValueError(f"this user has no home folder: name a cache folder with {VARIABLE}") from None


def user_cache() -> Path:
    """The user's cache directory.

    That is ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on Windows, and elsewhere ``$XDG_CACHE_HOME``, or
    ``~/.cache`` if it is not set or not absolute (XDG Base Directory Specification).

    Raises:
        RuntimeError: if the user has no home folder.
    """
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return chosen if chosen.is_absolute() else Path.home() / ".cache"


@dataclass(frozen=True)
class CachedExtractor:
    """An extractor whose files are there.

    Attributes:
        known: its entry.
        folder: with its files.
        hashes: name of each file -> SHA-256; the weights first.
        verified: every file has the checksum that its publisher or others have published.
    """

    known: KnownExtractor
    folder: Path
    hashes: dict[str, str]
    verified: bool

    @property
    def sha256(self) -> str:
        """Of the weights."""
        return next(iter(self.hashes.values()))

    def read(self, name: str) -> bytes:
        """The content of one of its files, after its checksum has been compared with the recorded one.

        Raises:
            ValueError: if it can't be read, or was changed since it was added.
        """
        content = read_bytes_bounded(self.folder / name, MAX_FILE)
        if hashlib.sha256(content).hexdigest() != self.hashes[name]:
            raise ValueError(
                f"{self.folder / name} was changed since it was added (its SHA-256 is not {self.hashes[name]}): "
                f"add the extractor {self.known.name} again with `latentshift evaluate extractors --add`"
            )
        return content


def find_extractor(name: str) -> CachedExtractor | None:
    """The extractor of this name if its files are there; their contents are not looked at until they are read.

    Raises:
        ValueError: for an unknown name; or if its record is damaged, or a file is gone.
    """
    known = known_extractor(name)
    if known.shipped:
        hashes = {each.name: str(each.sha256) for each in known.files}
        return CachedExtractor(known, SHIPPED, hashes, verified=True)
    folder = cache_folder() / name
    if not folder.is_dir():
        return None
    hashes, unverified = _read_record(folder, known)
    missing = [each for each in hashes if not (folder / each).is_file()]
    if missing:
        raise ValueError(f"{folder} is incomplete: {missing[0]} is gone; {_how_to_add(known)}")
    verified = is_verified(known, hashes)
    if not verified and not unverified:
        raise ValueError(f"{folder / RECORD} names files that are not known ones; {_how_to_add(known)}")
    return CachedExtractor(known, folder, hashes, verified)


def require_extractor(name: str) -> CachedExtractor:
    """As :func:`find_extractor`, for one that must be there.

    Raises:
        ValueError: also if it is missing: where its files come from, what they must hash to, and how to add them.
    """
    extractor = find_extractor(name)
    if extractor is None:
        known = known_extractor(name)
        raise ValueError(f"the extractor {name} ({known.serves}) is missing: {_how_to_add(known)}")
    return extractor


def is_verified(known: KnownExtractor, hashes: dict[str, str]) -> bool:
    """Whether every file has its published checksum."""
    return all(each.sha256 is not None and hashes.get(each.name) == each.sha256 for each in known.files)


def write_record(folder: Path, known: KnownExtractor, hashes: dict[str, str], *, unverified: bool) -> None:
    """Write what :func:`find_extractor` reads, into a folder that is put in its place later."""
    record = {"format": FORMAT, "name": known.name, "files": hashes, "unverified": unverified}
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def add_command(known: KnownExtractor) -> str:
    """What a user types to add an extractor's file or folder."""
    what = known.weights.name if len(known.files) == 1 else "FOLDER"
    word = "" if all(each.sha256 for each in known.files) else f" --unverified {known.name}"
    return f"latentshift evaluate extractors --add {what}{word}"


def checksum_text(file: KnownFile) -> str:
    """A file's checksum for a sentence or a list."""
    return f"SHA-256 {file.sha256}" if file.sha256 else "no published checksum"


def _how_to_add(known: KnownExtractor) -> str:
    weights = known.weights
    size = f"{weights.size:,} bytes, " if weights.size else ""
    return (
        f"get {weights.name} ({size}{checksum_text(weights)}, licence: {known.licence}) from {known.source} and add it "
        f"with `{add_command(known)}`"
    )


def _read_record(folder: Path, known: KnownExtractor) -> tuple[dict[str, str], bool]:
    path = folder / RECORD
    record = load_json_bounded(path)
    files = record.get("files") if isinstance(record, dict) else None
    names = [{each.name, each.alternative} for each in known.files]
    if (
        not isinstance(files, dict)
        or record.get("format") != FORMAT
        or record.get("name") != known.name
        or not isinstance(record.get("unverified"), bool)
        or len(files) != len(names)
        or not all(name in allowed for name, allowed in zip(files, names, strict=True))
        or not all(isinstance(each, str) and re.fullmatch("[0-9a-f]{64}", each) for each in files.values())
    ):
        raise ValueError(f"{printable(path, 4096)} is damaged; {_how_to_add(known)}")
    return files, record["unverified"]

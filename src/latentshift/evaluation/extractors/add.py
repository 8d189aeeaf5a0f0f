"""Take an extractor's file into the cache: only with a known checksum, or with the user's explicit word."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from latentshift.evaluation.extractors.cache import (
    MAX_FILE,
    CachedExtractor,
    cache_folder,
    checksum_text,
    is_verified,
    write_record,
)
from latentshift.evaluation.extractors.known import EXTRACTORS, KnownExtractor, known_extractor
from latentshift.files import atomic_write, explain_full_disk, missing_file
from latentshift.user_input.error_text import printable

_CHUNK = 2**20


def add_extractor(path: Path, unverified: str | None = None) -> CachedExtractor:
    """Check a file, or a folder of an extractor with several files, and copy it into the cache.

    Which extractor it is tells the checksum, not the name. Nothing is opened as a model here. An extractor that is
    there already is replaced when the new files are complete.

    Args:
        path: the file or folder; other files in the folder are not copied.
        unverified: name of the extractor whose files these are by the user's word, whatever their checksums. The
            record keeps that they are not verified.

    Raises:
        ValueError: if it can't be read, is too large, has no known checksum and ``unverified`` is None, is known as
            another extractor's, or an extractor of this name is shipped.
        OSError: if the cache can't be written to.
    """
    named = None if unverified is None else known_extractor(unverified)
    if named is not None and named.shipped:
        raise ValueError(f"the extractor {named.name} is shipped with latentshift and can't be replaced")
    if path.is_dir():
        known = named or _folder_extractor(path)
        sources = _folder_files(path, known)
        hashes = {name: _hash(source) for name, source in sources.items()}
    elif path.is_file():
        given = _hash(path)
        known = _file_extractor(path, given, named)
        sources, hashes = {known.weights.name: path}, {known.weights.name: given}
    else:
        raise ValueError(missing_file(path) if path.exists() else f"there is no file or folder {path}")
    verified = is_verified(known, hashes)
    if not verified and named is None:
        wrong = next(each for each in known.files if hashes.get(each.name) != each.sha256)
        wrong_hash = hashes.get(wrong.name)
        raise ValueError(
            f"{path} is not the known {known.name}: {wrong.name} must have the {checksum_text(wrong)}, and "
            + (
                f"has {wrong_hash}"
                if wrong_hash
                else f"{wrong.alternative} is there in its place, whose checksum is not known"
            )
            + f"; get it from {known.source}, or take it without a check with --unverified {known.name}"
        )
    target = cache_folder() / known.name
    with explain_full_disk(target, "nothing was added"), atomic_write(target) as temporary:
        temporary.mkdir()
        for name, source in sources.items():
            with (temporary / name).open("wb") as copy:
                if _hash(source, copy.write) != hashes[name]:
                    raise ValueError(f"{source} changed while it was read: add it again")
        write_record(temporary, known, hashes, unverified=not verified)
    return CachedExtractor(known, target, hashes, verified)


def _file_extractor(path: Path, given: str, named: KnownExtractor | None) -> KnownExtractor:
    """Whose file this is: by checksum, else by the user's word."""
    single = [each for each in EXTRACTORS.values() if len(each.files) == 1 and not each.shipped]
    for each in single:
        if each.weights.sha256 == given:
            if named is not None and named is not each:
                raise ValueError(f"{path} is the known file of {each.name}, and not one of {named.name}")
            return each
    if named is None:
        same_name = [each for each in single if each.weights.name == path.name]
        known = "; ".join(f"{each.weights.name} of {each.name}: {checksum_text(each.weights)}" for each in same_name)
        raise ValueError(
            f"{path} has the SHA-256 {given}, which is not a known one"
            + (f" ({known})" if known else "")
            + "; a TorchScript file is code, so it is only taken without a check if you say whose it is: "
            f"--unverified {same_name[0].name if same_name else 'NAME'}"
        )
    if len(named.files) > 1:
        names = ", ".join(each.name for each in named.files)
        raise ValueError(f"{path} is a file, and {named.name} is a folder with {names}: name the folder")
    return named


def _folder_extractor(path: Path) -> KnownExtractor:
    folders = [each for each in EXTRACTORS.values() if len(each.files) > 1 and not each.shipped]
    for each in folders:
        if all(_existing_file(path, file.name, file.alternative) for file in each.files):
            return each
    wanted = "; ".join(f"{each.name}: {', '.join(file.name for file in each.files)}" for each in folders)
    raise ValueError(f"{path} is not the folder of a known extractor, which has all of these files: {wanted}")


def _folder_files(path: Path, known: KnownExtractor) -> dict[str, Path]:
    if len(known.files) == 1:
        raise ValueError(f"{path} is a folder, and {known.name} is one file: name the file")
    sources = {}
    for each in known.files:
        source = _existing_file(path, each.name, each.alternative)
        if source is None:
            raise ValueError(f"{path} has no {each.name}, which {known.name} needs")
        sources[source.name] = source
    return sources


def _existing_file(folder: Path, name: str, alternative: str | None) -> Path | None:
    candidates = [folder / each for each in (name, alternative) if each]
    return next((each for each in candidates if each.is_file()), None)


def _hash(path: Path, write: Callable[[bytes], object] = len) -> str:
    """A file's SHA-256; each block also goes to ``write``."""
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while block := file.read(_CHUNK):
                size += len(block)
                if size > MAX_FILE:
                    raise ValueError(f"{path} is longer than {MAX_FILE:,} bytes, and no extractor's file is")
                digest.update(block)
                write(block)
    except OSError as error:
        if error.filename is not None:
            raise ValueError(f"cannot read {printable(path, 4096)}: {error.strerror}") from None
        raise
    return digest.hexdigest()

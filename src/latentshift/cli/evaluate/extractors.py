"""``latentshift evaluate extractors``: which networks for metrics are there, and how to add one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer

from latentshift.evaluation.extractors.cache import (
    VARIABLE,
    CachedExtractor,
    add_command,
    cache_folder,
    checksum_text,
    find_extractor,
)
from latentshift.evaluation.extractors.known import EXTRACTORS, KnownExtractor
from latentshift.user_input.error_text import printable


def extractors(
    add: Path | None = typer.Option(
        None, "--add", help="A file, or CLIP's folder, to check and to copy into the cache folder."
    ),
    unverified: str | None = typer.Option(
        None,
        "--unverified",
        help="With --add: the extractor whose file this is, if its checksum is not known. A TorchScript file is code.",
    ),
) -> None:
    """List the networks that metrics need: which are there, where the others come from, checksums and licences."""
    if unverified is not None and add is None:
        raise ValueError("--unverified needs --add FILE: it says whose file that is")
    if add is not None:
        from latentshift.evaluation.extractors.add import add_extractor

        added = add_extractor(add, unverified)
        print(f"{added.known.name}: {printable(added.folder, 4096)}, SHA-256 {added.sha256}, {_verdict(added)}")
        return
    print(f"{printable(cache_folder(), 4096)} (the environment variable {VARIABLE} names another)")
    for known in EXTRACTORS.values():
        for line in _lines(known):
            print(line)


def _lines(known: KnownExtractor) -> Iterator[str]:
    try:
        cached = find_extractor(known.name)
        state = "missing" if cached is None else f"there, {_verdict(cached)}"
    except ValueError as error:  # a damaged one says so here and not in place of the others
        cached, state = None, f"damaged: {error}"
    yield f"\n{known.name}: {known.serves}; {state}"
    for file in known.files:
        size = f" ({file.size:,} bytes)" if file.size else ""
        yield f"  {file.name}{size}: {checksum_text(file)}"
        for name in (file.name, file.alternative):
            if cached and name in cached.hashes and cached.hashes[name] != file.sha256:
                yield f"    not verified, the one that is there: {name}, SHA-256 {cached.hashes[name]}"
    yield f"  from {'this package' if known.shipped else known.source}"
    yield f"  licence: {known.licence}"
    if known.note:
        yield f"  {known.note}"
    if cached is None:
        yield f"  add it: {add_command(known)}"


def _verdict(cached: CachedExtractor) -> str:
    if cached.known.shipped:
        return "shipped"
    return "verified" if cached.verified else "not verified"

"""The manifest and spec of a folder of encoded clips: written once, and compared on every later run."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from latentshift.data.latents.partial_shard import PartialShard
from latentshift.data.latents.spec import (
    LatentSpec,
    index_path,
    manifest_path,
    num_shards,
    rejected_path,
    shard_info,
    shard_path,
    write_spec,
)
from latentshift.data.manifest import Manifest, Row
from latentshift.data.rejected_list import RejectedList
from latentshift.data.sources import Source, list_source
from latentshift.files import atomic_write, explain_full_disk


def resolve_source(
    folder: Path,
    source: Source,
    spec: LatentSpec,
    *,
    retry: bool = False,
    otherwise: str = "choose another folder",
    with_retry: str = "encode with --retry",
) -> Manifest:
    """Write the manifest and spec of a folder of shards, or check that those in it are the same.

    Args:
        folder: for the shards; unchanged if this raises.
        source: of the clips.
        spec: settings of the shards; its ``manifest`` is filled in here.
        retry: remake shards with rejected clips; the files of those clips may have changed.
        otherwise: what to do where the folder holds others, for the message.
        with_retry: how to say ``retry``, for the message.

    Raises:
        ValueError: if the source has no clip, or the folder holds clips of another source or spec; the message names
            the difference.
    """
    scratch_disk = explain_full_disk(Path(tempfile.gettempdir()), "or set TMPDIR to a folder on another disk")
    with scratch_disk, tempfile.TemporaryDirectory() as scratch:
        rejected = RejectedList(Path(scratch) / "left-out.jsonl")
        rejected.path.touch()
        hashed = _uses_content_hash(folder)
        listed = list_source(Path(scratch) / "manifest.jsonl", source, rejected.add, measured=True, hashed=hashed)
        now = replace(spec, manifest=listed.digest)
        before = LatentSpec.read(folder) if index_path(folder).exists() else None
        if before is not None:
            if difference := replace(now, manifest=before.manifest).difference(before):
                raise ValueError(f"{folder} holds clips of other settings: {difference}; {otherwise}")
            if now != before:
                _check_rows(folder, listed, before, retry, otherwise, with_retry)
        with explain_full_disk(folder, "nothing in it has changed, and the same command starts over"):
            for path, target in ((listed.path, manifest_path(folder)), (rejected.path, rejected_path(folder))):
                with atomic_write(target) as temporary:
                    shutil.copyfile(path, temporary)
        if now != before:
            write_spec(folder, now)
    if retry:
        _drop_incomplete_shards(folder, now)
    return Manifest(manifest_path(folder))


def _check_rows(
    folder: Path, listed: Manifest, before: LatentSpec, retry: bool, otherwise: str, with_retry: str
) -> None:
    """Check that the rows are unchanged, apart from the files of rejected clips if ``retry``."""
    known = Manifest(manifest_path(folder))
    numbers = _shard_numbers(folder, before) if retry else ()
    rejected_before = {name for number in numbers for name in _rejected_names(folder, number)}
    for one, other in zip(known, listed, strict=False):
        same_but_file = _without_file(one) == _without_file(other)
        if one == other or (retry and same_but_file and one.name in rejected_before):
            continue
        what = "another file than it was" if same_but_file else "another row than it was"
        raise ValueError(
            f"{folder} holds clips of other settings: {other.name} is {what}; {otherwise}"
            + (f", or, if it had been refused, {with_retry}" if same_but_file and not retry else "")
        )
    if len(known) != len(listed):
        raise ValueError(
            f"{folder} holds clips of other settings: of {len(known)} rows, where there are {len(listed)} now; "
            f"{otherwise}"
        )


def _without_file(row: Row) -> Row:
    return replace(row, file_bytes=None, file_hash=None)


def _uses_content_hash(folder: Path) -> bool:
    """Whether the manifest has content hashes; folders of earlier versions have file sizes alone."""
    if not index_path(folder).exists() or not manifest_path(folder).exists():
        return True
    measured = (row for row in Manifest(manifest_path(folder)) if row.file_bytes is not None)
    first = next(measured, None)
    return first is None or first.file_hash is not None


def _drop_incomplete_shards(folder: Path, spec: LatentSpec) -> None:
    for number in _shard_numbers(folder, spec):
        if _rejected_names(folder, number):
            path = shard_path(folder, number)
            for each in (path.with_suffix(".json"), path, path.with_suffix(".partial")):
                each.unlink(missing_ok=True)


def _rejected_names(folder: Path, number: int) -> list[str]:
    """The names of the rejected clips of a shard, finished or partial."""
    path = shard_path(folder, number)
    names = []
    if path.with_suffix(".json").exists():
        names += [each["name"] for each in shard_info(folder, number)["refused"]]
    if path.with_suffix(".partial").exists():
        with PartialShard(path.with_suffix(".partial")) as partial:
            names += [json.loads(record)["name"] for record in partial.records() if record[:1] == b"{"]
    return names


def _shard_numbers(folder: Path, spec: LatentSpec) -> range:
    return range(num_shards(spec, Manifest(manifest_path(folder))))

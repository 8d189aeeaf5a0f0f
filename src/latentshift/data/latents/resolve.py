"""What a folder of encoded clips is of: its rows and its plan, written down once and kept to."""

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
    left_out_path,
    manifest_path,
    num_shards,
    shard_facts,
    shard_path,
    write_spec,
)
from latentshift.data.manifest import Manifest, Row
from latentshift.data.rejected_list import RejectedList
from latentshift.data.sources import Source, list_source
from latentshift.files import atomic_write, explain_full_disk


def resolve_source(folder: Path, source: Source, plan: LatentSpec, *, retry: bool = False) -> Manifest:
    """Settle what a folder of shards is of: its manifest and its plan, or that those there are the same.

    Args:
        folder: for the shards; nothing in it changes unless all is well.
        source: of the clips.
        plan: what the shards are to be a function of; its ``manifest`` is filled in here.
        retry: have the shards that lack clips made anew; the files of clips that were refused may be others now.

    Raises:
        ValueError: if the source offers no clip, or the folder holds clips of another making; the message names the
            difference.
    """
    scratch_disk = explain_full_disk(Path(tempfile.gettempdir()), "or set TMPDIR to a folder on another disk")
    with scratch_disk, tempfile.TemporaryDirectory() as scratch:
        left_out = RejectedList(Path(scratch) / "left-out.jsonl")
        left_out.path.touch()
        hashed = _hashed(folder)
        found = list_source(Path(scratch) / "manifest.jsonl", source, left_out.add, measured=True, hashed=hashed)
        now = replace(plan, manifest=found.digest)
        before = LatentSpec.read(folder) if index_path(folder).exists() else None
        if before is not None:
            if difference := replace(now, manifest=before.manifest).difference(before):
                raise ValueError(f"{folder} holds clips of another making: {difference}; choose another folder")
            if now != before:
                _check_rows(folder, found, before, retry)
        with explain_full_disk(folder, "nothing in it has changed, and the same command begins again"):
            for path, target in ((found.path, manifest_path(folder)), (left_out.path, left_out_path(folder))):
                with atomic_write(target) as temporary:
                    shutil.copyfile(path, temporary)
        if now != before:
            write_spec(folder, now)
    if retry:
        _drop_what_lacks(folder, now)
    return Manifest(manifest_path(folder))


def _check_rows(folder: Path, found: Manifest, before: LatentSpec, retry: bool) -> None:
    """That the rows are those of before, or differ only in the files of clips that were refused."""
    known = Manifest(manifest_path(folder))
    refused = {name for number in _numbers(folder, before) for name in _refused(folder, number)} if retry else set()
    for one, other in zip(known, found, strict=False):
        same_but_file = _without_file(one) == _without_file(other)
        if one == other or (retry and same_but_file and one.name in refused):
            continue
        what = "another file than it was" if same_but_file else "another row than it was"
        raise ValueError(
            f"{folder} holds clips of another making: {other.name} is {what}; choose another folder"
            + (", or, if it had been refused, encode with --retry" if same_but_file and not retry else "")
        )
    if len(known) != len(found):
        raise ValueError(
            f"{folder} holds clips of another making: of {len(known)} rows, where there are {len(found)} now; choose "
            "another folder"
        )


def _without_file(row: Row) -> Row:
    return replace(row, file_bytes=None, file_hash=None)


def _hashed(folder: Path) -> bool:
    """Whether files are told apart by their content: not in folders of before, which noted their lengths alone."""
    if not index_path(folder).exists() or not manifest_path(folder).exists():
        return True
    measured = (row for row in Manifest(manifest_path(folder)) if row.file_bytes is not None)
    first = next(measured, None)
    return first is None or first.file_hash is not None


def _drop_what_lacks(folder: Path, plan: LatentSpec) -> None:
    for number in _numbers(folder, plan):
        if _refused(folder, number):
            path = shard_path(folder, number)
            for each in (path.with_suffix(".json"), path, path.with_suffix(".partial")):
                each.unlink(missing_ok=True)


def _refused(folder: Path, number: int) -> list[str]:
    """The names of what a shard lacks, finished or half made."""
    path = shard_path(folder, number)
    names = []
    if path.with_suffix(".json").exists():
        names += [each["name"] for each in shard_facts(folder, number)["refused"]]
    if path.with_suffix(".partial").exists():
        with PartialShard(path.with_suffix(".partial")) as partial:
            names += [json.loads(record)["name"] for record in partial.records() if record[:1] == b"{"]
    return names


def _numbers(folder: Path, plan: LatentSpec) -> range:
    return range(num_shards(plan, Manifest(manifest_path(folder))))

"""Encode clips once, into the shards of :mod:`latentshift.data.latents.shard`.

A shard is a function of the plan, the rows and its number alone: which machine or engine makes it, and how often that
was broken off, changes no byte. While a shard is being made, every clip that is done stands in ``shard-00012.partial``.
Encoders are callables that are passed in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from latentshift.data.footage.decode import IMPORTS, read_clip
from latentshift.data.latents.partial_shard import PartialShard
from latentshift.data.latents.shard import Contents
from latentshift.data.latents.spec import LatentSpec, manifest_path, num_shards, shard_path
from latentshift.data.manifest import Manifest, Row
from latentshift.data.prefetch import prefetch
from latentshift.data.rejected import Rejected
from latentshift.data.sample_order import rng_for
from latentshift.data.worker_pool import WorkerLimits, WorkerPool
from latentshift.files import atomic_write, atomic_write_text, explain_full_disk

FrameEncoder = Callable[[np.ndarray], np.ndarray]  # uint8 (F, H, W, 3) -> moments (F, 2C, h, w)
TextEncoder = Callable[[str], np.ndarray]  # a caption -> (L, D)

_KNOWN_CAPTIONS = 1024
_CLIPS_AHEAD = 4


@dataclass(frozen=True)
class Look:
    """A row whose views are to be decoded."""

    index: int
    row: Row
    plan: LatentSpec


@dataclass(frozen=True)
class Views:
    """A clip's views.

    Attributes:
        frames: uint8 (V, F, H, W, 3); of an image (V, 1, H, W, 3).
        short: whether the video was shorter than the window.
    """

    frames: np.ndarray
    short: bool = False


def decode_views(look: Look) -> Views:
    """All views of a clip; runs in worker processes.

    Raises:
        Rejected: for a clip that can't be used.
    """
    plan, row = look.plan, look.row
    window = replace(plan.window, frames=1) if row.is_image else plan.window
    clips = [read_clip(row, window, plan.framing, rng_for(plan.seed, look.index, view)) for view in range(plan.views)]
    return Views(np.stack([clip.frames for clip in clips]), any(clip.short for clip in clips))


def encode_shards(
    folder: Path,
    encode_frames: FrameEncoder,
    encode_text: TextEncoder | None,
    limits: WorkerLimits,
    part: tuple[int, int] = (0, 1),
    only: int | None = None,
) -> Generator[int, None, None]:
    """Make the shards of a folder that are not there yet; yields how many more rows are done, time and again.

    Args:
        folder: settled by :func:`latentshift.data.latents.resolve.settle_source`.
        encode_frames: the autoencoder.
        encode_text: the text encoder; not asked if the plan keeps no text.
        limits: of the decoding.
        part: (k, n): every n-th shard from the k-th on, for one of n processes.
        only: the number of the one shard to make.

    Raises:
        OSError: where the disk is full; what is encoded is kept.
    """
    plan, manifest = LatentSpec.read(folder), Manifest(manifest_path(folder))
    encode_text = lru_cache(_KNOWN_CAPTIONS)(encode_text) if encode_text is not None and plan.text else None
    mine, all_parts = part
    numbers = range(mine, num_shards(plan, manifest), all_parts) if only is None else range(only, only + 1)
    kept = f"what is encoded is kept in {folder}, and the same command goes on there"
    with explain_full_disk(folder, kept), WorkerPool(decode_views, limits, IMPORTS) as pool:
        for number in numbers:
            before = 0
            for done in make_shard(folder, plan, manifest, number, pool.run, encode_frames, encode_text, pool.close):
                yield done - before
                before = done


def make_shard(
    folder: Path,
    plan: LatentSpec,
    manifest: Manifest,
    number: int,
    views: Callable[[Iterator[Look]], Iterator[tuple[Look, Views | Rejected]]],
    encode_frames: FrameEncoder,
    encode_text: TextEncoder | None,
    stop: Callable[[], None] = lambda: None,
) -> Iterator[int]:
    """Make one shard, from where it was broken off; yields after each clip how many rows of it are done.

    Args:
        folder: of the shards.
        plan: what they are a function of.
        manifest: the rows.
        number: of the shard, 0, 1, ….
        views: decodes: :meth:`latentshift.data.worker_pool.WorkerPool.run` of :func:`decode_views`.
        encode_frames: the autoencoder.
        encode_text: the text encoder; None if the plan keeps no text.
        stop: ends the decoding where this is given up: :meth:`latentshift.data.worker_pool.WorkerPool.close`.
    """
    first = number * plan.clips_per_shard
    last = min(first + plan.clips_per_shard, len(manifest))
    target = shard_path(folder, number)
    path = target.with_suffix(".partial")
    if _finished(target):
        path.unlink(missing_ok=True)  # of a process that was killed right after
        yield last - first
        return
    with PartialShard(path) as partial:
        if _finished(target):  # by another process, just now
            partial.remove()
            yield last - first
            return
        if partial.count:
            yield partial.count
        looks = (Look(index, manifest[index], plan) for index in range(first + partial.count, last))
        for look, answer in prefetch(views(looks), _CLIPS_AHEAD, stop):
            partial.append(_record(look, answer, encode_frames, encode_text))
            yield partial.count
        if partial.count != last - first:
            raise AssertionError(f"{path} holds {partial.count} records instead of {last - first}")
        _finish(target, first, manifest, partial, None if encode_text is None else encode_text(""))
        partial.remove()


def _finished(target: Path) -> bool:
    return target.exists() and target.with_suffix(".json").exists()


def _record(
    look: Look, answer: Views | Rejected, encode_frames: FrameEncoder, encode_text: TextEncoder | None
) -> bytes:
    if not isinstance(answer, Rejected):
        # In C order: safetensors would write what numpy holds in any other as it lies in memory.
        moments = np.stack([encode_frames(view) for view in answer.frames]).astype(np.float16, order="C")
        if not np.isfinite(moments).all():
            answer = Rejected("not-finite", "the autoencoder makes latents of it that are not finite")
    if isinstance(answer, Rejected):
        said = {"name": look.row.name, "kind": answer.kind, "reason": answer.reason}
        return json.dumps(said, ensure_ascii=False).encode()
    content = {"moments": moments}
    if encode_text is not None:
        captions = look.row.captions + look.row.image_captions
        content["text"] = np.stack([encode_text(caption) for caption in captions]).astype(np.float16, order="C")
    return (b"S" if answer.short else b"T") + save(content)


def _finish(target: Path, first: int, manifest: Manifest, partial: PartialShard, empty: np.ndarray | None) -> None:
    contents = Contents(empty)
    refused: list[dict[str, Any]] = []
    short: list[str] = []
    for number, record in enumerate(partial.records(), first):
        if record[:1] == b"{":
            refused.append(json.loads(record))
            continue
        row, tensors = manifest[number], load(record[1:])
        contents.add(number, row, tensors["moments"], tensors.get("text"))
        if record[:1] == b"S":
            short.append(row.name)
    stored = save(contents.to_tensors())
    with atomic_write(target) as temporary:
        temporary.write_bytes(stored)
    facts = {
        "clips": len(contents.moments),
        "images": len(contents.images),
        "refused": refused,
        "short": short,
        "bytes": len(stored),
        "sha256": hashlib.sha256(stored).hexdigest(),
    }
    atomic_write_text(target.with_suffix(".json"), json.dumps(facts, indent=1, ensure_ascii=False) + "\n")

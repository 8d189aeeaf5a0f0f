"""Encode clips into the shards of :mod:`latentshift.data.latents.shard`.

The bytes of a shard are a function of the spec, the rows and the shard's number: not of the machine or engine, nor of
interruptions. While a shard is being made, finished clips are in ``shard-00012.partial``. Encoders are callables that
are passed in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from latentshift.caption_embedding import CaptionEmbedding
from latentshift.data.footage.decode import IMPORTS, read_clip
from latentshift.data.latents.partial_shard import PartialShard
from latentshift.data.latents.shard import ShardBuilder
from latentshift.data.latents.spec import LatentSpec, manifest_path, num_shards, shard_path
from latentshift.data.manifest import Manifest, Row
from latentshift.data.prefetch import prefetch
from latentshift.data.rejected import Rejected
from latentshift.data.sample_order import rng_for
from latentshift.data.worker_pool import WorkerLimits, WorkerPool
from latentshift.files import atomic_write, atomic_write_text, explain_full_disk

FrameEncoder = Callable[[np.ndarray], np.ndarray]  # uint8 (F, H, W, 3) -> moments (F, 2C, h, w)
TextEncoder = Callable[[str], CaptionEmbedding]

_KNOWN_CAPTIONS = 1024
_CLIPS_AHEAD = 4


@dataclass(frozen=True)
class DecodeTask:
    """A row to decode all views of."""

    index: int
    row: Row
    spec: LatentSpec


@dataclass(frozen=True)
class Views:
    """The decoded views of a clip.

    Attributes:
        frames: uint8 (V, F, H, W, 3); of an image (V, 1, H, W, 3).
        short: whether the video is shorter than the window.
    """

    frames: np.ndarray
    short: bool = False


def decode_views(task: DecodeTask) -> Views:
    """Decode all views of a clip; runs in worker processes.

    Raises:
        Rejected: for a clip that can't be used.
    """
    spec, row = task.spec, task.row
    window = replace(spec.window, frames=1) if row.is_image else spec.window
    clips = [read_clip(row, window, spec.framing, rng_for(spec.seed, task.index, view)) for view in range(spec.views)]
    return Views(np.stack([clip.frames for clip in clips]), any(clip.short for clip in clips))


def encode_shards(
    folder: Path,
    encode_frames: FrameEncoder,
    encode_text: TextEncoder | None,
    limits: WorkerLimits,
    part: tuple[int, int] = (0, 1),
    numbers: Iterable[int] | None = None,
) -> Generator[int, None, None]:
    """Make the missing shards of a folder; yields the number of newly finished rows after each clip.

    Args:
        folder: prepared by :func:`latentshift.data.latents.resolve.resolve_source`.
        encode_frames: the autoencoder.
        encode_text: the text encoder; unused if the spec has no text.
        limits: of the decoding workers.
        part: (k, n): make every n-th shard starting at the k-th, for process k of n.
        numbers: of the shards to make, each taken when the one before is done; None: those of ``part``.

    Raises:
        OSError: if the disk is full; encoded clips are kept.
    """
    spec, manifest = LatentSpec.read(folder), Manifest(manifest_path(folder))
    encode_text = lru_cache(_KNOWN_CAPTIONS)(encode_text) if encode_text is not None and spec.text else None
    rank, ranks = part
    numbers = range(rank, num_shards(spec, manifest), ranks) if numbers is None else numbers
    kept = f"encoded clips are kept in {folder}, and the same command resumes there"
    with explain_full_disk(folder, kept), WorkerPool(decode_views, limits, IMPORTS) as pool:
        for number in numbers:
            before = 0
            for done in make_shard(folder, spec, manifest, number, pool.run, encode_frames, encode_text, pool.close):
                yield done - before
                before = done


def make_shard(
    folder: Path,
    spec: LatentSpec,
    manifest: Manifest,
    number: int,
    views: Callable[[Iterator[DecodeTask]], Iterator[tuple[DecodeTask, Views | Rejected]]],
    encode_frames: FrameEncoder,
    encode_text: TextEncoder | None,
    stop: Callable[[], None] = lambda: None,
) -> Iterator[int]:
    """Make or continue one shard; yields the number of its finished rows after each clip.

    Args:
        folder: of the shards.
        spec: of the folder.
        manifest: the rows.
        number: of the shard, 0, 1, ….
        views: decodes tasks: :meth:`latentshift.data.worker_pool.WorkerPool.run` of :func:`decode_views`.
        encode_frames: the autoencoder.
        encode_text: the text encoder; None if the spec has no text.
        stop: stops decoding if this generator is closed early: :meth:`latentshift.data.worker_pool.WorkerPool.close`.
    """
    first = number * spec.clips_per_shard
    last = min(first + spec.clips_per_shard, len(manifest))
    target = shard_path(folder, number)
    path = target.with_suffix(".partial")
    if _finished(target):
        path.unlink(missing_ok=True)  # left by a process that was killed right after finishing
        yield last - first
        return
    with PartialShard(path) as partial:
        if _finished(target):  # by another process, just now
            partial.remove()
            yield last - first
            return
        if partial.count:
            yield partial.count
        tasks = (DecodeTask(index, manifest[index], spec) for index in range(first + partial.count, last))
        for task, result in prefetch(views(tasks), _CLIPS_AHEAD, stop):
            partial.append(_record(task, result, encode_frames, encode_text))
            yield partial.count
        if partial.count != last - first:
            raise AssertionError(f"{path} holds {partial.count} records instead of {last - first}")
        _finish(target, first, manifest, partial, None if encode_text is None else encode_text("").pack())
        partial.remove()


def _finished(target: Path) -> bool:
    return target.exists() and target.with_suffix(".json").exists()


def _record(
    task: DecodeTask, result: Views | Rejected, encode_frames: FrameEncoder, encode_text: TextEncoder | None
) -> bytes:
    if not isinstance(result, Rejected):
        # In C order: safetensors writes the memory as it is, whatever the strides.
        moments = np.stack([encode_frames(view) for view in result.frames]).astype(np.float16, order="C")
        if not np.isfinite(moments).all():
            result = Rejected("not-finite", "the autoencoder makes latents of it that are not finite")
    if isinstance(result, Rejected):
        rejected = {"name": task.row.name, "kind": result.kind, "reason": result.reason}
        return json.dumps(rejected, ensure_ascii=False).encode()
    content = {"moments": moments}
    if encode_text is not None:
        captions = task.row.captions + task.row.image_captions
        content["text"] = np.stack([encode_text(caption).pack() for caption in captions]).astype(np.float16, order="C")
    return (b"S" if result.short else b"T") + save(content)


def _finish(target: Path, first: int, manifest: Manifest, partial: PartialShard, empty: np.ndarray | None) -> None:
    builder = ShardBuilder(empty)
    rejected: list[dict[str, Any]] = []
    short: list[str] = []
    for number, record in enumerate(partial.records(), first):
        if record[:1] == b"{":
            rejected.append(json.loads(record))
            continue
        row, tensors = manifest[number], load(record[1:])
        builder.add(number, row, tensors["moments"], tensors.get("text"))
        if record[:1] == b"S":
            short.append(row.name)
    stored = save(builder.to_tensors())
    with atomic_write(target) as temporary:
        temporary.write_bytes(stored)
    info = {
        "clips": len(builder.moments),
        "images": len(builder.images),
        "refused": rejected,
        "short": short,
        "bytes": len(stored),
        "sha256": hashlib.sha256(stored).hexdigest(),
    }
    atomic_write_text(target.with_suffix(".json"), json.dumps(info, indent=1, ensure_ascii=False) + "\n")

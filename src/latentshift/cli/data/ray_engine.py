"""Encoding on a Ray cluster: actors take shard after shard, each with encoders that it loads once.

A shard is a function of its number, so it is the same on any machine, whichever actor makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import takewhile
from pathlib import Path

from latentshift.cli.ray_cluster import Member, connect
from latentshift.data.worker_pool import WorkerLimits


def encode_with_ray(
    folder: Path,
    model: str,
    variant: str | None,
    device: str,
    limits: WorkerLimits,
    actors: int,
    done: Callable[[int], object],
) -> None:
    """Make the missing shards of a folder.

    Args:
        folder: prepared by :func:`latentshift.data.latents.resolve.resolve_source`.
        model: with the encoders.
        variant: of its weight files.
        device: of each actor: ``auto``, ``cpu`` or ``cuda``.
        limits: of each actor's decoding.
        actors: number of actors, each with a model.
        done: called now and then with the number of newly finished rows.

    Raises:
        ValueError: as :func:`latentshift.cli.ray_cluster.connect`, and if an actor is lost.
        OSError: if the disk is full; encoded clips are kept.
    """
    with connect(device, actors) as cluster:
        cluster.run(partial(_encode, folder, model, variant, limits), done)


def _encode(folder: Path, model: str, variant: str | None, limits: WorkerLimits, member: Member, device: str) -> None:
    """An actor's part: the shards that it takes."""
    from latentshift.cli.data.encoders import Encoders
    from latentshift.data.latents.encode import encode_shards
    from latentshift.data.latents.spec import LatentSpec, manifest_path, num_shards
    from latentshift.data.manifest import Manifest

    encoders = Encoders(model, device, variant)
    shards = num_shards(LatentSpec.read(folder), Manifest(manifest_path(folder)))
    taken = takewhile(lambda number: number < shards, iter(member.take, None))
    for rows in encode_shards(folder, encoders.frames, encoders.text, limits, numbers=taken):
        member.report(rows)
    member.wait()  # so that all have reported when the first one ends

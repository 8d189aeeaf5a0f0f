"""Encoding on a cluster: Ray Data distributes the shards over actors.

A shard is a function of its number, so it is the same on any machine. The folder must be shared by all machines of the
cluster.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from latentshift.data.worker_pool import WorkerLimits


def encode_with_ray(
    folder: Path, model: str, variant: str | None, device: str, limits: WorkerLimits, actors: int
) -> Generator[int, None, None]:
    """Make the missing shards of a folder; yields the number of newly finished rows.

    Args:
        folder: prepared by :func:`latentshift.data.latents.resolve.resolve_source`.
        model: with the encoders.
        variant: of its weight files.
        device: of each actor: ``auto``, ``cpu`` or ``cuda``.
        limits: of each actor's decoding.
        actors: number of actors, each with a model.
    """
    import ray

    from latentshift.data.latents.spec import LatentSpec, manifest_path, num_shards
    from latentshift.data.manifest import Manifest

    shards = num_shards(LatentSpec.read(folder), Manifest(manifest_path(folder)))
    if is_own := not ray.is_initialized():
        ray.init(logging_level="error", log_to_driver=False, include_dashboard=False)
    if device == "auto":
        device = "cuda" if ray.cluster_resources().get("GPU") else "cpu"
    if Path(model).is_dir():
        model = str(Path(model).absolute())  # actors run in another directory
    ray.data.DataContext.get_current().enable_progress_bars = False
    numbers = ray.data.range(shards, override_num_blocks=shards)
    made = numbers.map(
        _ShardActor,
        fn_constructor_args=(str(folder.absolute()), model, variant, device, limits),
        concurrency=actors,
        num_gpus=int(device == "cuda"),
    )
    try:
        for row in made.iter_rows():
            yield int(row["rows"])
    finally:
        if is_own:
            ray.shutdown()


class _ShardActor:
    """An actor: encoders and a pool, loaded once, for one shard after another."""

    def __init__(self, folder: str, model: str, variant: str | None, device: str, limits: WorkerLimits) -> None:
        from latentshift.cli.data.encoders import Encoders

        self.folder = Path(folder)
        self.encoders = Encoders(model, device, variant)
        self.limits = limits

    def __call__(self, row: dict[str, Any]) -> dict[str, int]:
        from latentshift.data.latents.encode import encode_shards

        done = encode_shards(self.folder, self.encoders.frames, self.encoders.text, self.limits, only=int(row["id"]))
        return {"rows": sum(done)}

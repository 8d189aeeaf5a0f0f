"""``latentshift data encode``: encode clips once with a model's encoders, into shards for training."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from latentshift.cli.data.common import (
    MEMORY_LIMIT,
    OPTIONS,
    SHORT,
    SOURCE,
    TIME_LIMIT,
    VARIANT,
    WORKERS,
    limits_of,
    one_of,
    source_of,
)
from latentshift.cli.engine import ENGINE, check_engine
from latentshift.cli.resumable import ends_cleanly
from latentshift.cli.shared_options import DEVICE, RANK_TIMEOUT
from latentshift.models.storage.model_paths import BUNDLED
from latentshift.progress import status


@ends_cleanly("the encoded clips")
def encode(
    source: str = SOURCE,
    options: list[str] | None = OPTIONS,
    model: str = typer.Option(BUNDLED, "--model", help="Model with the encoders: bundled, a folder, or a hub id."),
    variant: str | None = VARIANT,
    output: Path = typer.Option(..., "--output", "-o", help="The folder for the shards."),
    seconds: float = typer.Option(2.0, "--seconds", help="Duration of a clip in seconds."),
    size: int | None = typer.Option(None, "--size", help="Side of the frames in pixels. Default: the model's."),
    place: str = typer.Option("random", "--place", help="Position of the window: random, first or centre."),
    short: str = SHORT,
    crop: str = typer.Option("centre", "--crop", help="Crop position: centre or random."),
    flip: bool = typer.Option(False, "--flip", help="Mirror half of the views; captions may mention left and right."),
    views: int = typer.Option(1, "--views", help="Number of random windows and crops of each clip."),
    seed: int = typer.Option(0, "--seed", min=0, help="Seed of the windows and crops."),
    text: bool = typer.Option(True, "--text/--no-text", help="Also store text embeddings of the captions."),
    clips_per_shard: int = typer.Option(256, "--clips-per-shard", help="Clips per shard."),
    workers: int = WORKERS,
    time_limit: float = TIME_LIMIT,
    memory_limit: float = MEMORY_LIMIT,
    device: str = DEVICE,
    retry: bool = typer.Option(
        False, "--retry", help="Remake shards with refused clips, e.g. after their files were repaired."
    ),
    engine: str = ENGINE,
    actors: int = typer.Option(1, "--actors", help="With ray: number of actors, each with a model."),
    rank_timeout: float = RANK_TIMEOUT,
) -> None:
    """Encode every clip of a source once; the same command resumes an interrupted run."""
    from latentshift.cli.preflight import check_device_name, check_model_files
    from latentshift.data.footage.framing import CROPS, Framing
    from latentshift.data.footage.window import PLACES, Window
    from latentshift.data.footage.window import SHORT as KNOWN_SHORT
    from latentshift.data.latents.spec import LatentSpec
    from latentshift.data.sources import check_not_empty
    from latentshift.files import check_writable
    from latentshift.models.storage.model_paths import check_size_to_train
    from latentshift.process_group import check_timeout

    check_engine(engine, actors, device, rank_timeout)
    window_words = one_of("--place", place, PLACES), one_of("--short", short, KNOWN_SHORT)
    crop_word = one_of("--crop", crop, CROPS)
    limits = limits_of(workers, time_limit, memory_limit)
    timeout = check_timeout(rank_timeout, "--rank-timeout")
    chosen = source_of(source, options)
    check_device_name(device)
    folder = check_model_files(model, variant)

    side = 64 if size is None else size
    spec = LatentSpec(  # with what the model decides left open; refuses values that are invalid for any model
        manifest="",
        autoencoder="",
        precision="float32",
        text="" if text else None,
        window=Window(1, seconds, *window_words),
        framing=Framing(side, side, crop=crop_word, flip=flip),
        views=views,
        clips_per_shard=clips_per_shard,
        seed=seed,
    )
    if folder is not None and size is not None:
        check_size_to_train(folder, size, "--size")
    check_writable(output / "index.json")
    check_not_empty(chosen)
    with status("loading libraries", shown=os.environ.get("RANK", "0") == "0"):
        from latentshift.cli.data.encode_run import EncodeJob, run_encode

    run_encode(
        EncodeJob(
            source=chosen,
            spec=spec,
            size=size,
            model=model,
            variant=variant,
            output=output,
            device=device,
            limits=limits,
            timeout=timeout,
            retry=retry,
            actors=actors,
            with_ray=engine == "ray",
        )
    )

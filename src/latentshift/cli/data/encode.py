"""``latentshift data encode``: encode clips once with a model's encoders, into shards for training."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from latentshift.cli.data.common import (
    MAX_PATH_LENGTH,
    MAX_SHOWN,
    MEMORY_LIMIT,
    OPTIONS,
    SHORT,
    SOURCE,
    TIME_LIMIT,
    VARIANT,
    WORKERS,
    limits_of,
    one_of,
    print_refused,
    source_of,
)
from latentshift.cli.engine import ENGINE, check_engine
from latentshift.cli.resumable import ends_cleanly
from latentshift.cli.shared_options import DEVICE, RANK_TIMEOUT
from latentshift.models.storage.model_paths import BUNDLED
from latentshift.progress import progress_bar, status
from latentshift.user_input.error_text import printable

if TYPE_CHECKING:
    from latentshift.data.manifest import Row
    from latentshift.models.conditioning.text import TextEncoders


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
    from latentshift.settings import check_training_size

    check_engine(engine, actors, device, rank_timeout)
    window_words = one_of("--place", place, PLACES), one_of("--short", short, KNOWN_SHORT)
    crop_word = one_of("--crop", crop, CROPS)
    limits = limits_of(workers, time_limit, memory_limit)
    timeout = check_timeout(rank_timeout, "--rank-timeout")
    chosen = source_of(source, options)
    check_device_name(device)
    folder = check_model_files(model, variant)

    def spec(frames: int, side: int, autoencoder: str, text_encoder: str) -> LatentSpec:
        return LatentSpec(
            manifest="",
            autoencoder=autoencoder,
            precision="float32",
            text=text_encoder if text else None,
            window=Window(frames, seconds, *window_words),
            framing=Framing(side, side, crop=crop_word, flip=flip),
            views=views,
            clips_per_shard=clips_per_shard,
            seed=seed,
        )

    spec(1, 64 if size is None else size, "", "")  # refuses values that are invalid for any model
    if folder is not None and size is not None:
        check_size_to_train(folder, size, "--size")
    check_writable(output / "index.json")
    check_not_empty(chosen)
    with status("loading libraries", shown=os.environ.get("RANK", "0") == "0"):
        from latentshift.cli.data.encoders import Encoders
        from latentshift.cli.rank_barrier import RankBarrier, meet
        from latentshift.data.latents.encode import encode_shards
        from latentshift.data.latents.resolve import resolve_source

    state = meet(device, timeout)
    barrier = RankBarrier(state, timeout)
    encoders = Encoders(model, str(state.device) if device == "auto" else device, variant)
    side = encoders.size if size is None else size
    check_training_size(side, encoders.scale, encoders.levels, "--size")
    latent_spec = spec(encoders.num_frames, side, encoders.autoencoder_digest, encoders.text_digest)
    if not state.is_main_process:
        barrier.wait()
    with status("listing", shown=state.is_main_process):
        manifest = resolve_source(output, chosen, latent_spec, retry=retry and state.is_main_process)
    if state.is_main_process:  # which lists first
        barrier.wait()
    if engine == "ray":
        from latentshift.cli.data.ray_engine import encode_with_ray

        batches = encode_with_ray(output, model, variant, device, limits, actors)
    else:
        part = (state.process_index, state.num_processes)
        batches = encode_shards(output, encoders.frames, encoders.text, limits, part)
    if text and state.is_main_process:
        _warn_of_cut_captions(encoders.text_encoders, manifest)
    bar = progress_bar(total=len(manifest), text="encode", unit="clip", shown=state.is_main_process)
    with bar, closing(batches):
        for done in barrier.items(batches):
            bar.update(done)
    barrier.wait()
    if state.is_main_process and not _print_kept(output):
        raise typer.Exit(1)


def _warn_of_cut_captions(text_encoders: TextEncoders, rows: Iterable[Row]) -> None:
    """Say how many captions are longer than the text encoders' context."""
    from latentshift.models.conditioning.caption_length import count_cut

    captions = (caption for row in rows for caption in (*row.captions, *row.image_captions))
    with status("counting the captions' tokens"):
        cut = str(count_cut(text_encoders, captions))
    if cut:
        print(f"warning: {cut}", file=sys.stderr)


def _print_kept(output: Path) -> int:
    """Print what the folder of shards holds and what was refused; how many clips there are."""
    from latentshift.data.latents.latent_dataset import LatentDataset

    encoded = LatentDataset(output)
    kept, refused = encoded.size(1), encoded.rejected_by_kind.total()
    print(f"kept {kept} of {kept + refused - encoded.captions_rejected}")
    print_refused(
        list(islice(encoded.rejected(), MAX_SHOWN)),
        refused,
        f"{output}/left-out.jsonl and the .json files there name all",
    )
    if encoded.short:
        print(f"{len(encoded.short)} with less than the window, held or shortened")
    print(printable(output, MAX_PATH_LENGTH))
    return kept

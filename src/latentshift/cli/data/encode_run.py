"""The run of ``latentshift data encode``, after the checks that need no model."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from latentshift.cli.data.common import MAX_PATH_LENGTH, MAX_SHOWN, print_refused
from latentshift.cli.data.encoders import Encoders
from latentshift.cli.rank_barrier import RankBarrier, meet
from latentshift.data.latents.encode import encode_shards
from latentshift.data.latents.latent_dataset import LatentDataset
from latentshift.data.latents.resolve import resolve_source
from latentshift.data.latents.spec import LatentSpec
from latentshift.data.worker_pool import WorkerLimits
from latentshift.models.conditioning.caption_length import count_cut
from latentshift.progress import progress_bar, status
from latentshift.settings import check_training_size
from latentshift.user_input.error_text import printable

if TYPE_CHECKING:
    from latentshift.data.manifest import Row
    from latentshift.models.conditioning.text import TextEncoders


@dataclass(frozen=True)
class EncodeJob:
    """What is to be encoded, and how.

    Attributes:
        source: of the clips.
        spec: of the shards, without what the model and the source decide: frames, fingerprints, the hash of the rows.
        size: side of the frames in pixels; None: the model's.
        model: with the encoders, as the user named it.
        variant: of its weight files.
        output: the folder for the shards.
        device: ``auto``, ``cpu``, ``cuda``, ….
        limits: of the processes that decode.
        timeout: how long the processes of a launcher wait for one that gives no sign of life.
        retry: remake shards with refused clips.
        actors: of Ray, each with a model.
        with_ray: whether Ray's actors encode, and not this process.
    """

    source: Any
    spec: LatentSpec
    size: int | None
    model: str
    variant: str | None
    output: Path
    device: str
    limits: WorkerLimits
    timeout: timedelta
    retry: bool
    actors: int
    with_ray: bool


def run_encode(job: EncodeJob) -> None:
    """Encode the clips that no shard has yet, and print what was kept.

    Raises:
        typer.Exit: with code 1 if no clip was kept.
        ValueError: for a model that can't be loaded, a size that it does not take, or a folder of other settings.
        RankError: if another process ends or hangs.
    """
    state = meet(job.device, job.timeout)
    barrier = RankBarrier(state, job.timeout)
    encoders = Encoders(job.model, str(state.device) if job.device == "auto" else job.device, job.variant)
    spec = _complete_spec(job, encoders)
    if not state.is_main_process:
        barrier.wait()
    with status("listing", shown=state.is_main_process):
        manifest = resolve_source(job.output, job.source, spec, retry=job.retry and state.is_main_process)
    if state.is_main_process:  # which lists first
        barrier.wait()
    if spec.text is not None and state.is_main_process:
        _warn_of_cut_captions(encoders.text_encoders, manifest)
    bar = progress_bar(total=len(manifest), text="encode", unit="clip", shown=state.is_main_process)
    with bar:
        if job.with_ray:
            from latentshift.cli.data.ray_engine import encode_with_ray

            encode_with_ray(job.output, job.model, job.variant, job.device, job.limits, job.actors, bar.update)
        else:
            part = (state.process_index, state.num_processes)
            with closing(encode_shards(job.output, encoders.frames, encoders.text, job.limits, part)) as batches:
                for done in barrier.items(batches):
                    bar.update(done)
    barrier.wait()
    if state.is_main_process and not _print_kept(job.output):
        raise typer.Exit(1)


def _complete_spec(job: EncodeJob, encoders: Encoders) -> LatentSpec:
    side = encoders.size if job.size is None else job.size
    check_training_size(side, encoders.scale, encoders.levels, "--size")
    return replace(
        job.spec,
        autoencoder=encoders.autoencoder_digest,
        text=None if job.spec.text is None else encoders.text_digest,
        window=replace(job.spec.window, frames=encoders.num_frames),
        framing=replace(job.spec.framing, height=side, width=side),
    )


def _warn_of_cut_captions(text_encoders: TextEncoders, rows: Iterable[Row]) -> None:
    """Say how many captions are longer than the text encoders' context."""
    captions = (caption for row in rows for caption in (*row.captions, *row.image_captions))
    with status("counting the captions' tokens"):
        cut = str(count_cut(text_encoders, captions))
    if cut:
        print(f"warning: {cut}", file=sys.stderr)


def _print_kept(output: Path) -> int:
    """Print what the folder of shards holds and what was refused; how many clips there are."""
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

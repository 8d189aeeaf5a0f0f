"""One source of a recipe, opened: listed, encoded if the recipe says so, and checked against the model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from latentshift.data.dataset import ClipDataset, FootageDataset
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.window import Window
from latentshift.data.latents.encode import encode_shards
from latentshift.data.latents.latent_dataset import LatentDataset
from latentshift.data.latents.resolve import resolve_source
from latentshift.data.latents.spec import LatentSpec, index_path, spec_digest
from latentshift.data.manifest import Manifest, RejectedRow
from latentshift.data.rejected_list import RejectedList
from latentshift.data.sources import Source, list_source, parse_source
from latentshift.data.worker_pool import WorkerLimits
from latentshift.models.conditioning.caption_length import count_cut
from latentshift.models.encoders import frame_encoder
from latentshift.models.storage.fingerprint import model_fingerprint, weights_fingerprint
from latentshift.pipeline import LatentShiftPipeline
from latentshift.progress import progress_bar
from latentshift.training.precision import Precision, encoding_dtype
from latentshift.training.recipes.settings import NO_IMAGE_SHARE, DataSettings, LoadingSettings
from latentshift.user_input.error_text import printable

_FOR_ENCODED = {"source", "weight"}  # settings that a folder of latents can have
_MAX_REASONS = 3  # of refusals, in the message that everything was refused
_FRAMES_FOR_IMAGES = 16  # so that what is encoded for images serves for clips later


@dataclass(frozen=True)
class DataContext:
    """What all sources of a run are opened with.

    Attributes:
        pipeline: the model that is trained, for its encoders.
        num_frames: of a sample.
        device: where clips are encoded.
        precision: of encoding.
        loading: how clips are read.
        motion_captions: the share of single frames that are their clip's first, with the motion in the caption.
        seed: of the data's order.
        rank: which share of each batch is this process's, 0 … ``ranks`` - 1; the first process writes files.
        ranks: how many processes share each batch.
    """

    pipeline: LatentShiftPipeline
    num_frames: int
    device: torch.device
    precision: Precision
    loading: LoadingSettings
    motion_captions: float = 0.0
    seed: int = 0
    rank: int = 0
    ranks: int = 1

    @property
    def limits(self) -> WorkerLimits | None:
        """Of reading clips in other processes; None: they are read in this one."""
        return worker_limits(self.loading) if self.loading.workers else None


class DataSource:
    """One source of a recipe, opened.

    Args:
        settings: of the source.
        output: folder for what is listed and encoded: the run's.
        name: of this source's folder there, if the recipe has several.
        context: of the run.
        images_unused_reason: why images are not used, where they are not.

    Attributes:
        clips: the samples.
        digest: of its rows and of how they are taken, to be compared with what a run started with.
        text_encoded: whether its samples bring the embedding of their caption.
        short: names of clips that were shorter than the window.

    Raises:
        ValueError: for a source that can't be read, or was encoded by another model.
    """

    def __init__(
        self,
        settings: DataSettings,
        output: Path,
        name: str,
        context: DataContext,
        *,
        images_unused_reason: str = NO_IMAGE_SHARE,
    ) -> None:
        self.settings = settings
        self.images_unused_reason = images_unused_reason
        self.short: list[str] = []
        self.clips: ClipDataset
        self._rejected: Callable[[], Iterator[RejectedRow]]
        pipeline, side = context.pipeline, context.pipeline.sample_size
        if index_path(Path(settings.source)).is_file():
            latents = _open_latents(settings, context)
            _check_encoders(latents.spec, settings.source, pipeline)
            self._use_latents(latents)
            return
        frames = settings.frames or (context.num_frames if context.num_frames > 1 else _FRAMES_FOR_IMAGES)
        window = Window(frames, settings.seconds, settings.place, settings.short)
        framing = Framing(side, side, settings.crop, settings.flip)
        if settings.encode:
            folder = settings.latents or output / "latents" / name
            _encode(folder, settings, window, framing, context)
            self._use_latents(_latent_dataset(folder, context))
        else:
            folder = output / "footage" / name
            source = parse_source(settings.source, settings.options)
            manifest, rejected = list_rows(folder, source, write=context.rank == 0)
            if context.rank == 0:
                _warn_of_cut_captions(settings, manifest, pipeline)
            self.digest = manifest.digest
            self.text_encoded = False
            self.clips = FootageDataset(manifest, window, framing, context.motion_captions)
            self._rejected = lambda: iter(rejected)

    def _use_latents(self, latents: LatentDataset) -> None:
        self.clips, self.short, self._rejected = latents, latents.short, latents.rejected
        self.digest = spec_digest(latents.spec)
        self.text_encoded = latents.spec.text is not None

    def describe(self, num_frames: int, *, images: bool) -> dict[str, Any]:
        """What is used and what is not, as JSON values."""
        counts = self._counts(num_frames, images)
        return {"source": self.settings.source, **counts, "refused": [vars(each) for each in self._rejected()]}

    def summary(self, num_frames: int, *, images: bool) -> str:
        """The same in a line."""
        counts = {**self._counts(num_frames, images), "refused": sum(1 for _ in self._rejected())}
        phrases = {
            "images": f"{counts['images']} image{'s' * (counts['images'] != 1)}",
            "unused_images": f"{counts['unused_images']} images not used, since {self.images_unused_reason}",
            "refused": f"{counts['refused']} refused",
        }
        parts = [
            f"{counts['clips']} clip{'s' * (counts['clips'] != 1)}",
            *(phrase for name, phrase in phrases.items() if counts[name]),
        ]
        return f"{self.settings.source}: {', '.join(parts)}"

    def _counts(self, num_frames: int, images: bool) -> dict[str, int]:
        pictures, singles = self.clips.images, self.clips.size(1)
        return {
            "clips": self.clips.size(num_frames) if num_frames > 1 else singles - pictures,
            "images": pictures if images else 0,
            "unused_images": 0 if images else pictures,
        }

    def check_not_empty(self, num_frames: int, *, images: bool) -> None:
        """Check that the source has samples for the stage.

        Raises:
            ValueError: if not; the message says why.
        """
        if self.clips.size(num_frames) or (images and self.clips.size(1)):
            return
        why = [f"{each.name}: {each.reason}" for each in islice(self._rejected(), _MAX_REASONS)]
        if self.clips.images:
            why.insert(0, f"it has images, and {self.images_unused_reason} ({self.clips.images})")
        elif self.clips.size(1):
            why.insert(0, "its clips have fewer frames than the model makes")
        what = f"clips of {num_frames} frames" if num_frames > 1 else "clips or images"
        raise ValueError("; ".join([f"{self.settings.source} holds no {what} that can be used", *why]))


def list_rows(folder: Path, source: Source, *, write: bool, captioned: bool = True) -> tuple[Manifest, RejectedList]:
    """The rows of a source that is decoded as training goes on, and what is refused of it.

    Args:
        folder: for both.
        source: to list.
        write: whether this process lists it; the others read what it has written.
        captioned: whether captions are needed.

    Raises:
        ValueError: for a source that can't be listed or offers nothing.
    """
    left_out = folder / "left-out.jsonl"
    if not write:
        return Manifest(folder / "manifest.jsonl"), RejectedList(left_out)
    folder.mkdir(parents=True, exist_ok=True)
    left_out.unlink(missing_ok=True)  # before it is read: a full disk may have cut its last line
    rejected = RejectedList(left_out)
    return list_source(folder / "manifest.jsonl", source, rejected.add, captioned=captioned), rejected


def worker_limits(loading: LoadingSettings) -> WorkerLimits:
    """What reading a clip may cost."""
    return WorkerLimits(max(1, loading.workers), loading.time_limit, round(loading.memory_limit * 2**30))


def _open_latents(settings: DataSettings, context: DataContext) -> LatentDataset:
    for name, field in DataSettings.model_fields.items():
        if name not in _FOR_ENCODED and getattr(settings, name) != field.get_default():
            raise ValueError(f"{settings.source} holds clips that are encoded already: data.{name} can't be set for it")
    return _latent_dataset(Path(settings.source), context)


def _latent_dataset(folder: Path, context: DataContext) -> LatentDataset:
    return LatentDataset(folder, context.motion_captions, context.pipeline.text_encoders.pooled_width)


def _encode(folder: Path, settings: DataSettings, window: Window, framing: Framing, context: DataContext) -> None:
    """List a source and encode its clips into a folder, as far as that is not done yet."""
    autoencoder, first = context.pipeline.vae, context.rank == 0
    precision = str(encoding_dtype(context.precision)).removeprefix("torch.")
    if index_path(folder).exists():
        precision = LatentSpec.read(folder).precision  # latents stay as they are, when a run resumes in another one
    spec = LatentSpec(
        manifest="",
        autoencoder=weights_fingerprint(autoencoder),
        precision=precision,
        text=None,
        window=window,
        framing=framing,
        views=settings.views,
        seed=settings.seed,
    )
    source = parse_source(settings.source, settings.options)
    manifest = resolve_source(
        folder,
        source,
        spec,
        retry=context.loading.retry and first,
        otherwise=f"choose another {'output' if settings.latents is None else 'data.latents'}",
        with_retry="set loading.retry=true",
    )
    if first:
        _warn_of_cut_captions(settings, manifest, context.pipeline)
    encoder = frame_encoder(autoencoder, context.device, getattr(torch, precision))
    with progress_bar(total=len(manifest), text="encode", unit="clip", shown=first) as bar:
        for done in encode_shards(folder, encoder, None, worker_limits(context.loading)):
            bar.update(done)
    autoencoder.to("cpu")  # training does not use it


def _warn_of_cut_captions(settings: DataSettings, manifest: Manifest, pipeline: LatentShiftPipeline) -> None:
    captions = (caption for row in manifest for caption in (*row.captions, *row.image_captions))
    if cut := str(count_cut(pipeline.text_encoders, captions)):
        tqdm.write(f"warning: {printable(settings.source)}: {cut}", file=sys.stderr)  # a bar may be on the screen


def _check_encoders(spec: LatentSpec, source: str, pipeline: LatentShiftPipeline) -> None:
    """Check that latents were made by this model's encoders."""
    if spec.autoencoder != weights_fingerprint(pipeline.vae):
        raise ValueError(f"{source} was encoded by another autoencoder than this model's; encode it again")
    text_encoders = pipeline.text_encoders
    if spec.text is not None and not text_encoders.is_trained and spec.text != model_fingerprint(*text_encoders.parts):
        raise ValueError(f"{source} was encoded by another text encoder than this model's; encode it again")
    side = pipeline.sample_size
    if (spec.framing.height, spec.framing.width) != (side, side):
        raise ValueError(
            f"{source} holds frames of {spec.framing.width}x{spec.framing.height} pixels, and the model makes "
            f"{side}x{side}; encode it again with --size {side}"
        )

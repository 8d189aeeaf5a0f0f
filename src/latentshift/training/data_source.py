"""One source of a recipe, opened: listed, encoded where that is asked for, and checked against the model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
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
from latentshift.data.sources import list_source, source_from
from latentshift.data.worker_pool import WorkerLimits
from latentshift.models.encoders import frame_encoder
from latentshift.models.fingerprint import model_fingerprint, weights_fingerprint
from latentshift.pipeline import LatentShiftPipeline
from latentshift.training.precision import encoding_dtype
from latentshift.training.recipe import DataSettings, DiffusionSettings

_OF_ENCODED = {"source", "weight"}  # what can be said of a folder that was encoded before
_MOST_REASONS = 3  # of what is refused, in the message that all of it is
_FRAMES_FOR_IMAGES = 16  # so that what is encoded for images serves for clips later


class DataSource:
    """One source of a recipe, opened.

    Args:
        recipe: the stage's.
        number: of the source in it, 0, 1, ….
        pipeline: the model that learns, for its encoders.
        num_frames: of the stage's samples.
        device: where clips are encoded.
        main: whether this process is the one that writes; the others find what it has written.
        no_images: why its images are not used, where they are not.

    Attributes:
        clips: what it holds.
        digest: of its rows and of how they are taken, to be told from what a run began with.
        text_encoded: whether its samples bring the embedding of their caption.
        short: names of clips that were shorter than the window.

    Raises:
        ValueError: for a source that can't be read, or was encoded by another model.
    """

    def __init__(
        self,
        recipe: DiffusionSettings,
        number: int,
        pipeline: LatentShiftPipeline,
        num_frames: int,
        device: torch.device,
        *,
        main: bool = True,
        no_images: str = "image_share is 0",
    ) -> None:
        self.recipe = recipe
        self.settings: DataSettings = recipe.data[number]
        self.pipeline = pipeline
        self.device = device
        self.no_images = no_images
        still_share = recipe.motion_captions
        place = Path(self.settings.source)
        self.short: list[str] = []
        self.clips: ClipDataset
        self._refused: Callable[[], Iterator[RejectedRow]]
        if index_path(place).is_file():
            for name, field in DataSettings.model_fields.items():
                if name not in _OF_ENCODED and getattr(self.settings, name) != field.get_default():
                    raise ValueError(f"{place} holds clips that are encoded already: data.{name} can't be set for it")
            encoded = LatentDataset(place, still_share)
            self._check(encoded.plan)
            self._take_encoded(encoded)
            return
        frames = self.settings.frames or (num_frames if num_frames > 1 else _FRAMES_FOR_IMAGES)
        side = pipeline.sample_size
        self.window = Window(frames, self.settings.seconds, self.settings.place, self.settings.short)
        self.framing = Framing(side, side, self.settings.crop, self.settings.flip)
        source = source_from(self.settings.source, self.settings.options)
        name = str(number + 1) if len(recipe.data) > 1 else ""
        if self.settings.encode:
            folder = self.settings.latents or recipe.output / "latents" / name
            plan = self._plan(folder)
            manifest = resolve_source(folder, source, plan, retry=recipe.loading.retry and main)
            self._encode(folder, manifest, getattr(torch, plan.precision))
            self._take_encoded(LatentDataset(folder, still_share))
        else:
            folder = recipe.output / "footage" / name
            left_out = RejectedList(folder / "left-out.jsonl")
            if main:
                folder.mkdir(parents=True, exist_ok=True)
                left_out.clear()
                manifest = list_source(folder / "manifest.jsonl", source, left_out.add)
            else:
                manifest = Manifest(folder / "manifest.jsonl")
            self.digest = manifest.digest
            self.text_encoded = False
            self.clips = FootageDataset(manifest, self.window, self.framing, still_share)
            self._refused = lambda: iter(left_out)

    def _take_encoded(self, encoded: LatentDataset) -> None:
        self.clips, self.short, self._refused = encoded, encoded.short, encoded.refused
        self.digest = spec_digest(encoded.plan)
        self.text_encoded = encoded.plan.text is not None

    def listed(self, num_frames: int, *, images: bool) -> dict[str, Any]:
        """What is used and what is not, in plain values."""
        counts = self._counts(num_frames, images)
        return {"source": self.settings.source, **counts, "refused": [vars(each) for each in self._refused()]}

    def line(self, num_frames: int, *, images: bool) -> str:
        """The same in short, for people."""
        counts = {**self._counts(num_frames, images), "refused": sum(1 for _ in self._refused())}
        told = {
            "images": f"{counts['images']} images",
            "unused_images": f"{counts['unused_images']} images not used, since {self.no_images}",
            "refused": f"{counts['refused']} refused",
        }
        parts = [f"{counts['clips']} clips", *(words for name, words in told.items() if counts[name])]
        return f"{self.settings.source}: {', '.join(parts)}"

    def _counts(self, num_frames: int, images: bool) -> dict[str, int]:
        pictures, singles = self.clips.images, self.clips.size(1)
        return {
            "clips": self.clips.size(num_frames) if num_frames > 1 else singles - pictures,
            "images": pictures if images else 0,
            "unused_images": 0 if images else pictures,
        }

    def check_use(self, num_frames: int, *, images: bool) -> None:
        """That the source gives anything.

        Raises:
            ValueError: if not; the message says why.
        """
        if self.clips.size(num_frames) or (images and self.clips.size(1)):
            return
        why = [f"{each.name}: {each.reason}" for each in islice(self._refused(), _MOST_REASONS)]
        if self.clips.images:
            why.insert(0, f"it has images, and {self.no_images} ({self.clips.images})")
        elif self.clips.size(1):
            why.insert(0, "its clips have fewer frames than the model makes")
        what = f"clips of {num_frames} frames" if num_frames > 1 else "clips or images"
        raise ValueError("; ".join([f"{self.settings.source} holds no {what} that can be used", *why]))

    def _plan(self, folder: Path) -> LatentSpec:
        precision = str(encoding_dtype(self.recipe.compute.precision)).removeprefix("torch.")
        if index_path(folder).exists():
            precision = LatentSpec.read(
                folder
            ).precision  # what is encoded stays, as a run goes on in another precision
        return LatentSpec(
            manifest="",
            autoencoder=weights_fingerprint(self.pipeline.vae),
            precision=precision,
            text=None,
            window=self.window,
            framing=self.framing,
            views=self.settings.views,
            seed=self.settings.seed,
        )

    def _encode(self, folder: Path, manifest: Manifest, dtype: torch.dtype) -> None:
        encoder = frame_encoder(self.pipeline.vae, self.device, dtype)
        with tqdm(total=len(manifest), desc="encode", unit="clip", disable=not sys.stderr.isatty()) as bar:
            for done in encode_shards(folder, encoder, None, worker_limits(self.recipe)):
                bar.update(done)
        self.pipeline.vae.to("cpu")  # training has no use for it

    def _check(self, plan: LatentSpec) -> None:
        """That shards from elsewhere are this model's."""
        pipeline, place = self.pipeline, self.settings.source
        if plan.autoencoder != weights_fingerprint(pipeline.vae):
            raise ValueError(f"{place} was encoded by another autoencoder than this model's; encode it again")
        sentences = pipeline.sentences
        if plan.text is not None and not sentences.is_trained and plan.text != model_fingerprint(*sentences.parts):
            raise ValueError(f"{place} was encoded by another text encoder than this model's; encode it again")
        side = pipeline.sample_size
        if (plan.framing.height, plan.framing.width) != (side, side):
            raise ValueError(
                f"{place} holds frames of {plan.framing.width}x{plan.framing.height} pixels, and the model makes "
                f"{side}x{side}; encode it again with --size {side}"
            )


def worker_limits(recipe: DiffusionSettings) -> WorkerLimits:
    """What reading a clip may cost."""
    loading = recipe.loading
    return WorkerLimits(max(1, loading.workers), loading.time_limit, round(loading.memory_limit * 2**30))

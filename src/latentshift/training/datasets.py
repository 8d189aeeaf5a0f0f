"""From a recipe's data to the loader: every source opened, checked for what it gives, and mixed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from latentshift.data.latents.latent_dataset import LatentDataset
from latentshift.data.latents.spec import LatentSpec, index_path
from latentshift.data.loader import BatchSpec, Loader
from latentshift.data.manifest import Row
from latentshift.data.rejected import Rejected
from latentshift.data.sources import source_from
from latentshift.pipeline import LatentShiftPipeline
from latentshift.training.checkpoint import list_checkpoints
from latentshift.training.data_source import DataSource, worker_limits
from latentshift.training.recipe import DataSettings, DiffusionSettings, ImageRecipe, VideoRecipe

_STEPS_LOOKED_AT = 1001  # to see whether any step learns single frames


class TrainingData:
    """What a stage learns from.

    Attributes:
        loader: that mixes the sources.
        digests: of each source, to be told from what a run began with.
        text_encoded: whether every sample brings the embedding of its caption.
    """

    def __init__(
        self, sources: Sequence[DataSource], loader: Loader, num_frames: int, *, text_encoded: bool, images: bool
    ) -> None:
        self.loader = loader
        self.digests = {f"data {number}": each.digest for number, each in enumerate(sources, 1)}
        self.text_encoded = text_encoded
        self._sources = sources
        self._num_frames = num_frames
        self._images = images

    def captions(self, count: int) -> list[str]:
        """So many captions, spread over the first source that has samples of the stage's kind."""
        clips = next(each.clips for each in self._sources if each.clips.size(self._num_frames))
        size = clips.size(self._num_frames)
        return [clips.caption(self._num_frames, index * size // count) for index in range(min(count, size))]

    def listed(self) -> list[dict[str, Any]]:
        """Of each source what is used and what is not, in plain values."""
        return [each.listed(self._num_frames, images=self._images) for each in self._sources]

    def lines(self) -> list[str]:
        """The same in a line for each source, for people."""
        return [each.line(self._num_frames, images=self._images) for each in self._sources]

    def data_issues(self) -> dict[str, list[Any]]:
        """What was replaced so far, and which clips were shorter than the window."""
        short = self.loader.short.union(*(each.short for each in self._sources))
        return {"replaced": replaced_clips(self.loader), "short": sorted(short)}


def replaced_clips(loader: Loader) -> list[dict[str, str]]:
    """The clips that turned out to be of no use, for which a loader took others, and why."""
    found = sorted(loader.left_out.items())
    return [{"name": name, "kind": each.kind, "reason": each.reason} for name, each in found]


def open_data(
    recipe: DiffusionSettings,
    pipeline: LatentShiftPipeline,
    num_frames: int,
    take: Callable[[int], BatchSpec],
    device: torch.device,
    rank: int = 0,
    ranks: int = 1,
) -> TrainingData:
    """Open every source of a recipe.

    Args:
        recipe: the stage's.
        pipeline: the model that learns, for its encoders.
        num_frames: of the stage's samples.
        take: step -> what it takes.
        device: where clips are encoded.
        rank: which share of each batch is this process's, 0 … ``ranks`` - 1.
        ranks: how many processes share each batch.

    Raises:
        ValueError: for sources that can't be read, hold nothing of use, or were encoded by another model.
    """
    opened = [
        DataSource(recipe, number, pipeline, num_frames, device, main=rank == 0) for number in range(len(recipe.data))
    ]
    sets = [each.clips for each in opened]
    images = any(take(step).num_frames == 1 for step in range(1, _STEPS_LOOKED_AT))
    for each in opened:
        each.check_use(num_frames, images=images)
    if not any(each.clips.size(num_frames) for each in opened):
        raise ValueError(f"the data holds no clips of {num_frames} frames")
    loading = recipe.loading
    loader = Loader(
        sets,
        take,
        recipe.seed,
        weights=[each.weight for each in recipe.data],
        rank=rank,
        ranks=ranks,
        limits=worker_limits(recipe) if loading.workers else None,
    )
    restore_replaced(loader, recipe.output, "replaced")
    text_encoded = not pipeline.sentences.is_trained and all(each.text_encoded for each in opened)
    return TrainingData(opened, loader, num_frames, text_encoded=text_encoded, images=images)


def all_sources(recipe: DiffusionSettings) -> tuple[DataSettings, ...]:
    """What is trained and what is validated on."""
    validation = None if recipe.validation is None else recipe.validation.data
    return (*recipe.data, *(validation or ()))


def has_encoded_text(recipe: DiffusionSettings) -> bool:
    """Whether all of a recipe's data was encoded before, and its captions with it."""
    folders = [Path(each.source) for each in all_sources(recipe)]
    return all(index_path(folder).is_file() and LatentSpec.read(folder).text is not None for folder in folders)


def count_samples(recipe: ImageRecipe | VideoRecipe) -> tuple[int, float]:
    """How many samples the sources offer before any is opened, and the share of the steps that goes through them.

    Clips, and for the image stage images too; some may turn out to be of no use.

    Raises:
        ValueError: for a source that can't be listed, one of validation's among them, or sources that offer nothing.
    """
    images = isinstance(recipe, ImageRecipe)
    count = 0
    for number, each in enumerate(all_sources(recipe)):
        if index_path(Path(each.source)).is_file():
            encoded = LatentDataset(Path(each.source))
            found = encoded.size(1) - (0 if images else encoded.images)
        else:
            entries = source_from(each.source, each.options).entries()
            found = sum(isinstance(entry, Row) and (images or not entry.is_image) for entry in entries)
        count += found if number < len(recipe.data) else 0  # what is validated on is listed alone
    if not count:
        raise ValueError(f"the data offers no {'clip or image' if images else 'clip'}")
    return count, 1.0 if images else 1.0 - recipe.image_share  # type: ignore[union-attr]


def restore_replaced(loader: Loader, output: Path, heading: str) -> None:
    """Bring back what a run that goes on had replaced, under a heading of its report, and which clips were short."""
    path = output / "data.json"
    if path.exists() and list_checkpoints(output / "checkpoints"):
        before = json.loads(path.read_text(encoding="utf-8"))
        for each in before.get(heading, ()):
            loader.left_out[each["name"]] = Rejected(each["kind"], each["reason"])
        loader.short |= set(before.get("short", ()))

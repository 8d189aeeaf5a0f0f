"""How many samples the data of a recipe offers before any of it is opened; some may turn out to be of no use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from latentshift.data.latents.latent_dataset import LatentDataset
from latentshift.data.latents.spec import index_path
from latentshift.data.manifest import Row
from latentshift.data.sources import parse_source, uncaptioned_entries
from latentshift.training.recipe import AnyRecipe
from latentshift.training.recipes.settings import DataSettings, FrameSourceSettings


def count_offered(recipe: AnyRecipe) -> int | None:
    """The samples that the data of a recipe offers for training; None: it is endless.

    Raises:
        ValueError: for a source that can't be listed, or that offers nothing.
    """
    if recipe.stage == "autoencoder":
        return count_frames(recipe.data.sources) if recipe.data.sources else None
    return count_samples(recipe.data, recipe.held_out_data, images=recipe.unit == "images")


def count_frames(sources: Sequence[FrameSourceSettings]) -> int:
    """How many videos and images sources offer before any is opened.

    Raises:
        ValueError: for a source that can't be listed, or one that offers nothing.
    """
    total = 0
    for each in sources:
        entries = uncaptioned_entries(parse_source(each.source, each.options))
        count = sum(isinstance(entry, Row) for entry in entries)
        if not count:
            raise ValueError(f"{each.source} holds no video or image")
        total += count
    return total


def count_samples(training: Sequence[DataSettings], validation: Sequence[DataSettings], *, images: bool) -> int:
    """How many samples the sources of training offer before any is opened; some may turn out to be of no use.

    Args:
        training: sources that are counted.
        validation: sources that are listed alone.
        images: whether images count, beside clips.

    Raises:
        ValueError: for a source that can't be listed, or sources that offer nothing.
    """
    counts = [_count_samples(each, images) for each in (*training, *validation)]
    count = sum(counts[: len(training)])
    if not count:
        raise ValueError(f"the data offers no {'clip or image' if images else 'clip'}")
    return count


def _count_samples(settings: DataSettings, images: bool) -> int:
    folder = Path(settings.source)
    if index_path(folder).is_file():
        latents = LatentDataset(folder)
        return latents.size(1) - (0 if images else latents.images)
    entries = parse_source(settings.source, settings.options).entries()
    return sum(isinstance(entry, Row) and (images or not entry.is_image) for entry in entries)

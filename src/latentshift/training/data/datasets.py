"""The data of a run: its sources opened, checked and mixed by a loader; for training and for validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from latentshift.data.latents.spec import LatentSpec, index_path
from latentshift.data.loader import BatchSpec, Loader
from latentshift.data.rejected import Rejected
from latentshift.training.checkpoints.paths import list_checkpoints
from latentshift.training.data.source import DataContext, DataSource
from latentshift.training.recipes.settings import NO_IMAGE_SHARE, DataSettings
from latentshift.user_input.bounded_read import load_json_bounded

_MAX_REPORT = 2**30  # bytes of data.json, which names all that was refused


class TrainingData:
    """The opened sources and the loader that mixes them.

    Args:
        sources: with samples for the stage.
        loader: of their samples.
        num_frames: of a sample.
        images: whether single frames are learned too.
    """

    def __init__(self, sources: Sequence[DataSource], loader: Loader, num_frames: int, *, images: bool) -> None:
        self.sources = sources
        self.loader = loader
        self._num_frames = num_frames
        self._images = images

    @property
    def digests(self) -> dict[str, str]:
        """Of each source, to be compared with what a run started with."""
        return {f"data {number}": each.digest for number, each in enumerate(self.sources, 1)}

    @property
    def text_encoded(self) -> bool:
        """Whether every sample brings the embedding of its caption."""
        return all(each.text_encoded for each in self.sources)

    def captions(self, count: int) -> list[str]:
        """Up to so many captions, spread over the first source that has samples of the stage's kind."""
        clips = next(each.clips for each in self.sources if each.clips.size(self._num_frames))
        size = clips.size(self._num_frames)
        return [clips.caption(self._num_frames, index * size // count) for index in range(min(count, size))]

    def describe(self) -> list[dict[str, Any]]:
        """Of each source what is used and what is not, as JSON values."""
        return [each.describe(self._num_frames, images=self._images) for each in self.sources]

    def summary_lines(self) -> list[str]:
        """The same, a line for each source."""
        return [each.summary(self._num_frames, images=self._images) for each in self.sources]

    def issues(self) -> dict[str, list[Any]]:
        """What was replaced so far, and which clips were shorter than the window."""
        short = self.loader.short.union(*(each.short for each in self.sources))
        return {"replaced": replaced_clips(self.loader), "short": sorted(short)}


def open_data(
    settings: Sequence[DataSettings],
    output: Path,
    context: DataContext,
    batch_spec: Callable[[int], BatchSpec],
    *,
    images: bool,
    images_unused_reason: str = NO_IMAGE_SHARE,
) -> TrainingData:
    """Open every source that a run trains on.

    Args:
        settings: of the sources.
        output: the run's folder.
        context: of the run.
        batch_spec: step -> which samples it takes.
        images: whether any step learns single frames.
        images_unused_reason: why not, if not.

    Raises:
        ValueError: for sources that can't be read, hold nothing of use, or were encoded by another model.
    """
    sources = open_sources(settings, output, context, images=images, images_unused_reason=images_unused_reason)
    if not any(each.clips.size(context.num_frames) for each in sources):
        raise ValueError(f"the data holds no clips of {context.num_frames} frames")
    loader = Loader(
        [each.clips for each in sources],
        batch_spec,
        context.seed,
        weights=[each.weight for each in settings],
        rank=context.rank,
        ranks=context.ranks,
        limits=context.limits,
    )
    restore_replaced(loader, output, "replaced")
    return TrainingData(sources, loader, context.num_frames, images=images)


def open_sources(
    settings: Sequence[DataSettings], output: Path, context: DataContext, *, images: bool, **options: Any
) -> list[DataSource]:
    """Open sources, each of which has samples of the stage's kind; ``options`` are those of :class:`DataSource`.

    Raises:
        ValueError: for a source that can't be read, or has no such samples.
    """
    names = [str(number) if len(settings) > 1 else "" for number in range(1, len(settings) + 1)]
    sources = [DataSource(each, output, name, context, **options) for each, name in zip(settings, names, strict=True)]
    for each in sources:
        each.check_not_empty(context.num_frames, images=images)
    return sources


def replaced_clips(loader: Loader) -> list[dict[str, str]]:
    """The clips that could not be used, for which a loader took others, and why."""
    return [{"name": name, "kind": each.kind, "reason": each.reason} for name, each in sorted(loader.rejected.items())]


def restore_replaced(loader: Loader, output: Path, heading: str) -> None:
    """When a run is resumed: what it had replaced, under a heading of its report, and which clips were short."""
    path = output / "data.json"
    if path.exists() and list_checkpoints(output / "checkpoints"):
        before = load_json_bounded(path, _MAX_REPORT)
        for each in before.get(heading, ()):
            loader.rejected[each["name"]] = Rejected(each["kind"], each["reason"])
        loader.short |= set(before.get("short", ()))


def has_encoded_text(settings: Sequence[DataSettings]) -> bool:
    """Whether all sources are folders of latents with their captions encoded too."""
    folders = [Path(each.source) for each in settings]
    return all(index_path(folder).is_file() and LatentSpec.read(folder).text is not None for folder in folders)

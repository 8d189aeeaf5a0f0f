"""The captions of the training data, read before any of it is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from latentshift.data.latents.spec import index_path, manifest_path
from latentshift.data.manifest import Manifest, Row
from latentshift.data.sources import parse_source
from latentshift.training.recipes.settings import DataSettings


def training_captions(data: Sequence[DataSettings]) -> Iterator[str]:
    """All captions of all sources, in their order.

    Raises:
        ValueError: for a source that can't be listed.
    """
    for each in data:
        for row in _rows(each):
            yield from row.captions
            yield from row.image_captions


def _rows(settings: DataSettings) -> Iterator[Row]:
    folder = Path(settings.source)
    if index_path(folder).is_file():
        yield from Manifest(manifest_path(folder))
        return
    entries = parse_source(settings.source, settings.options).entries()
    yield from (entry for entry in entries if isinstance(entry, Row))

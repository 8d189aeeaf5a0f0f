"""Parts of the model that training does not use: out of memory, and loaded again for samples and the export."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from torch import nn

from latentshift.models.storage.fingerprint import weights_fingerprint
from latentshift.pipeline import LatentShiftPipeline

PartLoader = Callable[[str, type[nn.Module]], nn.Module]


class OffloadedParts:
    """Parts of a pipeline whose weights are on torch's meta device but for :meth:`loaded`.

    Args:
        pipeline: of the model.
        names: of the parts, as in ``pipeline.components``.
        load: name, class -> the part of the base, read from its files.
    """

    def __init__(self, pipeline: LatentShiftPipeline, names: Iterable[str], load: PartLoader) -> None:
        self._pipeline = pipeline
        self._load = load
        self._fingerprints = {name: weights_fingerprint(getattr(pipeline, name)) for name in names}
        for name in self._fingerprints:
            getattr(pipeline, name).to("meta")

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """Inside, the pipeline is complete.

        Raises:
            ValueError: if the base has changed since the run began.
        """
        on_meta = {name: getattr(self._pipeline, name) for name in self._fingerprints}
        loaded = {name: self._load(name, type(part)).to(part.dtype) for name, part in on_meta.items()}
        for name, part in loaded.items():
            if weights_fingerprint(part) != self._fingerprints[name]:
                raise ValueError(f"the {name} of the base has changed while the run was going on; put the old one back")
        self._pipeline.register_modules(**loaded)
        try:
            yield
        finally:
            self._pipeline.register_modules(**on_meta)

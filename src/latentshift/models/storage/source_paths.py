"""Save parts without the path that they were loaded from, which says something about one machine only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import ConfigMixin

_PATH = "_name_or_path"


@contextmanager
def without_source_paths(pipeline: Any) -> Iterator[None]:
    """Inside, ``_name_or_path`` is None in the configs of a pipeline and its parts; afterwards it is what it was.

    Diffusers writes it to ``model_index.json`` and to each ``config.json``. Transformers does not write it.
    """
    parts = [part for part in (pipeline, *pipeline.components.values()) if isinstance(part, ConfigMixin)]
    paths = [(part, part.config[_PATH]) for part in parts if part.config.get(_PATH) is not None]
    try:
        for part, _ in paths:
            part.register_to_config(**{_PATH: None})
        yield
    finally:
        for part, path in paths:
            part.register_to_config(**{_PATH: path})

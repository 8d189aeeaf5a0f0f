"""Open a safetensors file for its header: names, shapes and metadata, without torch and without reading tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latentshift.files import missing_file


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Open a file whose header is whole and fits the file's length; the library bounds its size.

    Raises:
        ValueError: if there is no such file, or it is damaged or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ValueError(missing_file(path))
    try:
        file = safe_open(path, framework="numpy")
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} can't be read as safetensors: {error}") from None
    with file:
        yield file

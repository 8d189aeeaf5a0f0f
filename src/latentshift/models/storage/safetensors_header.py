"""Open a safetensors file for its header: names, shapes and metadata, without torch and without reading tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latentshift.files import missing_file

_PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def refuse_pickle(path: str | Path) -> None:
    """Refuse a file whose name or first bytes are a pickle's, which runs code of its author when it is opened.

    Args:
        path: a file, or only the name of one.

    Raises:
        ValueError: saying what to do.
    """
    path = Path(path)
    pickled = path.suffix.lower() in _PICKLES
    if not pickled and path.is_file():
        with path.open("rb") as file:
            start = file.read(9)
        # A safetensors file begins with the length of its header in 8 bytes, which may be any, and then the header.
        is_header = path.suffix.lower() == ".safetensors" and start[8:] == b"{"
        pickled = start.startswith(_PICKLE_STARTS) and not is_header
    if pickled:
        raise ValueError(
            f"{path} is a pickle, which can run any code when it is opened: ask for a .safetensors file of it"
        )


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Open a file whose header is whole and fits the file's length; the library bounds its size.

    Raises:
        ValueError: if there is no such file, or it is damaged, a pickle or another file that is not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ValueError(missing_file(path))
    try:
        file = safe_open(path, framework="numpy")
    except (SafetensorError, OSError, ValueError) as error:
        refuse_pickle(path)
        raise ValueError(
            f"{path} can't be read as safetensors: it is cut short, damaged or of another kind ({error})"
        ) from None
    with file:
        yield file

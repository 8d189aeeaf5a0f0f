"""What libraries raise for a file that is wrong, as one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

from latentshift.user_input.error_text import one_line

_MAX_REASON = 300  # characters of a library's message
_LIBRARY_ERRORS = (
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)


@contextmanager
def as_one_sentence(what: str) -> Iterator[None]:
    """Convert what a library raises for a wrong file to a ValueError of one line.

    Args:
        what: could not be done, the beginning of the sentence.
    """
    try:
        yield
    except _LIBRARY_ERRORS as error:
        raise ValueError(f"{what}: {one_line(error)[:_MAX_REASON]}") from None

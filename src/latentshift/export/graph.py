"""What a target makes of a traced part, and how its file is opened again: one interface for all targets.

The libraries of a target are imported when it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from latentshift.export.manifest import RUNTIMES, Target, needed_to_write
from latentshift.user_input.error_text import one_line, printable

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

Graph = Callable[..., "tuple[Tensor, ...]"]
"""A part that was opened: takes its inputs as keywords, tensors on the CPU, and returns its outputs."""

_MAX_REASON = 300


class Backend(Protocol):
    """A module of one target."""

    SUFFIX: str

    def write(self, program: ExportedProgram, path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        """Write a graph to ``path``, which has the suffix, and beside it what belongs to it."""

    def load(self, path: Path, inputs: tuple[str, ...], dtype: str) -> Graph:
        """Open a graph, to be run in ``dtype``."""


def backend(target: Target) -> Backend:
    """The module of a target."""
    return cast(Backend, import_module(f"latentshift.export.to_{target}"))


def write_graph(
    target: Target, program: ExportedProgram, path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> None:
    """Write a graph to ``path``, which has the suffix of the target, and beside it what belongs to it.

    Raises:
        ValueError: if the target's library can't, with its reason.
        MemoryError, OSError: as the library raises them: no memory, or no space.
    """
    try:
        backend(target).write(program, path, inputs, outputs)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # each library has its own kinds
        raise ValueError(
            f"{RUNTIMES[target].title} can't make {path.name} ({_reason(error)}): nothing was written; "
            "mend that, or choose another target"
        ) from error


def open_graph(target: Target, path: Path, inputs: tuple[str, ...], dtype: str) -> Graph:
    """Open a graph, to be run in ``dtype``.

    Calling it raises the same errors as opening it: some libraries compile a graph when they first see its shapes.

    Raises:
        ValueError: if the target's library can't, with its reason.
        MemoryError: if it has no memory.
    """
    with _one_sentence(target, "open", path):
        graph = backend(target).load(path, inputs, dtype)

    def run(**given: Tensor) -> tuple[Tensor, ...]:
        with _one_sentence(target, "run", path):
            return graph(**given)

    return run


@contextmanager
def _one_sentence(target: Target, what: str, path: Path) -> Iterator[None]:
    """What a library can't do with a graph, as a ValueError."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # each library has its own kinds
        raise ValueError(
            f"{RUNTIMES[target].title} can't {what} {path} ({_reason(error)}): export the model again with the "
            "libraries of this machine"
        ) from error


def _reason(error: Exception) -> str:
    """The compiler's first error, or all that the library says, in one line."""
    errors = [line.strip() for line in str(error).splitlines() if " error: " in line]
    return printable(errors[0] if errors else one_line(error), _MAX_REASON)


def versions(target: Target) -> dict[str, str]:
    """The versions of the libraries that write an export."""
    return {name: version(name) for name in ("latentshift", "torch", "diffusers", *needed_to_write(target))}

"""What a target makes of a traced part, and how its file is opened again: one interface for all targets.

The libraries of a target are imported when it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from latentshift.export.manifest import Target

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

Graph = Callable[..., "tuple[Tensor, ...]"]
"""A part that was opened: takes its inputs as keywords, tensors on the CPU, and returns its outputs."""

_LIBRARIES: dict[Target, tuple[str, ...]] = {"onnx": ("onnx", "onnxscript"), "openvino": ("openvino",), "aot": ()}


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


def versions(target: Target) -> dict[str, str]:
    """The versions of the libraries that write an export."""
    return {name: version(name) for name in ("latentshift", "torch", "diffusers", *_LIBRARIES[target])}

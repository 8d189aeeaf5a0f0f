"""AOTInductor packages: machine code that torch's compiler makes of a graph, with a C++ compiler, for this kind of CPU.

A ``.pt2`` is a zip file of a shared library and its source. Opening it runs that library: open those alone that you, or
somebody you trust, made.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from latentshift.export.graph import Graph

SUFFIX = ".pt2"


def write(program: ExportedProgram, path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Compile the graph, which takes minutes."""
    from torch._inductor import aoti_compile_and_package

    aoti_compile_and_package(program, package_path=str(path))


def load(path: Path, inputs: tuple[str, ...], dtype: str) -> Graph:
    """Open with torch; the library is unpacked into a temporary folder."""
    from torch._inductor import aoti_load_package

    compiled = aoti_load_package(str(path))

    def run(**given: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            made = compiled(**{name: given[name].contiguous() for name in inputs})
        return tuple(made) if isinstance(made, list | tuple) else (made,)

    return run

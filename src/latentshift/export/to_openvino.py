"""OpenVINO's intermediate representation: an ``.xml`` with its weights in a ``.bin``, run on the CPU.

A graph is compiled for each shape of its inputs: OpenVINO is several times as fast with shapes that it knows. The last
shapes are kept: of one video's U-Net there is one, and of its decoder, whose last frames may be fewer, two.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.export import ExportedProgram

from latentshift.export.graph import Graph

SUFFIX = ".xml"
_MOST_COMPILED = 2  # graphs for the shapes used last, each with a copy of the weights
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


def write(program: ExportedProgram, path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Write the graph, with its weights in float32."""
    openvino = _import_openvino()
    model = openvino.convert_model(program)
    for names, ports in ((inputs, model.inputs), (outputs, model.outputs)):
        for name, port in zip(names, ports, strict=True):
            port.get_tensor().set_names({name})
    openvino.save_model(model, path, compress_to_fp16=False)


def load(path: Path, inputs: tuple[str, ...], dtype: str) -> Graph:
    """Open with OpenVINO, which works on as many threads as torch."""
    openvino = _import_openvino()
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": _PRECISIONS[dtype], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    model = core.read_model(path)
    compiled: dict[tuple[torch.Size, ...], Any] = {}  # the one used longest ago first

    def run(**given: Tensor) -> tuple[Tensor, ...]:
        shapes = tuple(given[name].shape for name in inputs)
        graph = compiled.pop(shapes, None)
        if graph is None:
            if len(compiled) == _MOST_COMPILED:
                del compiled[next(iter(compiled))]
            static = model.clone()
            static.reshape({name: list(shape) for name, shape in zip(inputs, shapes, strict=True)})
            graph = core.compile_model(static, "CPU", settings)
        compiled[shapes] = graph
        values = graph({name: given[name].contiguous().numpy() for name in inputs})
        return tuple(torch.from_numpy(values[at].copy()) for at in range(len(values)))

    return run


def _import_openvino() -> Any:
    """OpenVINO without ``openvino_telemetry``, which would report each import to a web service."""
    if "openvino" not in sys.modules:
        kept = sys.modules.get("openvino_telemetry")
        sys.modules["openvino_telemetry"] = cast(Any, None)  # an ImportError, for which OpenVINO has a stand-in
        try:
            import openvino
        finally:
            del sys.modules["openvino_telemetry"]
            if kept is not None:
                sys.modules["openvino_telemetry"] = kept
    import openvino

    return openvino

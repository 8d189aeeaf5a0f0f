"""ONNX files, written by torch's exporter and run by ONNX Runtime on the CPU."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from latentshift.export.graph import Graph

SUFFIX = ".onnx"


def write(program: ExportedProgram, path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Write the graph, and its weights beside it in ``….onnx.data``.

    Raises:
        RuntimeError: if torch's exporter makes nothing.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of each missing optional library
    try:
        made = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=list(inputs), output_names=list(outputs)
        )
    finally:
        logger.setLevel(level)
    if made is None:
        raise RuntimeError("torch.onnx.export made nothing")
    made.save(path, external_data=True)


def load(path: Path, inputs: tuple[str, ...], dtype: str) -> Graph:
    """Open with ONNX Runtime, which works in float32 on as many threads as torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(**given: Tensor) -> tuple[Tensor, ...]:
        values = session.run(None, {name: given[name].contiguous().numpy() for name in inputs})
        return tuple(torch.from_numpy(value) for value in values)

    return run

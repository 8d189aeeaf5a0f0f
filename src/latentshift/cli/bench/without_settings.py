"""``latentshift bench train``, ``step``, ``signal``, ``data`` and ``startup``, which measure one fixed thing each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from latentshift.cli.bench.common import JSON, QUICK, report_rows


def train(quick: bool = QUICK, json_file: Path | None = JSON) -> None:
    """Optimizer steps a second of the sprites video stage on the CPU, beside the loop that one would write first."""

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.train import bench_train

        return bench_train(quick)

    report_rows("train", rows, json_file)


def step(quick: bool = QUICK, json_file: Path | None = JSON) -> None:
    """A forward and backward pass of the bundled model on the CPU: stock attention, text shared, compiled."""

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.training_step import bench_training_step

        return bench_training_step(quick)

    report_rows("step", rows, json_file)


def signal(quick: bool = QUICK, json_file: Path | None = JSON) -> None:
    """How much of a clip's motion shows through the noisiest timestep, by the latents' standard deviation."""

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.terminal_signal import bench_terminal_signal

        return bench_terminal_signal(quick)

    report_rows("signal", rows, json_file)


def data(quick: bool = QUICK, json_file: Path | None = JSON) -> None:
    """Clips a second of one core: H.264 beside a bare decode, encoded clips beside a bare read; and memory."""

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.data import bench_data

        return bench_data(quick)

    report_rows("data", rows, json_file)


def startup(quick: bool = QUICK, json_file: Path | None = JSON) -> None:
    """Processor time until help, a refused mistake or an import is there, beside an empty Python and import torch."""

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.startup import bench_startup

        return bench_startup(quick)

    report_rows("startup", rows, json_file)

"""Run an evaluation to its end on this process, on those of torchrun, or on Ray's actors; then print it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from latentshift.cli.evaluate.common import MAX_PATH, measure_on, print_notes, print_report, workers
from latentshift.cli.own_command import own_command
from latentshift.user_input.error_text import printable

if TYPE_CHECKING:
    from latentshift.evaluation.protocols.evaluation import Evaluation
    from latentshift.evaluation.protocols.run import Worker
    from latentshift.evaluation.report.schema import Report


class EvaluationJob(Protocol):
    """An evaluation with all that it needs to be built in another process."""

    @property
    def output(self) -> Path:
        """Folder of the result."""

    @property
    def device(self) -> str:
        """As given."""

    @property
    def dtype(self) -> str | None:
        """As given; None for an evaluation without a model."""

    @property
    def notes(self) -> list[str]:
        """Sentences that are said before it starts; the report has them too."""

    @property
    def total(self) -> int:
        """Videos of the system."""

    def with_dtype(self, dtype: str) -> Self:
        """The same with the dtype that ``auto`` came to."""

    def build(self, device: str, *, shown: bool = True) -> Evaluation:
        """Load what it needs."""


def run_evaluation(job: EvaluationJob, *, engine: str, actors: int, seed: int, rank_timeout: float) -> None:
    """Run and print it.

    Args:
        job: the evaluation.
        engine: ``local`` or ``ray``, checked by :func:`latentshift.cli.engine.check_engine`, as the actors.
        actors: of Ray.
        seed: of bootstraps and samples.
        rank_timeout: seconds that processes of torchrun wait for one that finishes nothing.
    """
    if engine == "ray":
        _announce(job)
        print_report(_on_ray(job, actors, seed), job.output, said=job.notes)
        return
    with workers(job.device, rank_timeout) as (worker, device):
        if worker.is_first:
            _announce(job)
        evaluation = job.build(device, shown=worker.is_first)
        evaluation.measure(worker)
        if worker.is_first:
            command = own_command(evaluation.settings.get("dtype"))
            print_report(evaluation.report(command, seed), job.output, said=job.notes)


def _announce(job: EvaluationJob) -> None:
    print_notes(job.notes)
    print(
        f"{job.total:,} videos to measure, less those in {printable(job.output, MAX_PATH)} already; the same command "
        "resumes",
        flush=True,
    )


def _on_ray(job: EvaluationJob, actors: int, seed: int) -> Report:
    from latentshift.cli.ray_cluster import connect
    from latentshift.evaluation.protocols.evaluation import READINGS
    from latentshift.evaluation.protocols.readings_files import DoneCounter

    with connect(job.device, actors) as cluster:
        dtype = job.dtype
        if dtype is not None:
            dtype = cluster.dtype_name(dtype)
            job = job.with_dtype(dtype)
        work = partial(_measure, job, own_command(dtype), seed)
        report = measure_on(cluster, work, DoneCounter(job.output / READINGS).count, job.total)
    assert report is not None
    return report


def _measure(job: EvaluationJob, command: str, seed: int, worker: Worker, device: str) -> Report | None:
    """A worker's share; the first one's report."""
    evaluation = job.build(device, shown=False)
    evaluation.measure(worker)
    return evaluation.report(command, seed) if worker.is_first else None

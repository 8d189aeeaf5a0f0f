"""Evaluation on a cluster: Ray's actors share the videos that are left, each with a model and the extractors.

The folder of the result must be shared by all machines of the cluster.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from latentshift.models.adapters.lora_file import parse_lora
from latentshift.progress import progress_bar

if TYPE_CHECKING:
    from latentshift.cli.evaluate.prompted_job import PromptedJob
    from latentshift.evaluation.protocols.evaluation import Evaluation

_POLL_SECONDS = 1.0


def measure_with_ray(job: PromptedJob, actors: int) -> Evaluation:
    """Measure what is left of an evaluation.

    Args:
        job: the evaluation.
        actors: number of them.

    Returns:
        The evaluation, complete.

    Raises:
        ValueError: if Ray is not installed, for an unknown device, or as a worker raises it.
    """
    try:
        import ray
    except ImportError:
        raise ValueError("--engine ray needs Ray: pip install 'latentshift[ray]'") from None
    from latentshift.evaluation.protocols.evaluation import READINGS
    from latentshift.evaluation.protocols.readings_files import DoneCounter
    from latentshift.evaluation.protocols.run import Worker, left_of

    job = _with_absolute_paths(job)
    if is_own := not ray.is_initialized():
        ray.init(logging_level="error", log_to_driver=False, include_dashboard=False)
    device = job.model.device
    if device == "auto":
        device = "cuda" if ray.cluster_resources().get("GPU") else "cpu"
    try:
        if job.model.dtype == "auto":  # what it comes to is asked of one worker, and holds for all
            asked = ray.remote(_dtype_name).options(num_gpus=int(device == "cuda")).remote(device)
            job = replace(job, model=replace(job.model, dtype=ray.get(asked)))
        evaluation = job.build("cpu")  # of this process: the plan, the settings and the reference
        evaluation.settings = {**evaluation.settings, "device": device}
        evaluation.prepare(Worker())
        evaluation.measure_reference(Worker())
        folder = job.output / READINGS
        left = left_of(folder, job.plan.items)
        pool = ray.remote(_Actor)
        made = [pool.options(num_gpus=int(device == "cuda")).remote(job, device, number) for number in range(actors)]
        running = [actor.measure.remote(left[number::actors]) for number, actor in enumerate(made)]
        counter = DoneCounter(folder)
        total = len(job.plan.items)
        with progress_bar(total=total, initial=total - len(left), text="videos", unit="video") as bar:
            while running:
                ended, running = ray.wait(running, timeout=_POLL_SECONDS)
                try:
                    ray.get(ended)
                except ray.exceptions.RayTaskError as error:
                    raise error.as_instanceof_cause() from None
                bar.update(counter.count() - bar.n)
    finally:
        if is_own:
            ray.shutdown()
    return evaluation


def _dtype_name(device: str) -> str:
    """What ``--dtype auto`` comes to on the machine where this runs."""
    from latentshift.cli.models import load_dtype

    return str(load_dtype("auto", device)).removeprefix("torch.")


class _Actor:
    """A worker with a model and the extractors."""

    def __init__(self, job: PromptedJob, device: str, number: int) -> None:
        self.evaluation = job.build(device, shown=False)
        self.number = number

    def measure(self, indices: list[int]) -> int:
        """Measure some videos; returns how many."""
        from latentshift.evaluation.protocols.evaluation import READINGS
        from latentshift.evaluation.protocols.run import measure_share

        evaluation = self.evaluation
        generated = evaluation.generated
        return sum(
            1
            for _ in measure_share(
                evaluation.output / READINGS,
                generated.items,
                indices,
                generated.make,
                evaluation.measurer,
                self.number,
                generated.keep,
            )
        )


def _with_absolute_paths(job: PromptedJob) -> PromptedJob:
    """Actors run in another directory."""
    model = job.model
    if Path(model.model).is_dir():
        model = replace(model, model=str(Path(model.model).absolute()))
    loras = tuple(f"{path.absolute()}:{weight!r}" for path, weight in map(parse_lora, model.lora))
    delta = None if model.delta is None else model.delta.absolute()
    return replace(job, model=replace(model, lora=loras, delta=delta), output=job.output.absolute())

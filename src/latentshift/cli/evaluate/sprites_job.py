"""A sprites study with all that it needs to be run in another process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentshift.cli.own_command import own_command

if TYPE_CHECKING:
    from latentshift.diffusion.fewer_operations import FewerOperations
    from latentshift.evaluation.protocols.run import Worker
    from latentshift.evaluation.protocols.systems import KeepWord


@dataclass(frozen=True)
class SpritesJob:
    """A study of a model; it can be sent to another process.

    Attributes:
        model: ``bundled``, a folder, or a hub id.
        variant: of its weight files.
        output: folder of the result.
        counts: number of videos of each part.
        steps: of the sampler; None: the model's.
        guidance: scale; None: the model's.
        sampler: its name; None: the model's.
        fewer: operations that calls leave out.
        keep: which clips stay.
        dtype: as given.
        command: that makes the study, for its report; None: the one that this process runs.
    """

    model: str
    variant: str | None
    output: Path
    counts: Mapping[str, int]
    steps: int | None
    guidance: float | None
    sampler: str | None
    fewer: FewerOperations
    keep: KeepWord
    dtype: str
    command: str | None = None

    def run(self, worker: Worker, device: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name and scores of each part, as soon as it is scored; for the first worker alone.

        Args:
            worker: this process.
            device: of the model and the extractors.
        """
        from latentshift.cli.models import load_pipeline
        from latentshift.diffusion.sampler_names import default_steps
        from latentshift.diffusion.samplers import make_sampler
        from latentshift.evaluation.sprites.study import Study

        pipeline = load_pipeline(self.model, device, self.dtype, self.variant)
        steps = self.steps
        if steps is None:
            steps = default_steps(self.sampler, pipeline.config.num_inference_steps)
        pipeline.scheduler = make_sampler(self.sampler, pipeline.scheduler)
        study = Study(
            pipeline,
            self.model,
            self.output,
            steps,
            self.guidance,
            worker=worker,
            fewer=self.fewer,
            keep=self.keep,
        )
        command = self.command or own_command(str(pipeline.dtype).removeprefix("torch."))
        yield from study.scores(self.counts, command)

    def scores(self, worker: Worker, device: str) -> list[tuple[str, dict[str, Any]]]:
        """All that :meth:`run` yields."""
        return list(self.run(worker, device))

    def count_done(self) -> int:
        """Videos of all parts that are measured, of all workers."""
        from latentshift.evaluation.protocols.readings_files import DoneCounter
        from latentshift.evaluation.sprites.study import READINGS

        folders = {self.output / READINGS / part: count for part, count in self.counts.items()}
        return sum(min(count, DoneCounter(folder).count()) for folder, count in folders.items())

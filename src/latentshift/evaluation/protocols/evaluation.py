"""An evaluation in a folder: the videos of a system, perhaps beside true ones, measured and reported.

The folder holds ``settings.json``, ``readings/`` of the system's videos, ``reference/`` of the true ones, ``clips/``
and ``report.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentshift.evaluation.extractors.cached_rows import with_cached_rows
from latentshift.evaluation.extractors.extractor import Extractor
from latentshift.evaluation.metrics.result import is_biased
from latentshift.evaluation.protocols.examples import example_indices
from latentshift.evaluation.protocols.measure import Beside, Measurer
from latentshift.evaluation.protocols.plan import Item, plan_digest
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.readings_files import Reading
from latentshift.evaluation.protocols.result import rejected_of, write_result
from latentshift.evaluation.protocols.run import Keep, MakeVideos, Worker, check_complete, measure_plan
from latentshift.evaluation.protocols.summary import summarize
from latentshift.evaluation.report import schema
from latentshift.evaluation.settings_file import check_or_write_settings

READINGS, REFERENCE = "readings", "reference"


@dataclass(frozen=True)
class VideoSet:
    """Videos of one side.

    Attributes:
        name: for messages: a folder, or the data set.
        items: the plan.
        make: the videos, as they are consumed.
        keep: writes what is to stay of a measured video.
    """

    name: str
    items: Sequence[Item]
    make: MakeVideos
    keep: Keep | None = None


@dataclass
class Evaluation:
    """A system's evaluation by one protocol.

    Attributes:
        output: folder of the result.
        protocol: its name.
        system: that is evaluated.
        settings: of the making and choosing of videos: whatever the numbers depend on.
        extractors: by key.
        generated: the system's videos.
        reference: the true ones; None for none.
        examples: the file to show of each of some videos, relative to ``output``; None for none. Called once, at the
            end; it may write and delete files.
        repeats: see :func:`.summary.summarize`.
        rejected: of captions and the like, before any video was looked at.
        notes: sentences for the report.
        number_notes: sentences for the metrics that are biased by the number of videos.
        beside: numbers of a video beside its own true one; None where videos have none.
    """

    output: Path
    protocol: schema.Protocol
    system: schema.System
    settings: Mapping[str, Any]
    extractors: Mapping[str, Extractor]
    generated: VideoSet
    reference: VideoSet | None
    examples: Callable[[Sequence[Reading], Readings], Sequence[str | None]]
    repeats: int = 1
    rejected: Sequence[schema.Rejected] = ()
    notes: list[str] = field(default_factory=list)
    number_notes: list[str] = field(default_factory=list)
    beside: Beside | None = None

    def __post_init__(self) -> None:
        self.measurer = Measurer(self.extractors, beside=self.beside)

    def prepare(self, worker: Worker) -> None:
        """Write the settings, or check those of the folder; to be called by all workers.

        Raises:
            ValueError: if the folder holds a result with other settings, perhaps just written by another worker.
        """
        settings = {
            **self.settings,
            "plan": plan_digest(self.generated.items),
            "extractors": {info.key: info.sha256 for info in self.measurer.infos},
        }
        if self.reference is not None:
            settings["reference"] = plan_digest(self.reference.items)
        if worker.is_first:
            check_or_write_settings(self.output, settings)
        worker.barrier()
        check_or_write_settings(self.output, settings)  # each worker's: its machine may have another dtype or device

    def measure(self, worker: Worker) -> None:
        """Measure this worker's share of what is left, of both sides."""
        self.prepare(worker)
        self.measure_reference(worker)
        generated = self.generated
        measure_plan(
            self.output / READINGS, generated.items, generated.make, self.measurer, worker, "videos", generated.keep
        )

    def measure_reference(self, worker: Worker) -> None:
        """Measure this worker's share of what is left of the reference."""
        if self.reference is None or not self._is_compared():
            return
        compared = with_cached_rows(
            {info.key: self.extractors[info.key] for info in self.measurer.infos if info.compares}
        )
        reference, folder = self.reference, self.output / REFERENCE
        measure_plan(folder, reference.items, reference.make, Measurer(compared, texts=False), worker, "reference")
        worker.barrier()
        if worker.is_first:
            check_complete(Readings(folder, len(reference.items)), reference.name)  # before hours of generation

    def _is_compared(self) -> bool:
        """Whether an extractor's rows are compared with true videos, so that those are read."""
        return any(info.compares for info in self.measurer.infos)

    def _digests(self) -> dict[str, str]:
        """Of what two results must share to be compared: the prompts, and the true videos, in any order."""
        prompts = sorted(" ".join(each.prompt.split()) for each in self.generated.items if each.prompt)
        digests = {"prompts_sha256": plan_digest([Item(prompt) for prompt in prompts])} if prompts else {}
        if self.reference is not None:
            contents = sorted(each.content or "" for each in self.reference.items)
            digests["reference_sha256"] = plan_digest([Item(content=content) for content in contents])
        return digests

    def report(self, command: str, seed: int) -> schema.Report:
        """Compute the metrics and write the report.

        Args:
            command: that makes the result again.
            seed: of bootstraps and samples.

        Raises:
            ValueError: if a video is not measured yet, or none could be used.
        """
        readings = Readings(self.output / READINGS, len(self.generated.items))
        check_complete(readings, self.generated.name)
        rejected = list(rejected_of(readings))
        known = {each.file for each in rejected}
        rejected += [each for each in self.rejected if each.file not in known]
        reference = None
        if self.reference is not None and self._is_compared():
            reference = Readings(self.output / REFERENCE, len(self.reference.items))
            check_complete(reference, self.reference.name)
            rejected += rejected_of(reference, f"{REFERENCE}/")
        summary = summarize(readings, self.measurer.infos, reference, repeats=self.repeats, seed=seed)
        summary.notes[:0] = [*self.notes, *self.measurer.cut_prompts(self.generated.items)]
        summary.metrics = [
            each.model_copy(update={"warnings": (*each.warnings, *self.number_notes)}) if is_biased(each.name) else each
            for each in summary.metrics
        ]
        shown = [readings.reading(index) for index in example_indices(readings)]
        settings = {"n": len(readings.measured), **self.settings, **self._digests()}
        examples = list(zip(shown, self.examples(shown, readings), strict=True))
        return write_result(self.output, self.protocol, command, self.system, settings, summary, rejected, examples)

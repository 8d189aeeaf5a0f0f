"""``report.json``: what every protocol writes and every page reads.

Numbers are finite, and paths lie inside of the report's folder, so that a reader need not check either.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, ValidationError

from latentshift.files import atomic_write_text, missing_folder
from latentshift.user_input.bounded_read import load_json_bounded
from latentshift.user_input.error_text import format_validation_error

FORMAT: Literal["latentshift-evaluation/1"] = "latentshift-evaluation/1"
FILE_NAME = "report.json"
MAX_BYTES = 2**26  # of a report, in which every rejected video has a line

Protocol = Literal["msrvtt", "ucf101", "folder", "sprites", "cost"]
SystemKind = Literal["video", "frozen images", "images", "clips"]
Better = Literal["lower", "higher", "neither"]


def _inside(path: str) -> str:
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts or "\\" in path or ":" in path or "\0" in path:
        raise ValueError("it must be a path relative to the report, and not lead out of its folder")
    return path


def _in_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("the interval ends before it begins")
    return bounds


_RelativePath = Annotated[str, AfterValidator(_inside)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class System(_Part):
    """What was evaluated.

    Attributes:
        name: for tables.
        kind: who made the videos: a video model, an image model's pictures held still (``frozen images``), an image
            model's picture for each frame (``images``), or another system's files (``clips``).
        model: path or name; None for files.
        contents: SHA-256 of the weights, or of the files' names and contents.
    """

    name: str
    kind: SystemKind
    model: str | None = None
    contents: str | None = None


class Metric(_Part):
    """One number with what is needed to judge it; see :class:`latentshift.evaluation.metrics.result.MetricResult`.

    Attributes:
        name: ``FID``, ``KID``, ``IS``, ``FVD``, ``KVD``, ``C3D-IS``, ``CLIPSIM``, ``ViT-B/32-CMMD``, …
        value: in ``unit``.
        interval: bounds of the 95 % interval.
        interval_kind: how they were found; empty without an interval.
        unit: empty for a plain number.
        better: which of two values is the better one.
        n: generated videos behind the value.
        samples: rows behind the value: frames, or clips.
        n_reference: reference videos; None for a metric without a reference.
        repeats: of one experiment, whose mean the value is; ``n`` and ``samples`` are those of all.
        deviation: population standard deviation over the splits or repeats behind the value.
        frames: of a video; None where they differ.
        size: ``width x height`` in pixels, before the extractor's own resize; None where they differ.
        resize: the extractor's resize rule in words.
        extractor: its name; None for a metric of pixels or of counts.
        extractor_sha256: of its weights.
        variant: which of the definitions under this name.
        warnings: sentences.
    """

    name: str
    value: FiniteFloat
    interval: Annotated[tuple[FiniteFloat, FiniteFloat], AfterValidator(_in_order)] | None = None
    interval_kind: str = ""
    unit: str = ""
    better: Better = "neither"
    n: int = Field(ge=1)
    samples: int = Field(ge=1)
    n_reference: int | None = Field(None, ge=1)
    repeats: int = Field(1, ge=1)
    deviation: FiniteFloat | None = None
    frames: int | None = Field(None, ge=1)
    size: str | None = None
    resize: str = ""
    extractor: str | None = None
    extractor_sha256: str | None = None
    variant: str = ""
    warnings: tuple[str, ...] = ()


class Rejected(_Part):
    """A file or a caption that could not be used.

    Attributes:
        file: its name, or where its entry stands.
        reason: what is wrong, in one sentence.
    """

    file: str
    reason: str


class Example(_Part):
    """One of the best or worst videos.

    Attributes:
        index: of the video in the protocol's order.
        prompt: empty for none.
        seed: None for a file of another system.
        file: relative to the report's folder; None if it was not kept.
        values: of the video itself, by the metric's name.
        source: the file of another system that was measured, in the folder of its clips; empty for none.
    """

    index: int = Field(ge=0)
    prompt: str
    source: str = ""
    seed: int | None = None
    file: _RelativePath | None = None
    values: dict[str, FiniteFloat] = {}


class Report(BaseModel):
    """A whole result. A protocol's own keys, such as ``parts`` of sprites, stand beside these.

    Attributes:
        format: of this file.
        protocol: which verb made it.
        command: that makes it again.
        date: ISO 8601.
        latentshift: version of the package.
        system: what was evaluated.
        settings: ``n``, ``frames``, ``size``, ``sampler``, ``steps``, ``guidance``, ``seeds``, … as far as there are.
        metrics: in the order of tables.
        notes: sentences on the whole: metrics that are left out and why, numbers of videos unlike the papers'.
        rejected: all that could not be used.
        videos: the best and the worst ones, the best first.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    format: Literal["latentshift-evaluation/1"] = FORMAT
    protocol: Protocol
    command: str
    date: str
    latentshift: str
    system: System
    settings: dict[str, JsonValue]
    metrics: tuple[Metric, ...] = ()
    notes: tuple[str, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    videos: tuple[Example, ...] = ()

    def metric(self, name: str) -> Metric | None:
        """The metric of that name, if there is one."""
        return next((each for each in self.metrics if each.name == name), None)

    def metrics_by_warning(self) -> dict[str, list[str]]:
        """Each warning once, with the names of the metrics that it is about."""
        names: dict[str, list[str]] = {}
        for metric in self.metrics:
            for sentence in metric.warnings:
                names.setdefault(sentence, []).append(metric.name)
        return names


def name_in_part(metric: str, part: str) -> str:
    """What a metric of one part of a study is called; :func:`name_without_part` is the way back."""
    return f"{metric} ({part})"


def name_without_part(name: str) -> str:
    """The metric of ``METRIC (part)``; other names are returned as they are."""
    return name.partition(" (")[0]


def write_report(folder: Path, report: Report) -> Path:
    """Write ``report.json`` of a result's folder atomically; returns its path."""
    path = folder / FILE_NAME
    atomic_write_text(path, report.model_dump_json(indent=1) + "\n")
    return path


def read_report_values(folder: Path) -> Any:
    """What ``report.json`` in a result's folder holds, whatever kind of result it is.

    Raises:
        ValueError: if it is no such folder, or the file is no JSON; the message names it.
    """
    if folder.is_file():
        named = folder.parent if folder.name == FILE_NAME else "the folder of a result"
        raise ValueError(f"{folder} is a file, and a report is named by its folder: name {named}")
    if not folder.is_dir():
        raise ValueError(missing_folder(folder))
    if not (folder / FILE_NAME).exists():
        raise ValueError(
            f"{folder} holds no {FILE_NAME}: name the folder that an evaluation or `latentshift study result` wrote"
        )
    return load_json_bounded(folder / FILE_NAME, MAX_BYTES)


def read_report(folder: Path) -> Report:
    """Read ``report.json`` of a result's folder.

    Raises:
        ValueError: if there is none, or it is no report of this format; the message names the file.
    """
    return to_report(read_report_values(folder), folder)


def to_report(values: Any, folder: Path) -> Report:
    """The report of a protocol, from what its file holds (:func:`read_report_values`).

    Raises:
        ValueError: if it is no report of this format; the message names the file.
    """
    try:
        return Report.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{folder / FILE_NAME} is no report of {FORMAT}: {format_validation_error(error)}") from None

"""What the report of a sprites study holds beside the common keys: the scores of its parts."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from latentshift.evaluation.estimates import Mean, wilson_interval
from latentshift.evaluation.metrics.jackknife import not_below
from latentshift.evaluation.report.results import Result
from latentshift.user_input.error_text import format_validation_error

_Share = Field(ge=0, le=1)


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class MeanScore(_Part):
    """A mean over videos; see :class:`latentshift.evaluation.estimates.Mean`."""

    mean: FiniteFloat | None
    standard_error: FiniteFloat | None
    n: int
    missing: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """Bounds of the 95 % interval; what is measured is 0 or more."""
        return not_below(0.0, Mean(self.mean, self.standard_error, self.n, self.missing).interval)


class PartScores(_Part):
    """Shares, 0 … 1, of ``n`` videos in which each attribute is right, and how steady their colours are."""

    n: int = Field(ge=1)
    background: FiniteFloat = _Share
    colour: FiniteFloat = _Share
    thing: FiniteFloat = _Share
    motion: FiniteFloat | None = Field(None, ge=0, le=1)
    joint: FiniteFloat = _Share
    colour_drift: MeanScore | None = None
    frame_flicker: MeanScore | None = None

    def share(self, name: str) -> float | None:
        """An attribute's share."""
        value: float | None = getattr(self, name)
        return value

    def interval(self, name: str) -> tuple[float, float] | None:
        """Its 95 % Wilson interval."""
        share = self.share(name)
        return None if share is None else wilson_interval(round(share * self.n), self.n)


class ReadExample(_Part):
    """A video with what its prompt names and what the reader read, by attribute; None where it is not sure."""

    index: int
    prompt: str
    seed: int
    file: str | None = None
    expected: dict[str, str] = Field(alias="asked")
    read: dict[str, str | None]

    @property
    def right(self) -> list[str]:
        """Attributes that are as they were asked for."""
        return [name for name, word in self.expected.items() if self.read.get(name) == word]

    @property
    def wrong(self) -> list[str]:
        """Attributes that are not, each with what was read."""
        return [
            f"{name}: {self.read.get(name) or 'unclear'}"
            for name, word in self.expected.items()
            if self.read.get(name) != word
        ]


class PartKind(_Part):
    """Which part it is; see :class:`latentshift.evaluation.sprites.parts.Part`."""

    name: str
    held_out: bool
    image: bool
    shift: bool


class StudyPart(PartScores):
    """One part with all that it is compared with."""

    part: PartKind
    reader_on_true_clips: PartScores
    true_clips: dict[Literal["rendered", "through_autoencoder"], PartScores] = {}
    motions: dict[str, PartScores] = {}
    examples: dict[Literal["first", "best", "worst"], list[ReadExample]] = {}


_PARTS = TypeAdapter(list[StudyPart])


def has_parts(result: Result) -> bool:
    """Whether it is of a sprites study that scored any part."""
    return bool((result.report.model_extra or {}).get("parts"))


def study_parts(result: Result) -> list[StudyPart]:
    """The parts of a sprites study.

    Raises:
        ValueError: if the report holds none that can be read; the message names the folder.
    """
    try:
        return _PARTS.validate_python((result.report.model_extra or {}).get("parts"))
    except ValidationError as error:
        raise ValueError(
            f"the report in {result.folder} is no sprites study: {format_validation_error(error)}"
        ) from None

"""What the report of a cost comparison holds beside the common keys: a row for each of its video models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from latentshift.evaluation.report.results import Result
from latentshift.user_input.error_text import format_validation_error


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Parameters(_Part):
    """Numbers of parameters by part."""

    unet: int = Field(ge=0)
    autoencoder: int = Field(ge=0)
    text_encoder: int = Field(ge=0)
    overall: int = Field(ge=0)
    added: int | None = None  # of the U-Net's, beyond the image model's


class Seconds(_Part):
    """Median of what was timed, with the lowest and the highest."""

    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The lowest and the highest; None where it was timed once, which says nothing of a spread."""
        return None if self.low == self.high else (self.low, self.high)


class CostRow(_Part):
    """One video model.

    Attributes:
        method: its name.
        parameters: of its parts.
        video_seconds: of a whole video.
        how: whether a whole video was timed.
        first_pass_seconds: of the first pass of a process.
        pass_seconds: of each later one.
        flop_a_pass: operations of a pass.
        share_of_device_peak: what the pass reaches of the operations a second of a large product or convolution.
        to_first_row: seconds of a video, to the first row's.
        peak_bytes: at the peak.
    """

    method: str
    parameters: Parameters
    video_seconds: Seconds
    how: str = ""
    first_pass_seconds: Seconds | None = None
    pass_seconds: Seconds | None = None
    flop_a_pass: int | None = Field(None, ge=0)
    share_of_device_peak: FiniteFloat | None = None
    to_first_row: FiniteFloat | None = None
    peak_bytes: int | None = Field(None, ge=0)


class _Cost(_Part):
    rows: list[CostRow]


def cost_rows(result: Result) -> list[CostRow]:
    """The rows of a cost comparison; none of a report without its key ``cost``.

    Raises:
        ValueError: if they can't be read; the message names the folder.
    """
    own = (result.report.model_extra or {}).get("cost")
    if own is None:
        return []
    try:
        return _Cost.model_validate(own).rows
    except ValidationError as error:
        raise ValueError(
            f"the report in {result.folder} is no comparison of costs: {format_validation_error(error)}"
        ) from None

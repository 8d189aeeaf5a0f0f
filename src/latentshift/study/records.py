"""What the store of a study hands out and takes: pairs, answers, where a rater stands, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Side = Literal["left", "right", "neither"]
Choice = Literal["first", "second", "neither"]
Kind = Literal["vote", "identical", "broken"]
SIDES: tuple[Side, ...] = get_args(Side)


class UnknownTokenError(LookupError):
    """No rater of this study has the token."""


class AnswerRefusedError(ValueError):
    """An answer that is not stored: of another rater's comparison, or unlike the one stored before."""


@dataclass(frozen=True)
class Assignment:
    """A pair as a rater sees it.

    Attributes:
        id: to answer with.
        prompt: that both videos were made for.
        left, right: names of the files in the study's ``clips/``.
        position: how many pairs the rater answered before.
        leased_until: seconds since 1970; later, another rater may get the pair.
    """

    id: int
    prompt: str
    left: str
    right: str
    position: int
    leased_until: float


@dataclass(frozen=True)
class RaterProgress:
    """Where a rater stands.

    Attributes:
        answered: pairs, attention checks included.
        available: comparisons that the rater could get now, the open one included.
        waiting: further ones that others hold, and that come free if they don't answer.
    """

    answered: int
    available: int
    waiting: int


@dataclass(frozen=True)
class Answer:
    """What one rater answered to one question about one pair.

    Attributes:
        comparison: its number.
        kind: ``vote``, or the kind of attention check: ``identical`` (one clip twice) or ``broken`` (first is the clip,
            second its broken twin).
        prompt: of both clips.
        first, second: the systems, in the study's order.
        rater: the random id.
        question: its name.
        choice: which system was chosen.
        swapped: whether the second one stood on the left.
        position: how many pairs the rater answered before.
        seconds: until the answer, if the page told.
        replays: if the page told.
    """

    comparison: int
    kind: Kind
    prompt: str
    first: str
    second: str
    rater: str
    question: str
    choice: Choice
    swapped: bool
    position: int
    seconds: float | None
    replays: int | None

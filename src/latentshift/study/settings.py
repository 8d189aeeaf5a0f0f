"""Settings of a study."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Question:
    """What raters are asked about a pair.

    Attributes:
        name: short, for tables.
        text: as raters read it.
    """

    name: str
    text: str


# The paper's two questions (Table 3); it does not print their words.
QUESTIONS = (
    Question("quality", "Which video has the better quality?"),
    Question("faithfulness", "Which video matches the text better?"),
)

_MOST_RATERS = 1000  # of one comparison


@dataclass(frozen=True)
class StudySettings:
    """Settings that a study keeps from the first rater to the last.

    Attributes:
        raters_each: raters of each comparison, 1 to 1,000; the paper's is 5.
        questions: that are all asked about a pair when it is shown.
        cant_tell: whether raters may answer that they can't tell.
        seed: of sides, order and attention checks.
        lease_seconds: how long a comparison is kept for a rater who doesn't answer, before another may get it.
        check_every: a rater gets one attention check among so many pairs, 2 or more, as long as there are new ones.

    Raises:
        ValueError: for an invalid value.
    """

    raters_each: int = 5
    questions: tuple[Question, ...] = QUESTIONS
    cant_tell: bool = False
    seed: int = 0
    lease_seconds: float = 1800.0
    check_every: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.raters_each <= _MOST_RATERS:
            raise ValueError(f"a comparison needs 1 to {_MOST_RATERS:,} raters, not {self.raters_each:,}")
        names = [question.name for question in self.questions]
        if not names or not all(name.strip() for name in names) or len(set(names)) < len(names):
            raise ValueError(f"a study needs one or more questions with different names, not {names}")
        if not (0 < self.lease_seconds < math.inf):
            raise ValueError(f"a comparison must be kept for more than 0 seconds, not {self.lease_seconds:g}")
        if self.check_every < 2:
            raise ValueError(f"one attention check must come among 2 or more pairs, not {self.check_every}")

    def to_json(self) -> str:
        """As one line; :meth:`from_json` reads it back."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> StudySettings:
        """From :meth:`to_json`."""
        values = json.loads(text)
        return cls(**{**values, "questions": tuple(Question(**each) for each in values["questions"])})

"""All answers of a study as CSV, a row for each answer to a question."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, fields
from io import StringIO

from latentshift.study.records import Answer


def answers_csv(answers: Iterable[Answer]) -> str:
    """The columns are the attributes of :class:`latentshift.study.records.Answer`, ``swapped`` as 0 or 1."""
    text = StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Answer)], lineterminator="\n")
    writer.writeheader()
    for each in answers:
        writer.writerow({**asdict(each), "swapped": int(each.swapped)})
    return text.getvalue()

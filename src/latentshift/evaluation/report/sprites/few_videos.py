"""The warning of a sprites study that has too few videos for numbers to report."""

from __future__ import annotations

from collections.abc import Sequence

from latentshift.evaluation.report.page_warnings import PageWarnings
from latentshift.evaluation.report.results import Result
from latentshift.evaluation.report.schema import name_in_part
from latentshift.evaluation.report.sprites.parts import StudyPart
from latentshift.evaluation.report.sprites.words import SHARES, part_title

_FEW = 100  # videos of a part; fewer are enough for a look, and for no more


def add_few_videos(warnings: PageWarnings, result: Result, parts: Sequence[StudyPart], *, named: bool) -> None:
    """Warn of parts of few videos, and mark their shares.

    Args:
        warnings: of the page.
        result: a study.
        parts: of it.
        named: whether the page shows several results, so that the warning names its own.
    """
    few = [part for part in parts if part.n < _FEW]
    if not few:
        return
    counted = ", ".join(f"{part_title(part).lower()} {part.n:,}" for part in few)
    warnings.add(
        f"Few videos ({counted}): the intervals are wide, and single motions rest on a handful. That is enough to see "
        "whether a model works; for numbers to report take the default, 512 of each, and 128 with the shift switched "
        "off.",
        result.label if named else "",
        [(result.label, name_in_part(share, part.part.name)) for part in few for share in SHARES.values()],
    )

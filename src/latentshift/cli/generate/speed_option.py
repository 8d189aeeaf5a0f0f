"""``--speed`` of ``generate``: make a pipeline faster, and print what was done."""

from __future__ import annotations

import sys
from typing import Any

from latentshift.diffusion.fewer_operations import FewerOperations
from latentshift.models.compile_decision import SamplingWork
from latentshift.user_input.error_text import printable

_LONGEST_LINE = 4096  # a path may be in it


def print_acceleration(pipeline: Any, speed: str, **work: Any) -> FewerOperations:
    """Accelerate a ``LatentShiftPipeline``, with a line on standard error for all that was done or not.

    Args:
        pipeline: to be accelerated.
        speed: ``exact`` or ``fast``.
        **work: of :class:`latentshift.models.compile_decision.SamplingWork`.

    Returns:
        What the calls are to leave out.
    """
    report = pipeline.accelerate(SamplingWork(**work), speed=speed)
    for line in report.lines:
        print(f"speed: {printable(line, _LONGEST_LINE)}", file=sys.stderr)
    return FewerOperations(**report.arguments)

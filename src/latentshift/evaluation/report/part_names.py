"""What pages call the parts of a sprites study, and the metrics of a part.

``report.json``, folders and the command line have the parts' own names, as ``held_out``.
"""

from __future__ import annotations

from latentshift.evaluation.report.schema import name_in_part, name_without_part

_TITLES = {
    "seen": "Seen combinations",
    "held_out": "New combinations",
    "images": "Single frames",
    "shift_off": "Temporal shift switched off",
    "images_shift_off": "Single frames without the temporal shift",
    "lasting": "Motions that may last",
    "lasting_32": "Motions that may last, 32 frames",
    "lasting_64": "Motions that may last, 64 frames",
}


def title_of_part(name: str) -> str:
    """The part's name for readers."""
    return _TITLES.get(name, name)


def shown_name(metric: str) -> str:
    """``sprites-FID (held_out)`` as ``sprites-FID (new combinations)``; other names as they are."""
    plain = name_without_part(metric)
    part = metric[len(plain) :].removeprefix(" (").removesuffix(")")
    return name_in_part(plain, _TITLES[part].lower()) if part in _TITLES else metric

"""What each number means, in a sentence or two for readers who are new to it."""

from __future__ import annotations

from collections.abc import Iterable

from latentshift.evaluation.report.schema import name_without_part

_BELOW_ZERO = (
    "An estimate that is right on average falls as often below the true distance as above it: where that is 0 or near "
    "it, it comes out below 0. Read such a number, or an interval that reaches below 0, as no difference found."
)
_MEANINGS = {
    "FID": "Distance between the frames and those of real videos, by features of a network that knows photographs; 0 "
    "is no difference. It looks at single frames, and it is larger for fewer frames.",
    "KID": "Like FID, but right on average for any number of frames: trust it more than FID where there are few. "
    f"{_BELOW_ZERO}",
    "IS": "How sure a classifier is of each frame, and how many different classes there are; it never sees a real one.",
    "C3D-IS": "How sure a classifier of actions is of each clip, and how many different actions there are; it never "
    "sees a real one.",
    "clip-IS": "How sure a classifier is of each clip, and how many different classes there are; it never sees a real "
    "one.",
    "FVD": "Distance between the clips and real ones, by features of a network that knows actions; 0 is no "
    "difference. It sees motion, and it is larger for fewer clips: compare it at equal N only.",
    "KVD": f"Like FVD, but right on average for any number of clips. {_BELOW_ZERO}",
    "CLIPSIM": "How well the frames fit their prompt by CLIP: the cosine between the two, averaged over frames and "
    "videos. It sees no motion.",
    "CMMD": "Distance between the frames and real ones by CLIP's features, without the assumption that they are "
    "Gaussian; 0 is no difference.",
    "frame consistency": "How alike neighbouring frames are by CLIP; a still video is perfectly consistent, so read "
    "it beside the motion.",
    "amount of motion": "How much neighbouring frames differ, in levels of 0 to 255.",
    "PSNR": "How exactly the frames match the reference, in decibels: 30 is good, 40 hard to tell from it.",
    "SSIM": "How alike the structure of the frames and of the reference is; 1 is equal.",
}
INTERVAL = (
    "An interval of 95 % says how far the number would wander if other videos were made with the same model: two "
    "numbers whose intervals overlap widely are no proof of a difference."
)


def meanings(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """(name, meaning) of the metrics that have one, in their order; ``NAME (part)`` is explained once, as ``NAME``."""
    plain = dict.fromkeys(name_without_part(name) for name in names)
    return tuple((name, meaning) for name in plain if (meaning := _meaning(name)))


def _meaning(name: str) -> str:
    """Of ``sprites-FID``, ``ViT-B/32-CMMD`` and the like: that of FID, and that its network is another."""
    if name in _MEANINGS:
        return _MEANINGS[name]
    splits = (name.partition("-"), name.rpartition("-"))
    network, plain = next(((first, last) for first, _, last in splits if last in _MEANINGS), ("", ""))
    if not plain:
        return ""
    meaning = _MEANINGS[plain].replace(" that knows photographs", "").replace(" that knows actions", "")
    return f"{meaning} The network is that of {network}, so compare it with no published {plain}."

"""The scores of several models' studies, with the same prompts, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from latentshift.evaluation.estimates import Mean, pool_means, wilson_interval
from latentshift.evaluation.sprites_study import STABILITY_FIELDS
from latentshift.evaluation.study import SCORES


def pool_scores(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pool the scores of one part of the study over models.

    Args:
        scores: of each model (:func:`latentshift.evaluation.sprites_study.score_readings`), with the same keys.

    Returns:
        ``n``, the videos of all; each share among them; ``intervals``, the 95 % Wilson interval [low, high] of each,
        which counts every video as independent and so knows nothing of how models differ; of videos also the means of
        colour drift and flicker, and ``motions``, pooled likewise.

    Raises:
        ValueError: if there are none.
    """
    if not scores:
        raise ValueError("there are no scores to pool")
    n = sum(each["n"] for each in scores)
    pooled: dict[str, Any] = {"n": n, "intervals": {}}
    for name in SCORES:
        if scores[0][name] is None:
            pooled[name] = None
            continue
        right = sum(round(each[name] * each["n"]) for each in scores)
        pooled[name] = right / n
        pooled["intervals"][name] = list(wilson_interval(right, n))
    for name in STABILITY_FIELDS:
        if name in scores[0]:
            pooled[name] = asdict(pool_means([Mean(**each[name]) for each in scores]))
    if "motions" in scores[0]:
        pooled["motions"] = {
            motion: pool_scores([each["motions"][motion] for each in scores]) for motion in scores[0]["motions"]
        }
    return pooled

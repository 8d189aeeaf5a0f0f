"""The scores of several models' studies, with the same prompts, as one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from latentshift.evaluation.estimates import Mean, pool_means, wilson_interval
from latentshift.evaluation.metrics.jackknife import repeats_interval
from latentshift.evaluation.report.schema import name_without_part
from latentshift.evaluation.sprites.readings import STABILITY_FIELDS
from latentshift.evaluation.sprites.scores import SCORES


def pool_scores(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pool the scores of one part of the study over models.

    Args:
        scores: of each model (:func:`latentshift.evaluation.sprites.scores.score_readings`), with the same keys; with
            ``distances`` as a study's part has them, or without.

    Returns:
        ``n``, the videos of all; each share among them; ``intervals``, the 95 % Wilson interval [low, high] of each,
        which counts every video as independent and so knows nothing of how models differ; of videos also the means of
        colour drift and flicker, and ``motions``, pooled likewise. ``distances`` by name, without the part's: the
        ``value``, the mean over models, and ``interval``, Student's over models, or of one model its own.

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
    if all("distances" in each for each in scores):
        pooled["distances"] = _pool_distances([each["distances"] for each in scores])
    return pooled


def _pool_distances(of_models: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The distances that all models have, by name."""
    by_name = [{name_without_part(each["name"]): each for each in distances} for distances in of_models]
    pooled = {}
    for name, first in by_name[0].items():
        of_name = [each[name] for each in by_name if name in each]
        if len(of_name) < len(by_name):
            continue
        values = [each["value"] for each in of_name]
        kept = ("n_reference", "extractor", "extractor_sha256")
        pooled[name] = {
            "value": statistics.fmean(values),
            "interval": first["interval"] if len(values) == 1 else repeats_interval(values),
            "n": min(each["n"] for each in of_name),
            "models": len(values),
            **{key: first[key] for key in kept},
            "warnings": list(dict.fromkeys(warning for each in of_name for warning in each["warnings"])),
        }
    return pooled

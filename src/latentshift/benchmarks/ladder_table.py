"""The tables of the ladder, from what ``ladder.json`` holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from latentshift.benchmarks.report import Estimate, Result, mean_value
from latentshift.evaluation.estimates import Mean
from latentshift.evaluation.sprites.pool_scores import pool_scores
from latentshift.evaluation.sprites.readings import STABILITY_FIELDS
from latentshift.evaluation.sprites.scores import SCORES

_WORDS = {"joint": "all_right"}  # as pages call it


def ladder_rows(facts: Mapping[str, Any]) -> Iterator[Result]:
    """The rows of all tables.

    For each rung what it costs; for each part of the study the shares of right answers, 0 … 1, with 95 % Wilson
    intervals over the videos of all seeds, and of videos colour drift and frame flicker in levels, with 95 % intervals
    of the mean, and in how many there is no thing to measure; the shares of right motions for each motion; and with
    several seeds, the scores of each.

    Args:
        facts: the content of ``ladder.json``.
    """
    rungs = facts["rungs"]
    for each in rungs:
        yield {name: each[name] for name in ("rung", "temporal_parameters", "seconds_a_step")}
    for part in rungs[0]["scores"]:
        if part == "images" and facts["image_stage"]:
            yield _score_row("image stage, before", part, 0, pool_scores([facts["image_stage"]]))
        for kind, scores in facts["true_clips"].get(part, {}).items():
            yield _score_row(f"true clips {kind.replace('_', ' ')}", part, 0, pool_scores([scores]))
        for each in rungs:
            yield _score_row(each["rung"], part, len(each["seeds"]), each["scores"][part])
    yield from _motion_rows(rungs)
    yield from _seed_rows(rungs)


def _score_row(name: str, part: str, runs: int, scores: Mapping[str, Any]) -> Result:
    row: Result = {"rung": name, "runs": runs, part: scores["n"]}
    for key in SCORES:
        if scores[key] is not None:
            row[_WORDS.get(key, key)] = Estimate(scores[key], *scores["intervals"][key])
    for key in STABILITY_FIELDS:
        if key in scores:
            row[key] = mean_value(Mean(**scores[key]))
    if "colour_drift" in scores:
        row["no_thing"] = scores["colour_drift"]["missing"]
    return row


def _motion_rows(rungs: list[dict[str, Any]]) -> Iterator[Result]:
    for part in rungs[0]["scores"]:
        if motions := rungs[0]["scores"][part].get("motions"):
            first: Result = {f"motions_of_{part}": "videos of all runs"}
            yield first | {motion: scores["n"] for motion, scores in motions.items()}
            for each in rungs:
                row: Result = {f"motions_of_{part}": each["rung"]}
                yield row | {motion: scores["motion"] for motion, scores in each["scores"][part]["motions"].items()}


def _seed_rows(rungs: list[dict[str, Any]]) -> Iterator[Result]:
    for part in rungs[0]["scores"]:
        for each in rungs:
            for seed, scores in each["seeds"].items() if len(each["seeds"]) > 1 else ():
                row: Result = {f"seeds_on_{part}": each["rung"], "seed": int(seed)}
                row |= {_WORDS.get(key, key): scores[part][key] for key in SCORES if scores[part][key] is not None}
                yield row | {key: scores[part][key]["mean"] for key in STABILITY_FIELDS if key in scores[part]}

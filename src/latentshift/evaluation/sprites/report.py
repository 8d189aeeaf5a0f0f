"""The common ``report.json`` of a sprites study. Knows no pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from latentshift import __version__
from latentshift.evaluation.estimates import Mean, wilson_interval
from latentshift.evaluation.metrics.jackknife import not_below
from latentshift.evaluation.report.schema import Example, Metric, Report, System, name_in_part
from latentshift.evaluation.report.sprites.words import SHARES
from latentshift.evaluation.sprites.examples import right_count
from latentshift.evaluation.sprites.readings import STABILITY_FIELDS


def study_report(
    model: str,
    settings: Mapping[str, Any],
    parts: Sequence[Mapping[str, Any]],
    *,
    command: str,
    frames: int,
    size: int,
) -> Report:
    """The report of a study.

    Args:
        model: its name.
        settings: of the study; ``contents`` is the SHA-256 of the model.
        parts: scores of each (:func:`latentshift.evaluation.sprites.scores.score_part`), with ``examples``.
        command: that made the study.
        frames: of a video.
        size: side of the frames in pixels.
    """
    seeds = {part["part"]["name"]: f"from {part['part']['first_seed']}" for part in parts}
    shown = {
        **{name: value for name, value in settings.items() if name != "contents"},
        "n": {part["part"]["name"]: part["n"] for part in parts},
        "size": f"{size}x{size}",
        "seeds": seeds,
    }
    return Report.model_validate(
        {
            "protocol": "sprites",
            "command": command,
            "date": datetime.now(UTC).date().isoformat(),
            "latentshift": __version__,
            "system": System(name=model, kind="video", model=model, contents=settings["contents"]),
            "settings": shown,
            "metrics": [metric for part in parts for metric in part_metrics(part, frames, size)],
            "notes": list(dict.fromkeys(note for part in parts for note in part.get("notes", ()))),
            "videos": _examples(parts),
            "parts": [
                {name: each for name, each in part.items() if name not in ("distances", "notes")} for part in parts
            ],
        }
    )


def part_metrics(scores: Mapping[str, Any], frames: int, size: int) -> Iterator[Metric]:
    """The scores of a part as metrics: shares in %, means in levels, and distances to true clips."""
    part = scores["part"]
    own = 1 if part["image"] else part.get("frames") or frames
    facts: dict[str, Any] = {"frames": own, "size": f"{size}x{size}"}
    for key, name in SHARES.items():
        if scores[key] is None:
            continue
        low, high = wilson_interval(round(scores[key] * scores["n"]), scores["n"])
        yield Metric(
            name=name_in_part(name, part["name"]),
            value=100 * scores[key],
            interval=(100 * low, 100 * high),
            interval_kind="Wilson",
            unit="%",
            better="higher",
            n=scores["n"],
            samples=scores["n"],
            variant="read by the analytic reader",
            **facts,
        )
    for key in STABILITY_FIELDS:
        mean = Mean(**scores[key]) if key in scores else None
        if mean is None or mean.mean is None:
            continue
        missing = f"{mean.missing} videos show no one thing to measure, and are left out." if mean.missing else ""
        yield Metric(
            name=name_in_part(key.replace("_", " "), part["name"]),
            value=mean.mean,
            interval=not_below(0.0, mean.interval),
            interval_kind="Student's t over videos" if mean.interval else "",
            unit="levels",
            better="lower",
            n=mean.n,
            samples=mean.n,
            warnings=(missing,) if missing else (),
            **facts,
        )
    yield from (Metric.model_validate(each) for each in scores.get("distances", ()))


def _examples(parts: Sequence[Mapping[str, Any]]) -> list[Example]:
    """The best and the worst videos, the best first; of single frames, where there are no videos.

    Those without the shift are left out: they have the prompts and seeds of others.
    """
    with_shift = [part for part in parts if part["part"]["shift"]]
    shown = [part for part in with_shift if not part["part"]["image"]] or with_shift
    examples = [
        Example(
            index=each["index"],
            prompt=each["prompt"],
            seed=each["seed"],
            file=each["file"],
            values={"share right": right_count(each) / len(each["asked"])},
        )
        for part in shown
        for kind in ("best", "worst")
        for each in part["examples"][kind]
    ]
    return sorted(examples, key=lambda example: -example.values["share right"])

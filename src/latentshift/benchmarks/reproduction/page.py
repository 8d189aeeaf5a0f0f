"""``reproduction.md`` and its plots, from what ``reproduction.json`` holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from latentshift.benchmarks.reproduction.claims import CLAIMS, IMAGE_STAGE, SETTINGS_CLAIM
from latentshift.benchmarks.reproduction.decide import (
    TO_TRUE_CLIPS,
    Number,
    distance_of,
    label_of,
    seconds_of,
    share_of,
)
from latentshift.benchmarks.reproduction.verdict import can_lose
from latentshift.document.blocks import (
    Block,
    Code,
    Document,
    Facts,
    Heading,
    Paragraph,
    Picture,
)
from latentshift.document.markdown import to_markdown
from latentshift.document.plot import Plot, PlotRow
from latentshift.document.table import Cell, Table, number_cell
from latentshift.evaluation.report.page_warnings import Name, PageWarnings
from latentshift.evaluation.report.pages import write_plots
from latentshift.evaluation.report.sprites.words import SHARES
from latentshift.files import atomic_write_text

PAGE = "reproduction.md"
_INTERVALS = (
    "Shares are of the analytic reader. Intervals are of 95 %: Wilson's over the videos of all seeds, which count as "
    "independent, so that they know nothing of how runs with other seeds differ; Newcombe's of a difference; a "
    "bootstrap over videos of a distance, or with several training seeds Student's over them, and of the ratio of two "
    "the far ends of both, so that it decides only where they don't meet; Student's over the rounds of timing. A "
    "statement holds, or does not, only where the whole interval says so."
)
_METHODS_CLAIMS = (1, SETTINGS_CLAIM)  # whose systems stand side by side in one table
_DISTANCES = ("sprites-FVD", "sprites-FID")


def write_page(result: Mapping[str, Any], folder: Path) -> Path:
    """Write the page and its plots into the folder of a reproduction; returns the page's path."""
    document = reproduction_document(result, folder)
    write_plots(document, folder)
    atomic_write_text(folder / PAGE, to_markdown(document, folder))
    return folder / PAGE


def reproduction_document(result: Mapping[str, Any], folder: Path) -> Document:
    """The page of a reproduction.

    Args:
        result: what ``reproduction.json`` holds.
        folder: of its pictures.
    """
    claims = result["claims"]
    lead = "; ".join(f"claim {each['number']}: {each['verdict']}" for each in claims)
    warnings = _warnings(result)
    blocks: list[Block] = [Paragraph(_INTERVALS)]
    for claim in claims:
        tables = list(_method_tables(result, claim, warnings)) if claim["number"] in _METHODS_CLAIMS else []
        blocks += _claim_blocks(claim, folder / result["pictures"][str(claim["number"])], tables, warnings)
    blocks += [Heading("All numbers"), *_score_tables(result["ladder"]), *_how(result)]
    return Document(
        "The paper's claims on the sprites world", f"{lead[0].upper()}{lead[1:]}.", tuple(blocks), warnings.all()
    )


def _warnings(result: Mapping[str, Any]) -> PageWarnings:
    """Of the whole, then of distances; what they are about is named as by :func:`label_of`."""
    warnings = PageWarnings()
    if result["video_recipe"]["image_share"] > 0:
        warnings.add(
            f"image_share is {result['video_recipe']['image_share']}: the video models were trained on single images "
            "too, and the paper's claim is of training on videos alone."
        )
    if few := _curriculum(result["video_recipe"]):
        warnings.add(
            f"frame_curriculum: the video models were trained on few frames of each clip first ({few}), and the "
            "paper's on whole clips from the first step."
        )
    if len(result["ladder"]["seeds"]) < 2:
        warnings.add("One training seed: how much runs differ by chance is not known.")
    about: dict[str, dict[Name, None]] = {}
    shown = _shown_distances(result)
    for rung in result["ladder"]["rungs"]:
        for part, scores in rung["scores"].items():
            for distance, each in scores.get("distances", {}).items():
                name = label_of(rung["rung"], part), distance
                if name in shown:
                    for sentence in each["warnings"]:
                        about.setdefault(sentence, {})[name] = None
    for sentence, names in about.items():
        labels: dict[str, list[str]] = {}
        for label, distance in names:
            labels.setdefault(distance, []).append(label)
        said = (f"{distance} ({'; '.join(each)})" for distance, each in labels.items())
        warnings.add(sentence, ", ".join(said), names)
    return warnings


def _shown_distances(result: Mapping[str, Any]) -> set[Name]:
    """Those in the tables of methods, and those that a statement is about."""
    shown = {(label_of(rung["rung"], "seen"), each) for rung in result["ladder"]["rungs"] for each in _DISTANCES}
    for claim in result["claims"]:
        for each in claim["statements"]:
            if each["measure"].endswith(TO_TRUE_CLIPS):
                distance = each["measure"].removesuffix(TO_TRUE_CLIPS)
                shown |= {(each[side]["label"], distance) for side in ("first", "second")}
    return shown


def _curriculum(video: Mapping[str, Any]) -> str:
    """The phases of a recipe's ``frame_curriculum``, which older results do not name; empty: it has none."""
    phases = sorted((int(frames), steps) for frames, steps in video.get("frame_curriculum", {}).items())
    return ", then ".join(f"{steps:,} steps on {frames} frames" for frames, steps in phases)


def _claim_blocks(
    claim: Mapping[str, Any], picture: Path, tables: Sequence[Table], warnings: PageWarnings
) -> Iterator[Block]:
    number = claim["number"]
    yield Heading(f"{number}. {claim['title']}: {claim['verdict']}")
    yield Paragraph(f"The paper: {claim['paper']}")
    columns = (
        "statement",
        "source",
        "measure",
        "first",
        "second",
        "difference, or ratio of distances or times",
        "verdict",
    )
    rows = tuple(
        (
            Cell(each["says"]),
            Cell(each["source"]),
            Cell(each["measure"]),
            _side(each, each["first"], warnings),
            _side(each, each["second"], warnings),
            _compared(each),
            Cell(_verdict(each), strong=True),
        )
        for each in claim["statements"]
    )
    yield Table(f"claim-{number}", "Statements and what decides them", columns, rows)
    yield from tables
    yield from _plots(claim, warnings)
    yield Paragraph("The first prompts of each study, with the first training seed; not chosen by their looks.")
    yield Picture(picture, f"Frames of the systems of claim {number}, prompt by prompt")


def _verdict(statement: Mapping[str, Any]) -> str:
    if statement["verdict"] != "not decided":
        return str(statement["verdict"])
    if statement["measure"].startswith("seconds"):
        return f"not decided by so few rounds ({statement['first']['n']})"
    if not can_lose(statement["second"]["interval"], statement["margin"]):
        return "not decided: too few of the second are right to lose as many"
    return f"not decided by so few videos ({min(statement['first']['n'], statement['second']['n'])})"


def _unit(statement: Mapping[str, Any]) -> str:
    return "%" if statement["measure"].startswith("share") else ""


def _marks(statement: Mapping[str, Any], side: Mapping[str, Any], warnings: PageWarnings) -> tuple[int, ...]:
    return warnings.marks(side["label"], statement["measure"].removesuffix(TO_TRUE_CLIPS))


def _side(statement: Mapping[str, Any], side: Mapping[str, Any], warnings: PageWarnings) -> Cell:
    if statement["measure"].startswith("parameters"):
        return Cell(f"{side['label']}: {side['value']:,}", side["value"])
    unit = _unit(statement)
    cell = _scaled(side["value"], side["interval"], unit)
    what = "rounds" if statement["measure"].startswith("seconds") else "N"
    return Cell(
        f"{side['label']}: {cell.text}{' %' if unit else ''}",
        cell.value,
        detail=f"{cell.detail}; {what} {side['n']}",
        marks=_marks(statement, side, warnings),
    )


def _compared(statement: Mapping[str, Any]) -> Cell:
    if statement["measure"].startswith("parameters"):
        return Cell(f"{statement['compared']:,}")
    return _scaled(statement["compared"], statement["interval"], _unit(statement))


def _scaled(value: float, interval: Sequence[float] | None, unit: str) -> Cell:
    factor = 100 if unit == "%" else 1
    bounds = None if interval is None else (factor * interval[0], factor * interval[1])
    return number_cell(factor * value, bounds, unit)


def _plots(claim: Mapping[str, Any], warnings: PageWarnings) -> Iterator[Plot]:
    """One for each measure with intervals; a system that several statements name stands in it once."""
    rows: dict[str, dict[str, PlotRow]] = {}
    for each in claim["statements"]:
        if each["measure"].startswith("parameters"):
            continue
        factor = 100 if _unit(each) else 1
        for side in (each["first"], each["second"]):
            bounds = side["interval"] and (factor * side["interval"][0], factor * side["interval"][1])
            marks = _marks(each, side, warnings)
            row = PlotRow(side["label"], factor * side["value"], bounds, note=f"N {side['n']}", marks=marks)
            rows.setdefault(each["measure"], {})[side["label"]] = row
    for index, (measure, of_systems) in enumerate(rows.items(), 1):
        share = measure.startswith("share")
        name = f"claim-{claim['number']}-{index}"
        title = f"{measure[0].upper()}{measure[1:]}"
        yield Plot(name, title, tuple(of_systems.values()), "%" if share else "", end=100 if share else None)


def _score_tables(ladder: Mapping[str, Any]) -> Iterator[Table]:
    """The reader's shares by part of the study: of all seeds, and of each alone."""
    columns = ("part and system", "N", *(f"{score}, %" for score in SHARES.values()))
    pooled, alone = [], []
    if ladder["image_stage"]:
        shares = [share_of(ladder, IMAGE_STAGE, "images", each) for each in SHARES if each != "motion"]
        cells = [_scaled(each.value, each.interval, "%") for each in shares]
        pooled.append((Cell(label_of(IMAGE_STAGE, "images")), Cell(str(shares[0].n)), *cells, Cell()))
    for rung in ladder["rungs"]:
        for part, scores in rung["scores"].items():
            shares_of_all = (
                Cell() if scores[each] is None else _scaled(scores[each], scores["intervals"][each], "%")
                for each in SHARES
            )
            pooled.append((Cell(label_of(rung["rung"], part)), Cell(str(scores["n"])), *shares_of_all))
            for seed, of_parts in rung["seeds"].items():
                of_seed = of_parts[part]
                cells = [
                    number_cell(of_seed[each] if of_seed[each] is None else 100 * of_seed[each], None, "%")
                    for each in SHARES
                ]
                name = f"{label_of(rung['rung'], part)}, seed {seed}"
                alone.append((Cell(name), Cell(str(of_seed["n"])), *cells))
    yield Table("scores", "The reader's shares, over all seeds", columns, tuple(pooled))
    yield Table("seeds", "The same for each training seed", columns, tuple(alone))


def _method_tables(result: Mapping[str, Any], claim: Mapping[str, Any], warnings: PageWarnings) -> Iterator[Table]:
    """What each system of a claim comes to, and, where that is compared, what it costs."""
    ladder, number = result["ladder"], claim["number"]
    systems = {system for each in CLAIMS if each.number == number for system, _ in each.sheet}
    timed = any(each["measure"].startswith("seconds") for each in claim["statements"])
    rungs = [rung for rung in ladder["rungs"] if rung["rung"] in systems and "seen" in rung["scores"]]
    if not rungs:
        return
    rows = []
    for rung in rungs:
        name, count = rung["rung"], rung["temporal_parameters"]
        shares = [share_of(ladder, name, "seen", score) for score in ("joint", "motion")]
        distances = [
            (distance_of(ladder, name, "seen", each), warnings.marks(label_of(name, "seen"), each))
            for each in _DISTANCES
        ]
        costs = [seconds_of(result["seconds"], name, what) for what in ("step", "video")] if timed else []
        rows.append(
            (
                Cell(name),
                *(_scaled(each.value, each.interval, "%") for each in shares),
                *(Cell() if each is None else _counted_cell(each, marks) for each, marks in distances),
                Cell(f"{count:,}", count),
                *(number_cell(each.value, each.interval) for each in costs),
            )
        )
    columns = (
        "method",
        "all right, % ↑",
        "motion right, % ↑",
        *(f"{each} ↓" for each in _DISTANCES),
        "temporal parameters",
        *(("seconds a training step", "seconds a video") if timed else ()),
    )
    title = "What each comes to, and what it costs" if timed else "What each comes to"
    yield Table(f"methods-{number}", title, columns, tuple(rows), _method_notes(result, rungs, timed))


def _counted_cell(number: Number, marks: tuple[int, ...]) -> Cell:
    cell = number_cell(number.value, number.interval, marks=marks)
    return replace(cell, detail=f"{cell.detail}; N {number.n}".removeprefix("; "))


def _method_notes(result: Mapping[str, Any], rungs: Sequence[Mapping[str, Any]], timed: bool) -> tuple[str, ...]:
    size, seeds = result["size"], len(result["ladder"]["seeds"])
    over = "a bootstrap over videos" if seeds == 1 else f"Student's over {seeds} training seeds, of their mean"
    of_rungs = [rung["scores"]["seen"].get("distances", {}) for rung in rungs]
    known = {
        f"{each['extractor']}, SHA-256 {each['extractor_sha256']}"
        for distances in of_rungs
        for name, each in distances.items()
        if name in _DISTANCES
    }
    time = (
        f"Wall-clock time of {size['rounds']} rounds in turns after one of warm-up; a video takes {size['steps']} "
        "sampling steps."
    )
    return (
        "Distances are of N videos of each seed, of the seed with the fewest, to the rendered true clips of the same "
        f"prompts; their interval is {over}. Extractors: {'; '.join(sorted(known)) or 'none'}.",
        *([time] if timed else []),
    )


def _how(result: Mapping[str, Any]) -> Iterator[Block]:
    yield Heading("How these numbers were made")
    yield Code(result["command"])
    video, image, size = result["video_recipe"], result["image_recipe"], result["size"]
    seeds = ", ".join(str(each) for each in result["ladder"]["seeds"])
    budget = [
        ("image stage", result["image_stage"]),
        *([] if image is None else [("its training", f"{image['steps']:,} steps of {image['batch_size']} frames")]),
        ("training of each method", f"{video['steps']:,} steps of {video['batch_size']} clips, seeds {seeds}"),
        ("share of single images in training", str(video["image_share"])),
        *([("begins with", few)] if (few := _curriculum(video)) else []),
        ("videos of each study", f"{size['videos']}, single frames {size['images']}"),
        ("sampler", f"{result['sampler'] or 'of the model'}, {size['steps']} steps"),
    ]
    yield Facts("Budget", tuple(budget))
    machine = [(name, str(value)) for name, value in result["machine"].items() if value is not None]
    yield Facts("Machine and versions", tuple(machine))
    yield Paragraph(
        "Each run and its study one by one; single frames with the temporal module off, and longer videos, come from "
        "the command above alone."
    )
    for commands in result["commands"].values():
        for each in commands:
            yield Code(each)

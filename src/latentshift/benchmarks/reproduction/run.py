"""Trains, scores and times what the claims compare, once for all of them, and writes the results.

Everything lies in one folder: ``image-stage/``, a run with its study for each method and seed, ``ladder.json``,
``timing.json``, and of them ``reproduction.json``, ``reproduction.md``, ``plots/`` and ``pictures/``. The same call
again goes on where it stopped.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from latentshift.benchmarks.ladder import Ladder, parts_of, train_once
from latentshift.benchmarks.report import machine
from latentshift.benchmarks.reproduction.budget import Size, Training
from latentshift.benchmarks.reproduction.claims import IMAGE_STAGE, RUNGS, Claim, Costs, needed
from latentshift.benchmarks.reproduction.decide import decide
from latentshift.benchmarks.reproduction.pictures import PICTURES, draw_sheet
from latentshift.benchmarks.reproduction.timing import time_rungs
from latentshift.document.markdown import PLOTS
from latentshift.files import atomic_write_text, clear_leftovers

REPORT = "reproduction.json"


def reproduce(
    claims: Sequence[Claim],
    training: Training,
    folder: Path,
    size: Size,
    *,
    device: str,
    dtype: torch.dtype,
    sampler: str | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Test claims; returns what ``reproduction.json`` holds.

    Args:
        claims: to test.
        training: what is trained.
        folder: of all results.
        size: how much is measured.
        device: where videos are made.
        dtype: of videos.
        sampler: name as in ``generate``; None: the model's.
        command: that makes all this, for the report.

    Raises:
        ValueError: as :meth:`latentshift.benchmarks.ladder.Ladder.check`, and for settings that don't go together.
    """
    systems, parts = needed(tuple(claims))
    counts: dict[str, int] = {part: size.images if part.startswith("images") else size.videos for part in parts}
    rungs = [rung for rung in RUNGS if rung.name in systems]
    for written in (folder, folder / PICTURES, folder / PLOTS):
        clear_leftovers(written)
    _train_image_stage(training)
    ladder = Ladder(
        training.video, folder, counts, size.steps, device, dtype, rungs=rungs, seeds=size.seeds, sampler=sampler
    )
    ladder.results(timed_steps=0)
    facts = json.loads(ladder.report.read_text())
    with_costs, _ = needed(
        tuple(claim for claim in claims if any(isinstance(each, Costs) for each in claim.statements))
    )
    timed = [rung.recipe(training.video, folder, training.video.seed) for rung in rungs if rung.name in with_costs]
    seconds = (
        time_rungs(
            folder / "timing.json",
            timed,
            rounds=size.rounds,
            steps=size.steps,
            sampler=sampler,
            device=device,
            dtype=dtype,
        )
        if timed
        else {}
    )
    result = {
        "command": command,
        "machine": machine() | {"device": device, "dtype": str(dtype)},
        "size": asdict(size),
        "sampler": sampler,
        "image_stage": str(training.video.model),
        "image_recipe": None if training.image is None else training.image.model_dump(mode="json"),
        "video_recipe": training.video.model_dump(mode="json"),
        "commands": _commands(training, ladder, size),
        "seconds": seconds,
        "ladder": facts,
        "pictures": {str(claim.number): draw_sheet(claim, folder) for claim in claims},
        "claims": [asdict(decide(claim, facts, seconds)) for claim in claims],
    }
    atomic_write_text(folder / REPORT, json.dumps(result, indent=1) + "\n")
    return result


def _train_image_stage(training: Training) -> None:
    if training.image is not None:
        training.place_autoencoder()
        train_once(training.image)


def _commands(training: Training, ladder: Ladder, size: Size) -> dict[str, list[str]]:
    """By system: what trains each of its runs and makes the study of it, one by one."""
    commands: dict[str, list[str]] = {}
    if training.image is not None:
        commands[IMAGE_STAGE] = [shlex.join(["latentshift", "train", str(training.image.output / "recipe.yaml")])]
    for rung in ladder.rungs:
        for seed in ladder.seeds:
            run_folder = rung.recipe(training.video, ladder.folder, seed).output
            words = ["latentshift", "evaluate", "sprites", str(run_folder / "model"), "-o", str(run_folder / "study")]
            videos = parts_of(rung, ladder.counts)
            for part in ("seen", "held_out", "images", "shift_off"):
                words += [f"--{part.replace('_', '-')}", str(videos.get(part, 0))]
            words += ["--steps", str(size.steps), "--device", ladder.device]
            words += ["--dtype", str(ladder.dtype).removeprefix("torch.")]
            words += [] if ladder.sampler is None else ["--sampler", ladder.sampler]
            commands.setdefault(rung.name, []).extend(
                [shlex.join(["latentshift", "train", str(run_folder / "recipe.yaml")]), shlex.join(words)]
            )
    return commands

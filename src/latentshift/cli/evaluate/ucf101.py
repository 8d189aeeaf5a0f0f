"""``latentshift evaluate ucf101``: the paper's Table 2."""

from __future__ import annotations

from pathlib import Path

import typer

from latentshift.cli.data.common import MEMORY_LIMIT, SHORT, TIME_LIMIT, VARIANT, WORKERS
from latentshift.cli.engine import ACTORS, ENGINE
from latentshift.cli.evaluate.common import EXTRACTORS_HELP, SEED
from latentshift.cli.evaluate.prompted import check_and_choose
from latentshift.cli.evaluate.prompted_job import PromptedJob
from latentshift.cli.evaluate.prompted_options import (
    DELTA,
    KEEP,
    LORA,
    MODEL,
    OUTPUT_HELP,
    SAMPLER,
    SECONDS,
    SIDE,
    STEPS,
    SYSTEM,
    ModelOptions,
)
from latentshift.cli.evaluate.run_evaluation import run_evaluation
from latentshift.cli.resumable import ends_cleanly
from latentshift.cli.shared_options import DEVICE, DTYPE, GUIDANCE, RANK_TIMEOUT

_STANDARD = ("i3d", "c3d")


@ends_cleanly("what is measured")
def ucf101(
    source: Path = typer.Argument(..., help="UCF-101's folder, with a folder of .avi files for each class."),
    lists: Path | None = typer.Option(
        None, "--lists", help="Folder of the official lists. Default: ucfTrainTestlist in the folder or beside it."
    ),
    fold: int = typer.Option(1, "--fold", help="Which pair of lists: 1, 2 or 3."),
    sentences: Path | None = typer.Option(
        None, "--sentences", help="A YAML file of ClassName: sentence. Default: the package's sentence of each class."
    ),
    model: str = MODEL,
    variant: str | None = VARIANT,
    lora: list[str] | None = LORA,
    delta: Path | None = DELTA,
    system: str = SYSTEM,
    output: Path = typer.Option(Path("outputs/ucf101"), "--output", "-o", help=OUTPUT_HELP),
    videos: int = typer.Option(2048, "--videos", help="Videos of each repeat, classes drawn as often as in training."),
    repeats: int = typer.Option(
        10, "--repeats", help="Repeats with other draws; IS and FVD are means over them. Papers: 10 x 2048, 4 x 10000."
    ),
    seed: int = typer.Option(
        0, "--seed", min=0, help="Seed of the draws and of the first video; video k uses seed + k."
    ),
    frames: int | None = typer.Option(None, "--frames", help="Frames of a video. Default: the model's."),
    size: int | None = SIDE,
    steps: int | None = STEPS,
    guidance: float | None = GUIDANCE,
    sampler: str | None = SAMPLER,
    extractors: str = typer.Option("standard", "--extractors", help=EXTRACTORS_HELP),
    keep: str = KEEP,
    seconds: float = SECONDS,
    short: str = SHORT,
    decoders: int = WORKERS,
    time_limit: float = TIME_LIMIT,
    memory_limit: float = MEMORY_LIMIT,
    engine: str = ENGINE,
    actors: int = ACTORS,
    bootstrap_seed: int = SEED,
    device: str = DEVICE,
    dtype: str = DTYPE,
    rank_timeout: float = RANK_TIMEOUT,
) -> None:
    """Measure IS and FVD on UCF-101; the same command resumes an interrupted evaluation."""
    from latentshift.cli.data.common import limits_of
    from latentshift.evaluation.protocols.paper_prompts import ucf101_plan

    options = ModelOptions(
        model, variant, tuple(lora or ()), delta, system, frames, size, steps, guidance, sampler, device, dtype
    )
    limits = limits_of(decoders, time_limit, memory_limit)
    checked = check_and_choose(
        options, extractors, _STANDARD, output, keep, seconds, short, engine, actors, rank_timeout
    )
    plan = ucf101_plan(source, lists, fold, sentences, videos, repeats, seed)
    job = PromptedJob("ucf101", plan, options, output, *checked, limits, repeats)
    run_evaluation(job, engine=engine, actors=actors, seed=bootstrap_seed, rank_timeout=rank_timeout)

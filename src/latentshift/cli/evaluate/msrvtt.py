"""``latentshift evaluate msrvtt``: the paper's Table 1 and Table 5."""

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

_STANDARD = ("inception-2015", "clip")


@ends_cleanly("what is measured")
def msrvtt(
    source: Path = typer.Argument(..., help="MSR-VTT's annotations, a JSON with videos and sentences."),
    root: Path | None = typer.Option(None, "--root", help="Folder of the videos. Default: that of the annotations."),
    model: str = MODEL,
    variant: str | None = VARIANT,
    lora: list[str] | None = LORA,
    delta: Path | None = DELTA,
    system: str = SYSTEM,
    output: Path = typer.Option(Path("outputs/msrvtt"), "--output", "-o", help=OUTPUT_HELP),
    captions: str = typer.Option("all", "--captions", help="Captions of a test video: all, or one, drawn by the seed."),
    videos: int | None = typer.Option(
        None, "--videos", help="Make only so many, drawn from the prompts by the seed. Default: one for each prompt."
    ),
    seed: int = typer.Option(0, "--seed", min=0, help="Seed of the first prompt; prompt k uses seed + k."),
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
    """Measure FID and CLIPSIM on MSR-VTT's test split; the same command resumes an interrupted evaluation."""
    from latentshift.cli.data.common import limits_of, one_of
    from latentshift.evaluation.protocols.paper_prompts import CAPTIONS, msrvtt_plan

    options = ModelOptions(
        model, variant, tuple(lora or ()), delta, system, frames, size, steps, guidance, sampler, device, dtype
    )
    captions_word = one_of("--captions", captions, CAPTIONS)
    limits = limits_of(decoders, time_limit, memory_limit)
    checked = check_and_choose(
        options, extractors, _STANDARD, output, keep, seconds, short, engine, actors, rank_timeout
    )
    plan = msrvtt_plan(source, root, captions_word, videos, seed)
    job = PromptedJob("msrvtt", plan, options, output, *checked, limits)
    run_evaluation(job, engine=engine, actors=actors, seed=bootstrap_seed, rank_timeout=rank_timeout)

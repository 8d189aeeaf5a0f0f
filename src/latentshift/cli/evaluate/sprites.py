"""``latentshift evaluate sprites``: evaluate a model on the sprites data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from latentshift.cli import fewer_operations_option
from latentshift.cli.engine import ACTORS, ENGINE, check_engine
from latentshift.cli.evaluate.common import MAX_PATH, measure_on, metric_line, print_made_with, print_notes, workers
from latentshift.cli.evaluate.sprites_job import SpritesJob
from latentshift.cli.own_command import own_command
from latentshift.cli.resumable import ends_cleanly
from latentshift.cli.shared_options import DEVICE, DTYPE, GUIDANCE, RANK_TIMEOUT
from latentshift.files import check_writable
from latentshift.models.storage.model_paths import BUNDLED
from latentshift.settings import STEPS
from latentshift.user_input.error_text import printable

# Videos of each part.
_FULL = {"seen": 512, "held_out": 512, "images": 512, "shift_off": 128}
_QUICK = {"seen": 24, "held_out": 12, "images": 16, "shift_off": 4}
_QUICK_STEPS = 25
MOST_VIDEOS = 100_000  # of a part: from there on the seeds are the next part's


def _defaults(name: str) -> str:
    return f"Default: {_FULL[name]}, with --quick {_QUICK[name]}."


@ends_cleanly("what is measured")
def sprites(
    model: str = typer.Argument(BUNDLED, help="The bundled model, or the folder of a model trained on sprites."),
    variant: str | None = typer.Option(
        None, "--variant", help="Variant of the weight files, e.g. fp16 for model.fp16.safetensors. Default: none."
    ),
    output: Path | None = typer.Option(
        None,
        "--output",
        "-o",
        help="Folder for report.html, report.json, readings, clips and pictures. Default: outputs/study, with --quick "
        "outputs/study-quick.",
    ),
    quick: bool = typer.Option(
        False, "--quick", help="A look in minutes: fewer videos and steps, unless they are given too."
    ),
    seen: int | None = typer.Option(
        None,
        "--seen",
        help=f"Number of videos of (colour, thing, motion) triples in the training set. {_defaults('seen')}",
    ),
    held_out: int | None = typer.Option(
        None, "--held-out", help=f"Number of videos of held-out triples. {_defaults('held_out')}"
    ),
    images: int | None = typer.Option(None, "--images", help=f"Number of single-frame images. {_defaults('images')}"),
    shift_off: int | None = typer.Option(
        None,
        "--shift-off",
        help=f"Number of videos with the temporal shift switched off. {_defaults('shift_off')}",
    ),
    steps: int | None = typer.Option(
        None,
        "--steps",
        help=f"Sampling steps. Default: the model's, with --sampler {STEPS}, with --quick {_QUICK_STEPS}.",
    ),
    guidance: float | None = GUIDANCE,
    sampler: str | None = typer.Option(None, "--sampler", help="As in generate. Default: the model's."),
    guidance_interval: str | None = fewer_operations_option.INTERVAL,
    deep_cache: int | None = fewer_operations_option.DEEP_CACHE,
    deep_cache_branch: int = fewer_operations_option.BRANCH,
    keep: str = typer.Option(
        "all",
        "--keep",
        help="Which videos stay as files in clips/ when a part is scored: all, examples (those that the page shows), "
        "none.",
    ),
    engine: str = ENGINE,
    actors: int = ACTORS,
    device: str = DEVICE,
    dtype: str = DTYPE,
    rank_timeout: float = RANK_TIMEOUT,
) -> None:
    """Generate sprites and score them against the prompts; the same command resumes an interrupted evaluation."""
    from latentshift.cli.data.common import one_of
    from latentshift.cli.preflight import check_generation
    from latentshift.evaluation.protocols.systems import KEEP

    given = {"seen": seen, "held_out": held_out, "images": images, "shift_off": shift_off}
    counts = {
        name: default if (value := given[name]) is None else value
        for name, default in (_QUICK if quick else _FULL).items()
    }
    if quick and steps is None:
        steps = _QUICK_STEPS
    fewer = fewer_operations_option.read_fewer_operations(guidance_interval, deep_cache, deep_cache_branch)
    output = output or Path("outputs/study-quick" if quick else "outputs/study")
    for name, count in counts.items():
        if not 0 <= count <= MOST_VIDEOS:
            raise ValueError(f"--{name.replace('_', '-')} must be from 0 to {MOST_VIDEOS:,}, not {count:,}")
    if not any(counts.values()):
        raise ValueError("there is nothing to evaluate: --seen, --held-out, --images and --shift-off are all 0")
    keep_word = one_of("--keep", keep, KEEP)
    check_engine(engine, actors, device, rank_timeout)
    check_generation(model, device, dtype, sampler, steps, guidance, variant=variant)
    check_writable(output / "report.json")
    job = SpritesJob(model, variant, output, counts, steps, guidance, sampler, fewer, keep_word, dtype)
    if engine == "ray":
        _announce(job)
        _print_scores(_on_ray(job, device, actors))
        _print_result(output)
        return
    with workers(device, rank_timeout) as (worker, own_device):
        if worker.is_first:
            _announce(job)
        _print_scores(job.run(worker, own_device))
        if worker.is_first:
            _print_result(output)


def _announce(job: SpritesJob) -> None:
    parts = ", ".join(f"{name} {count:,}" for name, count in job.counts.items())
    print(
        f"{sum(job.counts.values()):,} videos to make ({parts}), less those in {printable(job.output, MAX_PATH)} "
        "already; each part's scores follow when it is done, and the same command resumes",
        flush=True,
    )


def _on_ray(job: SpritesJob, device: str, actors: int) -> Iterator[tuple[str, dict[str, Any]]]:
    from latentshift.cli.ray_cluster import connect

    with connect(device, actors) as cluster:
        dtype = cluster.dtype_name(job.dtype)
        job = replace(job, dtype=dtype, command=own_command(dtype))
        yield from measure_on(cluster, job.scores, job.count_done, sum(job.counts.values()))


def _print_scores(scores: Iterable[tuple[str, dict[str, Any]]]) -> None:
    for part, each in scores:
        for line in _lines(part, each):
            print(line, flush=True)


def _print_result(output: Path) -> None:
    from latentshift.evaluation.report.pages import write_result_pages
    from latentshift.evaluation.report.schema import read_report

    report = read_report(output)
    print_made_with(report)
    print_notes(report.notes)
    print(printable(write_result_pages(output), MAX_PATH))


def _lines(name: str, scores: dict[str, Any]) -> Iterator[str]:
    """A part's scores, the same of true clips, those of each motion, and distances to true clips."""
    from latentshift.evaluation.report.schema import Metric

    yield f"{name} ({scores['n']}): {_text(scores)}"
    of_reader = scores["reader_on_true_clips"]
    yield f"  reader on true clips ({of_reader['n']}): {_text(of_reader)}"
    for kind, of_true in scores["true_clips"].items():
        yield f"  true clips {kind.replace('_', ' ')} ({of_true['n']}): {_text(of_true)}"
    for motion, of_motion in scores.get("motions", {}).items():
        yield f"  {motion} ({of_motion['n']}): {_text(of_motion)}"
    for each in scores["distances"]:
        yield "\n".join(f"  {line}" for line in metric_line(Metric.model_validate(each)).splitlines())


def _text(scores: dict[str, Any]) -> str:
    """Shares in %, and the means of what was measured, in levels, with the number of clips that show no one thing."""
    from latentshift.evaluation.estimates import Mean, wilson_interval
    from latentshift.evaluation.metrics.jackknife import not_below
    from latentshift.evaluation.report.sprites.words import SHARES, STEADINESS

    shares = []
    for key, name in SHARES.items():
        if (share := scores[key]) is not None:
            low, high = wilson_interval(round(share * scores["n"]), scores["n"])
            shares.append(f"{name} {100 * share:.1f} [{100 * low:.1f}, {100 * high:.1f}]")
    text = "  ".join(shares) + " %"
    for key, name in STEADINESS.items():
        if key in scores:
            mean = Mean(**scores[key])
            shown = "none" if mean.mean is None else f"{mean.mean:.1f}"
            bounds = not_below(0.0, mean.interval)
            shown += "" if bounds is None else f" [{bounds[0]:.1f}, {bounds[1]:.1f}]"
            missing = f" (nothing to measure in {mean.missing})" if mean.missing else ""
            text += f"  {name} {shown}{missing}"
    return text

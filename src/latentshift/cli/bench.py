"""``latentshift bench``: speed and memory on this machine, most of it beside a peer in the same run.

Every command makes rows, which one function prints and writes (:mod:`latentshift.benchmarks.report`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from latentshift.benchmarks.generation_settings import RUNTIMES, VIDEO_MODELS, parse_runtimes
from latentshift.cli import bench_controlnet, comparison
from latentshift.cli import bench_known_frames as known_frames
from latentshift.cli.bench_report import report_rows
from latentshift.cli.own_command import own_command
from latentshift.cli.preflight import check_device_name, check_dtype_name
from latentshift.error_text import printable
from latentshift.files import check_writable
from latentshift.model_paths import BUNDLED

if TYPE_CHECKING:
    from latentshift.benchmarks.generation_settings import GenerationSettings
    from latentshift.benchmarks.rungs import Rung

bench = typer.Typer(help="Measure speed and memory on this machine, beside a peer.", no_args_is_help=True)

_JSON = typer.Option(None, "--json", help="Also write the rows as JSON.")
_QUICK = typer.Option(False, "--quick", help="As little as shows that it works: the figures mean less.")
_RECIPE = typer.Argument(..., help="The recipe, a YAML file; see recipes/.")
_OVERRIDES = typer.Argument(None, help="Settings to change, as key=value.")


@bench.command("train")
def train(quick: bool = _QUICK, json_file: Path | None = _JSON) -> None:
    """Optimizer steps a second of the sprites video stage on the CPU, beside the loop that one would write first."""

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.train import bench_train

        return bench_train(quick)

    report_rows("train", rows, json_file)


@bench.command("generate")
def generate(
    base: str = typer.Argument(BUNDLED, help=comparison.BASE_HELP),
    models: str | None = comparison.MODELS,
    frames: int | None = comparison.FRAMES,
    steps: int = comparison.STEPS,
    guidance: float | None = comparison.GUIDANCE,
    rounds: int = comparison.ROUNDS,
    whole: bool | None = comparison.WHOLE,
    device: str = comparison.DEVICE,
    dtype: str = comparison.DTYPE,
    runtimes: str | None = typer.Option(
        None,
        "--runtimes",
        help=f"Runtimes that Latent-Shift is also exported for and timed in, on the CPU: {', '.join(RUNTIMES)}, with "
        "commas, or none. Default: those that are installed; with --quick none.",
    ),
    quick: bool = comparison.QUICK,
    json_file: Path | None = _JSON,
    report_folder: Path | None = typer.Option(
        None, "--report", help="Also write report.md, report.html, tables and SVG plots into this folder."
    ),
) -> None:
    """A U-Net pass and a video: 2-D, naive shift, Latent-Shift and its exports, Latent-VDM, AnimateDiff, ModelScope.

    Each in processes of its own, in turns: parameters, operations, first and later times with their spread, share of
    the device's peak, time by kind of operator, and peak memory; and cold and warm start of a saved model.
    """
    settings = comparison.check_settings(
        base,
        models,
        tuple(VIDEO_MODELS),
        frames=frames,
        steps=steps,
        guidance=guidance,
        rounds=rounds,
        whole=whole,
        device=device,
        dtype=dtype,
        quick=quick,
    )

    asked = None if runtimes is None else parse_runtimes(runtimes)
    if report_folder is not None:
        _check_report_folder(report_folder)
    complete: list[GenerationSettings] = []

    def rows() -> Iterable[dict[str, Any]]:
        from dataclasses import replace

        from latentshift.benchmarks.exported_models import with_runtimes
        from latentshift.benchmarks.generate import bench_generate

        complete.append(with_runtimes(replace(settings(), profile=True), asked, quick=quick))
        return bench_generate(complete[0])

    kept = report_rows("generate", rows, json_file)
    if report_folder is not None:
        from latentshift.benchmarks.generation_page import write_generation_pages

        command = own_command(complete[0].dtype)
        typer.echo(printable(write_generation_pages(report_folder, complete[0], kept, command), 4096))


@bench.command("speed")
def speed(
    model: str = typer.Argument(BUNDLED, help="The bundled model, a folder, or a hub id."),
    quick: bool = _QUICK,
    json_file: Path | None = _JSON,
) -> None:
    """A step and decoding on the CPU with and without what makes them faster, in turns, in processor time."""
    from latentshift.cli.preflight import check_model_files

    check_model_files(model, None)

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.speed import bench_speed

        return bench_speed(model, quick)

    report_rows("speed", rows, json_file)


@bench.command("step")
def step(quick: bool = _QUICK, json_file: Path | None = _JSON) -> None:
    """A forward and backward pass of the bundled model on the CPU: stock attention, text shared, compiled."""

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.training_step import bench_training_step

        return bench_training_step(quick)

    report_rows("step", rows, json_file)


@bench.command("signal")
def signal(quick: bool = _QUICK, json_file: Path | None = _JSON) -> None:
    """How much of a clip's motion shows through the noisiest timestep, by the latents' standard deviation."""

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.terminal_signal import bench_terminal_signal

        return bench_terminal_signal(quick)

    report_rows("signal", rows, json_file)


@bench.command("data")
def data(quick: bool = _QUICK, json_file: Path | None = _JSON) -> None:
    """Clips a second of one core: H.264 beside a bare decode, encoded clips beside a bare read; and memory."""

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.data import bench_data

        return bench_data(quick)

    report_rows("data", rows, json_file)


_LENGTHS, _QUICK_LENGTHS = "16,64,256,1024", "2,6"


@bench.command("length")
def length(
    model: str = typer.Argument(BUNDLED, help="The bundled model, a folder, or a hub id."),
    frames: str | None = typer.Option(
        None, "--frames", help=f"Numbers of frames, with commas. Default: {_LENGTHS}; with --quick {_QUICK_LENGTHS}."
    ),
    frame_chunk: int | None = typer.Option(
        None, "--frame-chunk", help="Frames in one call of the U-Net. Default: 16; with --quick 2."
    ),
    at_once: int = typer.Option(64, "--at-once", help="Videos of up to this many frames are also made at once."),
    paddings: str = typer.Option("zeros,circular", "--paddings", help="Some of zeros, replicate, circular."),
    steps: int = typer.Option(2, "--steps", min=1, help="Steps that are timed of each video, after a first one."),
    rounds: int = comparison.ROUNDS,
    device: str = comparison.DEVICE,
    dtype: str = comparison.DTYPE,
    quick: bool = _QUICK,
    json_file: Path | None = _JSON,
) -> None:
    """Time and memory of videos of more and more frames, through the U-Net at once and in chunks.

    Each video in a process of its own, from text to file, in turns; beside them the memory that is expected of a pass,
    and the difference to the video made at once.
    """
    from latentshift.benchmarks.length_settings import LengthSettings, check_length, parse_lengths, parse_paddings

    lengths = parse_lengths(frames or (_QUICK_LENGTHS if quick else _LENGTHS))
    chunk = (2 if quick else 16) if frame_chunk is None else frame_chunk
    check_length(model, lengths, chunk, rounds)
    padded = parse_paddings(paddings)
    check_device_name(device)
    check_dtype_name(dtype)

    def rows() -> Iterable[dict[str, Any]]:
        import torch

        from latentshift.benchmarks.length import bench_length
        from latentshift.cli.models import load_dtype, pick_device

        picked = pick_device(device)
        settings = LengthSettings(
            model=model,
            frames=lengths,
            chunk=chunk,
            at_once=at_once,
            paddings=padded,
            steps=1 if quick else steps,
            rounds=1 if quick else rounds,
            device=picked,
            dtype=str(load_dtype(dtype, picked)).removeprefix("torch."),
            threads=torch.get_num_threads(),
        )
        return bench_length(settings)

    report_rows("length", rows, json_file)


@bench.command("startup")
def startup(quick: bool = _QUICK, json_file: Path | None = _JSON) -> None:
    """Processor time until help, a refused mistake or an import is there, beside an empty Python and import torch."""

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.startup import bench_startup

        return bench_startup(quick)

    report_rows("startup", rows, json_file)


@bench.command("memory")
def memory(
    recipe: Path = _RECIPE,
    overrides: list[str] | None = _OVERRIDES,
    quick: bool = _QUICK,
    json_file: Path | None = _JSON,
) -> None:
    """Peak memory of a recipe's first steps and of a sample, on one process, beside what train --dry-run expects."""
    from latentshift.cli.preflight import check_recipe
    from latentshift.training.recipe_file import load_recipe

    settings = load_recipe(recipe, overrides or [])
    check_recipe(settings, data=True)

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.memory import bench_memory
        from latentshift.cli.models import pick_device

        pick_device(settings.compute.device)
        return bench_memory(settings, quick)

    report_rows("memory", rows, json_file)


bench.command("keyframes")(known_frames.keyframes)
bench.command("extension")(known_frames.extension)
bench.command("controlnet")(bench_controlnet.controlnet)


_LADDER_RECIPE = typer.Argument(..., help="A recipe of stage (c), whose model is an image stage's run.")
_LADDER_OUTPUT = typer.Option(Path("outputs/ladder"), "--output", "-o", help="Folder for the runs and the studies.")
_SEEN = typer.Option(128, "--seen", min=1, help="Videos of (colour, thing, motion) triples, of each run.")
_STEPS = typer.Option(100, "--steps", help="Steps of the sampler.")
_DTYPE = "Of the videos: auto, float32, bfloat16 or float16."


@bench.command("ladder")
def ladder(
    recipe: Path = _LADDER_RECIPE,
    overrides: list[str] | None = _OVERRIDES,
    output: Path = _LADDER_OUTPUT,
    rungs: str | None = typer.Option(
        None,
        "--rungs",
        help="Some of zeros-independent (the paper's), replicate-independent, zeros-shared-1, replicate-shared-1, "
        "zeros-shared-2, replicate-shared-2, latent-vdm and none (default: these), or, each with one setting other "
        "than the paper's, shift-circular, shift-fold-2, shift-fold-4, shift-fold-8, shift-conv2, shift-block, "
        "shift-encoder, shift-decoder and shift-past-only, with commas.",
    ),
    seeds: int = typer.Option(1, "--seeds", min=1, help="Training seeds of each rung."),
    seen: int = _SEEN,
    images: int = typer.Option(64, "--images", min=0, help="One-frame images, of each run and of the image stage."),
    steps: int = _STEPS,
    sampler: str | None = typer.Option(None, "--sampler", help="As in generate. Default: the model's."),
    dtype: str = typer.Option("auto", "--dtype", help=_DTYPE),
    quick: bool = _QUICK,
    json_file: Path | None = _JSON,
) -> None:
    """Temporal methods, paddings and shared noise, trained from one image model at equal budget, and scored."""
    from latentshift.benchmarks.rungs import RUNGS, check_overrides, parse_rungs

    chosen = tuple(RUNGS.values()) if rungs is None else parse_rungs(rungs)
    check_overrides(overrides or [])
    counts = {"seen": seen, "images": images}
    _ladder(recipe, overrides, output, chosen, seeds, counts, steps, sampler, dtype, quick, json_file)


@bench.command("methods", hidden=True)  # the name of before
def methods(
    recipe: Path = _LADDER_RECIPE,
    overrides: list[str] | None = _OVERRIDES,
    output: Path = _LADDER_OUTPUT,
    seen: int = _SEEN,
    images: int = typer.Option(0, "--images", min=0, help="One-frame images, of each method."),
    steps: int = _STEPS,
    dtype: str = typer.Option("bfloat16", "--dtype", help=_DTYPE),
    quick: bool = _QUICK,
    json_file: Path | None = _JSON,
) -> None:
    """The old name of bench ladder: the three methods with the recipe's own settings."""
    from latentshift.benchmarks.rungs import METHOD_RUNGS

    typer.echo(
        "warning: bench methods is called bench ladder now, which compares settings too; the old name goes in the next "
        "release",
        err=True,
    )
    counts = {"seen": seen, "images": images}
    _ladder(recipe, overrides, output, METHOD_RUNGS, 1, counts, steps, None, dtype, quick, json_file)


def _ladder(
    recipe: Path,
    overrides: list[str] | None,
    output: Path,
    rungs: Sequence[Rung],
    seeds: int,
    counts: dict[str, int],
    steps: int,
    sampler: str | None,
    dtype: str,
    quick: bool,
    json_file: Path | None,
) -> None:
    from latentshift.benchmarks.rungs import check_ladder_recipe
    from latentshift.cli.preflight import check_generation, check_recipe
    from latentshift.training.recipe import VideoRecipe
    from latentshift.training.recipe_file import load_recipe

    settings = load_recipe(recipe, overrides or [])
    if not isinstance(settings, VideoRecipe):
        raise ValueError(f"{recipe} is of stage {settings.stage}, and bench ladder trains stage video")
    check_recipe(settings, data=True)
    check_ladder_recipe(settings)
    check_generation(settings.model, settings.compute.device, dtype, sampler, steps, None, variant=settings.variant)

    def rows() -> Iterable[dict[str, Any]]:
        from latentshift.benchmarks.ladder import bench_ladder
        from latentshift.cli.models import load_dtype, pick_device

        device = pick_device(settings.compute.device)
        return bench_ladder(
            settings,
            output,
            counts,
            steps,
            device,
            load_dtype(dtype, device),
            quick,
            rungs=rungs,
            seeds=seeds,
            sampler=sampler,
        )

    report_rows("ladder", rows, json_file)


def _check_report_folder(folder: Path) -> None:
    from latentshift.evaluation.report.schema import FILE_NAME

    check_writable(folder / "report.html")
    if (folder / FILE_NAME).exists():
        raise ValueError(f"{folder} holds a result of evaluate, whose pages would be overwritten: name another folder")

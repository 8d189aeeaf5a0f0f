"""``latentshift bench``: how fast it is here, beside a peer in the same run, and what memory it takes."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from latentshift.files import atomic_write_text, check_writable

bench = typer.Typer(help="Measure speed and memory on this machine, beside a peer.", no_args_is_help=True)


_JSON = typer.Option(None, "--json", help="Also write the figures as JSON.")


@bench.command("train")
def train(json_file: Path | None = _JSON) -> None:
    """Optimizer steps a second of the sprites video stage on the CPU, beside the loop that one would write first."""
    from latentshift.benchmarks.training import bench_training
    from latentshift.cli.models import quiet_libraries

    _check(json_file)
    quiet_libraries()
    measured = bench_training()
    print(f"{'':36} {'steps/s':>9} {'plain':>9} {'ratio':>6}")
    print(f"{measured.what:36} {measured.rate:9.2f} {measured.peer:9.2f} {measured.ratio:6.2f}")
    _keep(json_file, {**asdict(measured), "ratio": measured.ratio})


@bench.command("memory")
def memory(
    recipe: Path = typer.Argument(..., help="The recipe, a YAML file; see recipes/."),
    overrides: list[str] | None = typer.Argument(None, help="Settings to change, as key=value."),
    json_file: Path | None = _JSON,
) -> None:
    """Peak memory of a recipe's first steps and of a sample, on one process, beside what train --dry-run expects."""
    from latentshift.cli.models import pick_device, quiet_libraries
    from latentshift.training.recipe import load_recipe

    settled = load_recipe(recipe, overrides or [])
    _check(json_file)
    quiet_libraries()
    pick_device(settled.compute.device)
    from latentshift.benchmarks.memory import measure_memory

    with tempfile.TemporaryDirectory() as scratch:
        measured = measure_memory(settled, Path(scratch))
    from latentshift.memory.estimate import SAMPLES

    for moment, parts in measured.estimated.moments.items():
        print(f"estimated {moment}")
        for name, size in parts.items():
            print(f"  {name:24} {size / 2**30:9.2f} GiB")
    samples = measured.estimated.held(SAMPLES)
    print(f"{'':26} {'estimated':>9} {'measured':>9} {'ratio':>6}")
    compared = {"steps": (measured.steps_estimated, measured.steps), "samples": (samples, measured.samples)}
    for name, (expected, found) in compared.items():
        print(f"{name:26} {expected / 2**30:9.2f} {found / 2**30:9.2f} {expected / found:6.2f}")
    print(f"losses: {', '.join(f'{loss:.4f}' for loss in measured.losses)}")
    facts = {name: {"estimated": expected, "measured": found} for name, (expected, found) in compared.items()}
    _keep(json_file, {**facts, "moments": measured.estimated.moments, "losses": measured.losses})


@bench.command("data")
def data(json_file: Path | None = _JSON) -> None:
    """Clips a second of one core: H.264 beside a bare decode, encoded clips beside a bare read; and memory."""
    from latentshift.benchmarks.data import bench_encoded, bench_footage, memory_over

    _check(json_file)
    lines: list[dict[str, Any]] = []
    print(f"{'':34} {'clips/s':>9} {'bare':>9} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for measured in (each for part in (bench_footage(folder), iter([bench_encoded(folder)])) for each in part):
            print(f"{measured.what:34} {measured.rate:9.1f} {measured.peer:9.1f} {measured.ratio:6.2f}", flush=True)
            lines.append({**asdict(measured), "ratio": measured.ratio})
        early, late = memory_over(folder)
    print(f"memory after 10,000 and 100,000 samples out of 200 shards: {early:.0f} and {late:.0f} MiB")
    _keep(json_file, {"measured": lines, "memory_mib": {"after_10000": early, "after_100000": late}})


@bench.command("ladder")
def ladder(
    recipe: Path = typer.Argument(..., help="A recipe of stage (c), whose model is an image stage's run."),
    overrides: list[str] | None = typer.Argument(None, help="Settings to change, as key=value."),
    output: Path = typer.Option(Path("outputs/ladder"), "--output", "-o", help="Folder for the runs and the studies."),
    seen: int = typer.Option(128, "--seen", min=1, help="Videos of (colour, thing, motion) triples, of each method."),
    images: int = typer.Option(0, "--images", min=0, help="One-frame images, of each method."),
    steps: int = typer.Option(100, "--steps", help="Steps of the sampler."),
    dtype: str = typer.Option("bfloat16", "--dtype", help="Of the videos: float32, bfloat16 or float16."),
) -> None:
    """Latent-Shift, Latent-VDM and no temporal module, trained from one image model by one recipe, and read."""
    from latentshift.cli.models import load_dtype, pick_device, quiet_libraries
    from latentshift.training.recipe import VideoRecipe, load_recipe

    settled = load_recipe(recipe, overrides or [])
    if not isinstance(settled, VideoRecipe):
        raise ValueError(f"{recipe} is of stage {settled.stage}, and the ladder trains stage video")
    quiet_libraries()
    device = pick_device(settled.compute.device)
    from latentshift.benchmarks.compare_methods import Ladder, table

    counts = {"seen": seen, "images": images}
    rungs = Ladder(settled, output, counts, steps, device, load_dtype(dtype, device)).rungs()
    for part in rungs[0].scores:
        print(f"{part}: {counts[part]} a method\n\n{table(rungs, part)}\n")
    print(output / "ladder.json")


def _check(json_file: Path | None) -> None:
    if json_file is not None:
        check_writable(json_file)


def _keep(json_file: Path | None, facts: dict[str, Any]) -> None:
    if json_file is not None:
        atomic_write_text(json_file, json.dumps(facts, indent=1) + "\n")
        print(json_file)

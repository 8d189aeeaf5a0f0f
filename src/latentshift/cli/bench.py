"""``latentshift bench``: how fast it is here, beside a peer in the same run."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

bench = typer.Typer(help="Measure speed on this machine, beside a peer in the same run.", no_args_is_help=True)


@bench.command("train")
def train(
    json_file: Path | None = typer.Option(None, "--json", help="Also write the figures as JSON."),
) -> None:
    """Optimizer steps a second of the sprites video stage on the CPU, beside the loop that one would write first."""
    from latentshift.benchmarks.training import bench_training
    from latentshift.cli.models import quiet_libraries
    from latentshift.whole import check_place, write_whole

    if json_file is not None:
        check_place(json_file)
    quiet_libraries()
    measured = bench_training()
    print(f"{'':36} {'steps/s':>9} {'plain':>9} {'ratio':>6}")
    print(f"{measured.what:36} {measured.rate:9.2f} {measured.peer:9.2f} {measured.ratio:6.2f}")
    if json_file is not None:
        write_whole(json_file, json.dumps({**asdict(measured), "ratio": measured.ratio}, indent=1) + "\n")
        print(json_file)


@bench.command("data")
def data(
    json_file: Path | None = typer.Option(None, "--json", help="Also write the figures as JSON."),
) -> None:
    """Clips a second of one core: H.264 beside a bare decode, encoded clips beside a bare read; and memory."""
    from latentshift.benchmarks.data import bench_encoded, bench_footage, memory_over
    from latentshift.whole import check_place, write_whole

    if json_file is not None:
        check_place(json_file)
    lines: list[dict[str, Any]] = []
    print(f"{'':34} {'clips/s':>9} {'bare':>9} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for measured in (each for part in (bench_footage(folder), iter([bench_encoded(folder)])) for each in part):
            print(f"{measured.what:34} {measured.rate:9.1f} {measured.peer:9.1f} {measured.ratio:6.2f}", flush=True)
            lines.append({**asdict(measured), "ratio": measured.ratio})
        early, late = memory_over(folder)
    print(f"memory after 10,000 and 100,000 samples out of 200 shards: {early:.0f} and {late:.0f} MiB")
    if json_file is not None:
        facts = {"measured": lines, "memory_mib": {"after_10000": early, "after_100000": late}}
        write_whole(json_file, json.dumps(facts, indent=1) + "\n")
        print(json_file)

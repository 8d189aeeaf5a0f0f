"""Shared by the protocols of ``latentshift evaluate``: extractors, processes, and what is printed and written."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from latentshift.cli.rank_barrier import RANK_TIMEOUT, RankBarrier, meet
from latentshift.document.numbers import format_count
from latentshift.evaluation.protocols.choice import WORDS
from latentshift.process_group import check_timeout
from latentshift.progress import progress_bar, status
from latentshift.user_input.error_text import printable

if TYPE_CHECKING:
    from latentshift.cli.ray_cluster import Cluster, Member
    from latentshift.evaluation.extractors.extractor import Extractor
    from latentshift.evaluation.protocols.run import Worker
    from latentshift.evaluation.report.schema import Metric, Report

T = TypeVar("T")
EXTRACTORS_HELP = f"Networks whose features are compared: {WORDS}."
SEED = typer.Option(0, "--bootstrap-seed", min=0, help="Seed of the intervals' resamples.")

MAX_PATH = 4096
_MAX_SHOWN = 5
_MADE_WITH = ("system", "sampler", "steps", "guidance", "seeds", "dtype", "repeats")  # of a report's settings


@contextmanager
def workers(device: str, rank_timeout: float) -> Iterator[tuple[Worker, str]]:
    """This process among those of ``torchrun`` or ``accelerate launch``, and the device that it should use.

    ``auto`` is the process' own GPU by CUDA, else the CPU.

    Args:
        device: name of it.
        rank_timeout: seconds that processes wait for one that finishes nothing.

    Raises:
        ValueError: for a device that can't be used.
        RankError: if another process does not come; at a barrier, if one hangs or has ended.
    """
    timeout = check_timeout(rank_timeout, RANK_TIMEOUT)
    with status("loading libraries", shown=os.environ.get("RANK", "0") == "0"):
        from latentshift.cli.models import pick_device
        from latentshift.evaluation.protocols.run import Worker

    state = meet(device, timeout)
    # Of accelerate's choice only CUDA's index is taken: on its own it would take MPS or another accelerator first.
    own = str(state.device) if device == "auto" and state.device.type == "cuda" else pick_device(device)
    barrier = RankBarrier(state, timeout)
    yield Worker(state.process_index, state.num_processes, barrier.wait, barrier.items), own


def measure_on(cluster: Cluster, work: Callable[[Worker, str], T], count_done: Callable[[], int], total: int) -> T:
    """Call a function in each actor of a cluster, with a progress bar; returns what the first actor's call does.

    Args:
        cluster: that is connected.
        work: called with the worker that the actor is, and its device.
        count_done: videos that are done, of all workers.
        total: videos.

    Raises:
        ValueError: if an actor is lost, or as an actor raises it.
    """
    with progress_bar(total=total, initial=min(count_done(), total), text="videos", unit="video") as bar:
        return cluster.run(partial(_as_worker, work), lambda _: bar.update(min(count_done(), total) - bar.n))


def _as_worker(work: Callable[[Worker, str], T], member: Member, device: str) -> T:
    from latentshift.evaluation.protocols.run import Worker

    return work(Worker(member.number, member.count, member.wait), device)


def open_extractors(keys: Sequence[str], device: str, *, shown: bool = True) -> dict[str, Extractor]:
    """The chosen extractors by key, opened on a device."""
    from latentshift.cli.models import quiet_libraries
    from latentshift.evaluation.protocols.choice import parse_key

    opened = {}
    for key in keys:
        with status(f"loading {key}", shown=shown):
            quiet_libraries()
            from latentshift.evaluation.extractors.load import load_extractor

            name, output = parse_key(key)
            opened[key] = load_extractor(name, device, output)
    return opened


def print_notes(notes: Sequence[str]) -> None:
    """Sentences on standard error."""
    for each in notes:
        print(f"note: {printable(each, 1000)}", file=sys.stderr)


def print_report(report: Report, folder: Path, said: Sequence[str] = ()) -> None:
    """A line a metric and what was rejected; writes the pages, and prints where they are.

    Args:
        report: of a result.
        folder: of the result.
        said: notes that were printed before.
    """
    from latentshift.evaluation.report.pages import write_result_pages

    for each in report.metrics:
        print(metric_line(each))
    print_made_with(report)
    print_notes([each for each in report.notes if each not in said])
    for rejected in report.rejected[:_MAX_SHOWN]:
        print(f"rejected {printable(rejected.file)}: {printable(rejected.reason)}")
    if len(report.rejected) > _MAX_SHOWN:
        print(f"… and {len(report.rejected) - _MAX_SHOWN:,} more, all in report.json")
    print(printable(write_result_pages(folder), MAX_PATH))


def print_made_with(report: Report) -> None:
    """What made the videos: the sampler and the like, as far as the report knows it."""
    if made := ", ".join(f"{name} {_said(report.settings[name])}" for name in _MADE_WITH if name in report.settings):
        print(f"made with {printable(made, 1000)}")


def _said(value: object) -> str:
    return "; ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, dict) else str(value)


def metric_line(metric: Metric) -> str:
    """A metric as printed: value, interval, and what it rests on, then its warnings."""
    unit = f" {metric.unit}" if metric.unit else ""
    interval = f" [{metric.interval[0]:.4g}, {metric.interval[1]:.4g}]" if metric.interval else ""
    facts = [f"n {format_count(metric.n, metric.repeats)}"]
    if metric.n_reference is not None:
        facts.append(f"reference {metric.n_reference:,}")
    facts += [f"{metric.frames} frames"] if metric.frames else []
    facts += [each for each in (metric.size, metric.resize) if each]
    if metric.extractor is not None:
        facts.append(f"{metric.extractor} {(metric.extractor_sha256 or '')[:8]}")
    line = f"{metric.name} {metric.value:.4f}{unit}{interval}  ({', '.join(facts)})"
    return "\n".join([line, *(f"  warning: {each}" for each in metric.warnings)])

"""``latentshift data split``: split long videos at scene changes, without re-encoding."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import typer

from latentshift.cli.data.common import (
    MAX_PATH_LENGTH,
    MAX_SHOWN,
    MEMORY_LIMIT,
    OPTIONS,
    SOURCE,
    WORKERS,
    limits_of,
    print_refused,
    source_of,
)
from latentshift.progress import progress_bar, status
from latentshift.user_input.error_text import printable


def split(
    source: str = SOURCE,
    options: list[str] | None = OPTIONS,
    output: Path = typer.Option(..., "--output", "-o", help="The manifest to write, a .jsonl file."),
    shortest: float = typer.Option(2.0, "--shortest", help="Seconds; shorter scenes are rejected."),
    longest: float = typer.Option(10.0, "--longest", help="Seconds; longer scenes become several rows."),
    threshold: float = typer.Option(
        27.0, "--threshold", help="Threshold of PySceneDetect's content detector; lower finds more cuts."
    ),
    workers: int = WORKERS,
    time_limit: float = typer.Option(3600.0, "--time-limit", help="Time limit for one video, in seconds."),
    memory_limit: float = MEMORY_LIMIT,
) -> None:
    """Split videos at scene changes into the rows of a manifest, which can be used as a source."""
    from latentshift.data.inspection.split import check_split, split_rows
    from latentshift.data.manifest import Entry, write_manifest
    from latentshift.data.rejected_list import RejectedList
    from latentshift.data.sources import list_source
    from latentshift.files import atomic_write, check_writable_file

    if output.suffix != ".jsonl":
        raise ValueError(f"-o must name a .jsonl file, not {output}")
    check_writable_file(output)
    check_split(shortest, longest, threshold)
    limits = limits_of(workers, time_limit, memory_limit)
    chosen = source_of(source, options)
    with tempfile.TemporaryDirectory() as folder:
        rejected = RejectedList(Path(folder) / "left-out.jsonl")
        with status("listing"):
            manifest = list_source(Path(folder) / "manifest.jsonl", chosen, rejected.add)
        with progress_bar(total=len(manifest), text="split", unit="video") as bar:

            def entries() -> Iterator[Entry]:
                for _, scenes in split_rows(manifest, shortest, longest, threshold, limits):
                    bar.update()
                    yield from scenes

            cut = Path(folder) / "rows.jsonl"
            rows = write_manifest(cut, entries(), rejected.add)
        if not rows:
            (first,) = rejected.first(1)
            raise ValueError(f"{source} gives no scene of {shortest:g} s or more; {first.name}: {first.reason}")
        names = output.with_suffix(".left-out.jsonl")
        for path, target in ((cut, output), (rejected.path, names)):
            if path.exists():
                with atomic_write(target) as temporary:
                    shutil.copyfile(path, temporary)
        print(f"{len(manifest)} videos became {rows} rows; {len(rejected)} left out")
        print_refused(rejected.first(MAX_SHOWN), len(rejected), f"{names} has all of them")
    print(printable(output, MAX_PATH_LENGTH))

"""``latentshift data inspect``: check every clip of a source, and report which can't be used and why."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from latentshift.cli.data.common import (
    MAX_PATH_LENGTH,
    MAX_SHOWN,
    MEMORY_LIMIT,
    OPTIONS,
    SHORT,
    SOURCE,
    TIME_LIMIT,
    VARIANT,
    WORKERS,
    limits_of,
    one_of,
    print_refused,
    source_of,
)
from latentshift.progress import progress_bar, status
from latentshift.user_input.error_text import printable

if TYPE_CHECKING:
    from latentshift.data.manifest import RejectedRow, Row

_SAMPLES = 24


def inspect(
    source: str = SOURCE,
    options: list[str] | None = OPTIONS,
    frames: int = typer.Option(16, "--frames", help="Frames per clip; 1 for images."),
    seconds: float = typer.Option(2.0, "--seconds", help="Duration of a clip in seconds."),
    size: int = typer.Option(256, "--size", help="Side of the frames in pixels."),
    short: str = SHORT,
    model: str | None = typer.Option(
        None,
        "--model",
        help="Also count captions that this model truncates: bundled, a folder, or a hub id.",
    ),
    variant: str | None = VARIANT,
    workers: int = WORKERS,
    time_limit: float = TIME_LIMIT,
    memory_limit: float = MEMORY_LIMIT,
    json_file: Path | None = typer.Option(None, "--json", help="Also write the report as JSON."),
    html_file: Path | None = typer.Option(
        None, "--html", help="Also write the report as an HTML page with sample clips."
    ),
    strict: bool = typer.Option(False, "--strict", help="Exit with code 1 if any clip was refused."),
) -> None:
    """Decode every clip of a source once and report which can be used, which can't, and why."""
    from latentshift.data.footage.framing import Framing
    from latentshift.data.footage.window import SHORT as KNOWN_SHORT
    from latentshift.data.footage.window import Window
    from latentshift.data.inspection.inspect import Inspection, inspect_rows
    from latentshift.data.inspection.page import SampleClip, render_page
    from latentshift.data.manifest import Manifest, write_manifest
    from latentshift.data.rejected import Rejected
    from latentshift.data.rejected_list import RejectedList
    from latentshift.files import atomic_write_text, check_writable_file

    for file in (json_file, html_file):
        if file is not None:
            check_writable_file(file)
    window = Window(frames=frames, seconds=seconds, place="centre", short=one_of("--short", short, KNOWN_SHORT))
    framing = Framing(size, size)
    limits = limits_of(workers, time_limit, memory_limit)
    chosen = source_of(source, options)
    samples: list[SampleClip] = []
    with tempfile.TemporaryDirectory() as folder:
        inspection = Inspection(RejectedList(Path(folder) / "left-out.jsonl"))
        listed = Path(folder) / "manifest.jsonl"
        ignored: list[str] = []
        with status("listing"):
            rows = write_manifest(listed, chosen.entries(ignored.append), inspection.rejected.add)
        if not rows and not inspection.rejected:
            raise ValueError(f"{source} holds no video and no image")
        manifest: Manifest | list[Row] = Manifest(listed) if rows else []
        findings = inspect_rows(manifest, window, framing, limits, pictures=_SAMPLES if html_file else 0)
        for finding in progress_bar(findings, total=rows, text="inspect", unit="clip"):
            inspection.add(finding)
            result, row = finding.result, finding.row
            if not isinstance(result, Rejected) and result.frames is not None:
                samples.append(SampleClip(row.name, row.captions[0], result.frames, frames / seconds))
        report = inspection.to_dict(manifest)
        report["ignored"] = ignored
        if model is not None:
            report["captions"]["cut"] = _count_cut(model, variant, manifest)
        refused = inspection.rejected.first(MAX_SHOWN)
    if json_file is not None:
        atomic_write_text(json_file, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    if html_file is not None:
        atomic_write_text(html_file, render_page(source, report, samples))
    _print(report, refused)
    for file in (json_file, html_file):
        if file is not None:
            print(printable(file, MAX_PATH_LENGTH))
    if not report["kept"] or (strict and report["refused"]):
        raise typer.Exit(1)


def _count_cut(model: str, variant: str | None, rows: Iterable[Row]) -> dict[str, Any]:
    from latentshift.cli.models import load_pipeline
    from latentshift.models.conditioning.caption_length import count_cut

    text_encoders = load_pipeline(model, "cpu", "float32", variant).text_encoders
    with status("counting the captions' tokens"):
        counts = count_cut(text_encoders, (caption for row in rows for caption in (*row.captions, *row.image_captions)))
    return {"model": model, **asdict(counts), "sentence": str(counts)}


def _print_cut(report: dict[str, Any]) -> None:
    from latentshift.data.inspection.inspect import CERTAINLY_CUT

    captions = report["captions"]
    if "cut" in captions:
        cut = captions["cut"]
        print(cut["sentence"] or f"no caption is longer than the {cut['length']} tokens that the model reads")
    elif captions["long"]:
        print(
            f"{captions['long']} captions have more than {CERTAINLY_CUT} words, and most models read 77 tokens: their "
            "ends are cut off (--model MODEL counts exactly)"
        )


def _print(report: dict[str, Any], refused: list[RejectedRow]) -> None:
    images = f", {report['images']} of them images" if report["images"] else ""
    print(f"kept {report['kept']} of {report['total']}{images}")
    captions = report["captions"]
    if captions["kept"] != report["kept"] or captions["left_out"]:
        print(f"with {captions['kept']} captions; {captions['left_out']} captions left out")
    for kind, count in report["refused_by_kind"].items():
        print(f"  {kind}: {count}")
    print_refused(refused, len(report["refused"]), "--json FILE has them all")
    _print_cut(report)
    if report["ignored"]:
        print(f"{len(report['ignored'])} files that macOS adds were ignored (._*, __MACOSX, .DS_Store)")
    for what, count in (
        ("a scene cut inside the window", len(report["cuts"])),
        ("nothing that moves", len(report["still"])),
        ("less than the window, held or shortened", len(report["short"])),
        ("the same content as an earlier one", sum(len(group) - 1 for group in report["duplicates"])),
    ):
        if count:
            print(f"{count} with {what}")

"""``latentshift evaluate folder``: score any system's clips."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from latentshift.cli.engine import ACTORS, ENGINE, check_engine
from latentshift.cli.evaluate.common import EXTRACTORS_HELP, SEED
from latentshift.cli.evaluate.folder_job import FolderJob
from latentshift.cli.evaluate.run_evaluation import run_evaluation
from latentshift.cli.resumable import ends_cleanly
from latentshift.cli.shared_options import DEVICE, RANK_TIMEOUT
from latentshift.files import check_writable, missing_file

_STANDARD = ("inception-2015", "i3d", "clip")


@ends_cleanly("what is measured")
def folder(
    clips: Path = typer.Argument(..., help="The folder of the clips: videos, images, or folders of frames."),
    reference: Path | None = typer.Option(
        None, "--reference", help="A folder of true clips, for the distances: FID, KID, FVD, KVD, CMMD."
    ),
    paired: bool = typer.Option(
        False,
        "--paired",
        help="Compare each clip with the true clip of the same name on its own too: PSNR and SSIM. Clips without one "
        "are left out.",
    ),
    captions: Path | None = typer.Option(
        None,
        "--captions",
        help="For CLIPSIM: .csv or .jsonl with file_name and text, or a text with a caption a line, found at the clips "
        "by their metadata or names. Default: the prompts that latentshift wrote into its own clips.",
    ),
    output: Path = typer.Option(Path("outputs/folder"), "--output", "-o", help="Folder of the result."),
    name: str | None = typer.Option(None, "--name", help="Name of the system in tables. Default: the folder's."),
    frames: int = typer.Option(16, "--frames", help="Frames that are taken of each clip, evenly spaced."),
    seconds: float | None = typer.Option(
        None, "--seconds", help="Take them from so many first seconds of each clip. Default: from the whole clip."
    ),
    size: int | None = typer.Option(
        None, "--size", help="Resize and crop to so many pixels a side before anything else. Default: as the files are."
    ),
    extractors: str = typer.Option("available", "--extractors", help=EXTRACTORS_HELP),
    reading_processes: int = typer.Option(2, "--workers", help="Number of decoding processes."),
    time_limit: float = typer.Option(60.0, "--time-limit", help="Time limit for one clip, in seconds."),
    memory_limit: float = typer.Option(4.0, "--memory-limit", help="Memory limit for one clip, in GiB."),
    engine: str = ENGINE,
    actors: int = ACTORS,
    bootstrap_seed: int = SEED,
    device: str = DEVICE,
    rank_timeout: float = RANK_TIMEOUT,
) -> None:
    """Score the clips in a folder, of whatever system; the same command resumes an interrupted evaluation."""
    from latentshift.cli.data.common import limits_of
    from latentshift.cli.preflight import check_device_name
    from latentshift.evaluation.protocols.captions import captions_from_file, own_captions
    from latentshift.evaluation.protocols.choice import choose_extractors, compares
    from latentshift.evaluation.protocols.clip_files import FrameChoice, list_clips, note_of_same_files, own_prompts
    from latentshift.evaluation.protocols.pairing import pair_by_name

    check_device_name(device)
    check_engine(engine, actors, device, rank_timeout)
    if paired and reference is None:
        raise ValueError("--paired compares each clip with its true clip: name their folder with --reference")
    chosen_frames = FrameChoice(frames, seconds, size)
    limits = limits_of(reading_processes, time_limit, memory_limit)
    for each in (clips, *([reference] if reference is not None else [])):
        if Path(os.path.realpath(output)).is_relative_to(os.path.realpath(each)):
            raise ValueError(
                f"-o {output} lies in {each}, whose clips are measured: those that a result shows would be among them "
                "the next time; name a folder elsewhere"
            )
    listed = list_clips(clips, frames)
    items, notes = listed.items, listed.notes
    if captions is not None and not captions.is_file():  # before the metadata of every clip is read
        raise ValueError(missing_file(captions))
    true_clips = pairs = None
    if reference is not None:
        of_reference = list_clips(reference, frames)
        true_clips = reference, of_reference.items
        notes = [*notes, *of_reference.notes, *note_of_same_files(items, of_reference.items)]
        if paired:
            pairs = pair_by_name(clips, items, reference, of_reference.items)
            items = pairs.items
    choice = choose_extractors(extractors, _STANDARD, frames, needed=not paired)
    if pairs is not None:
        notes = [*notes, *pairs.notes(compared=any(map(compares, choice.keys)))]
    check_writable(output / "report.json")
    written = own_prompts(clips, items, limits)
    captioned = own_captions(items, written) if captions is None else captions_from_file(captions, items, written)
    job = FolderJob(
        output,
        clips,
        captioned,
        true_clips,
        pairs,
        chosen_frames,
        limits,
        choice.keys,
        name or Path(os.path.realpath(clips)).name,
        device,
        [*notes, *choice.notes],
    )
    run_evaluation(job, engine=engine, actors=actors, seed=bootstrap_seed, rank_timeout=rank_timeout)

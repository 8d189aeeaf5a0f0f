"""Where the videos of ``generate`` go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentshift.progress import status
from latentshift.video.prompt_slug import prompt_slug

if TYPE_CHECKING:
    import numpy as np


def output_files(
    sentences: list[str], output: Path | None, suffix: str | None, seed: int, *, several: bool, single_frame: bool
) -> list[Path]:
    """A file, or a folder of frames, for each video.

    Args:
        sentences: prompts of the videos.
        output: ``-o``.
        suffix: ``--suffix``.
        seed: of the first video.
        several: whether there are several videos, or a file of prompts.
        single_frame: whether they are images.

    Raises:
        ValueError: for options that don't go together.
    """
    kind = suffix or (".png" if single_frame else ".mp4")
    if not kind.startswith("."):
        raise ValueError(f"--suffix must begin with a dot, as .gif, not {kind!r}")
    if output is not None and not several:
        if suffix is not None:
            raise ValueError("--suffix is for several videos; for one, give the suffix in -o")
        return [output]
    if output is not None and output.suffix:
        raise ValueError(
            f"-o must be a folder for several videos, or a file of prompts, not {output}; their kind goes into --suffix"
        )
    folder = output or Path("outputs")
    return [folder / f"{prompt_slug(sentence)}-{seed + number}{kind}" for number, sentence in enumerate(sentences)]


def check_inputs_kept(targets: Sequence[Path], inputs: Mapping[str, Path]) -> None:
    """Refuse to write over what is read.

    Args:
        targets: files to be written.
        inputs: name of an option -> the file or folder that it names.

    Raises:
        ValueError: for a file that is both, by whatever path.
    """
    for option, path in inputs.items():
        for target in targets:
            if target.exists() and path.exists() and target.samefile(path):
                raise ValueError(f"{option} reads {path}, and the result would be written over it: choose another -o")


def write_contact_sheet(
    path: Path, clips: Sequence[np.ndarray], sentences: Sequence[str], fps: float, metadata: Mapping[str, Any]
) -> None:
    """Write all videos into one file, twice as large: in rows under their prompts (.png), or side by side.

    Args:
        path: of it.
        clips: uint8 RGB (F, H, W, 3) each.
        sentences: their prompts.
        fps: of clips side by side.
        metadata: of the file.
    """
    from latentshift.contact_sheet import contact_sheet, side_by_side
    from latentshift.video import write_video

    still = path.suffix.lower() == ".png"
    drawn = contact_sheet(clips, sentences, scale=2)[None] if still else side_by_side(clips, scale=2)
    with status("writing the contact sheet"):
        write_video(path, drawn, fps=fps, metadata=metadata, loop=True)

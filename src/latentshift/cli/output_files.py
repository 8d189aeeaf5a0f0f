"""Where the videos of ``generate`` go."""

from __future__ import annotations

from pathlib import Path

from latentshift.prompt_slug import prompt_slug


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

"""``latentshift evaluate train-extractors``: train the shipped extractors of sprites anew."""

from __future__ import annotations

from pathlib import Path

import typer

from latentshift.files import check_writable
from latentshift.user_input.error_text import printable


def train_extractors(
    output: Path = typer.Option(
        Path("outputs/extractors"), "--output", "-o", help="Folder for their weights and configurations."
    ),
) -> None:
    """Train the extractors that are shipped, sprites-frames, -clips and -text, from nothing; the same command resumes.

    Evaluations use the shipped ones, whatever is trained here: this shows how those were made.
    """
    check_writable(output / "sprites-frames.safetensors")
    from latentshift.evaluation.extractors.sprites.accuracy import CLIPS, unseen_accuracy
    from latentshift.evaluation.extractors.sprites.caption_training import train_captions
    from latentshift.evaluation.extractors.sprites.training import RECIPES, train_extractor

    for name, recipe in RECIPES.items():
        train_extractor(name, recipe, output)
        for held_out in (False, True):
            shares = unseen_accuracy(output, name, held_out=held_out)
            text = "  ".join(f"{each} {100 * share:.1f}" for each, share in shares.items())
            print(f"{name}, {CLIPS} unseen clips of {'held-out' if held_out else 'seen'} triples: {text} %", flush=True)
    train_captions(output)
    print(printable(output, 4096))

"""``latentshift study make``: a study's folder from folders of clips."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from latentshift.cli.named_folders import HELP, named_folders
from latentshift.cli.prompts_file import read_prompts_file
from latentshift.cli.study.common import MAX_PATH_LENGTH
from latentshift.user_input.error_text import printable
from latentshift.user_input.unicode_text import check_unicode

if TYPE_CHECKING:
    from latentshift.study.settings import Question


def make(
    systems: list[str] = typer.Argument(..., metavar="FOLDER...", help=HELP),
    prompts_file: Path = typer.Option(..., "--prompts", help="A text file with one prompt per line."),
    output: Path = typer.Option(..., "--output", "-o", help="A new folder for the study."),
    raters: int = typer.Option(5, "--raters", help="Raters of each comparison."),
    questions: list[str] | None = typer.Option(
        None, "--question", help="NAME=TEXT, for each question. Default: the paper's two, quality and faithfulness."
    ),
    cant_tell: bool = typer.Option(False, "--cant-tell", help='Raters may also answer "can\'t tell".'),
    broken: int = typer.Option(2, "--broken", help="Attention checks with a broken twin of a clip."),
    identical: int = typer.Option(2, "--identical", help="Attention checks with one clip twice."),
    check_every: int = typer.Option(20, "--check-every", help="One attention check comes among so many pairs."),
    lease: float = typer.Option(30.0, "--lease", help="Minutes until an unanswered pair may go to another rater."),
    seed: int = typer.Option(0, "--seed", min=0, help="Seed of sides, order and attention checks."),
    linked: bool = typer.Option(
        False, "--link", help="Link to the clips rather than copying them; they must then stay where they are."
    ),
) -> None:
    """Make a study: every clip is decoded once, and gets a name that does not tell its system."""
    from latentshift.study.make import make_study
    from latentshift.study.settings import QUESTIONS, StudySettings

    if not 0 < lease < math.inf:
        raise ValueError(f"--lease must be a number of minutes above 0, not {lease:g}")
    folders = named_folders(systems)
    prompts = read_prompts_file(prompts_file)
    settings = StudySettings(
        raters_each=raters,
        questions=tuple(map(_question, questions)) if questions else QUESTIONS,
        cant_tell=cant_tell,
        seed=seed,
        lease_seconds=60 * lease,
        check_every=check_every,
    )
    made = make_study(folders, prompts, output, settings, broken=broken, identical=identical, link=linked)
    for note in made.notes:
        print(f"note: {printable(note)}", file=sys.stderr)
    people = f"{raters} rater{'s' if raters > 1 else ''}"
    print(f"{made.comparisons:,} comparisons by {people} each: {made.votes:,} pairs to answer")
    print(printable(output, MAX_PATH_LENGTH))


def _question(word: str) -> Question:
    from latentshift.study.settings import Question

    name, equals, text = word.partition("=")
    if not (equals and name.strip() and text.strip()):
        raise ValueError(f'--question must be NAME=TEXT, as in "motion=Which video moves better?", not {word!r}')
    check_unicode(word, "--question")
    return Question(name.strip(), text.strip())

"""``latentshift push``: a model on the hub, with a card of what it is, how it was made and what it does."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from latentshift.error_text import one_line, printable
from latentshift.files import atomic_write, check_writable, missing_file
from latentshift.progress import status

if TYPE_CHECKING:
    from latentshift.evaluation.report.model_card import CardContents

_CARD = "README.md"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PICTURES = (".gif", ".jpg", ".jpeg", ".png", ".webp")
_NAME = re.compile(r"[\w.-]+")


def push(
    model: str = typer.Argument(..., help="The folder of a model, or of a run, whose recipe then stands in the card."),
    repo: str = typer.Argument(..., help="Of the hub: OWNER/NAME. It is made if there is none."),
    report: list[Path] | None = typer.Option(
        None, "--report", help="Folder of an evaluation, whose figures stand in the card. May be given several times."
    ),
    picture: list[Path] | None = typer.Option(
        None, "--picture", help="A .gif, .webp, .png or .jpg for the card. May be given several times."
    ),
    license: str = typer.Option("other", "--license", help="Of the weights, by the hub's name, as apache-2.0."),
    private: bool = typer.Option(False, "--private", help="Make a new repository private."),
    message: str = typer.Option("Upload a Latent-Shift model", "--message", help="Of the commit."),
    dry_run: Path | None = typer.Option(
        None,
        "--dry-run",
        metavar="FOLDER",
        help="Send nothing: write all that would be sent, but the weights, to a new folder.",
    ),
) -> None:
    """Push a model to the hub, with a model card; needs `hf auth login`, or HF_TOKEN."""
    from latentshift.cli.preflight import check_model_files

    if not _REPO.fullmatch(repo) or "--" in repo or ".." in repo:
        raise ValueError(f"a repository of the hub is named OWNER/NAME, not {repo!r}")
    pictures = _checked_pictures(picture or [])
    folder = check_model_files(model, None)
    if folder is None:
        raise ValueError(f"{model} is no folder on this machine: only those are pushed")
    contents = _contents(folder, repo, license, report or [], list(pictures))
    from latentshift.evaluation.report.model_card import model_card

    own = folder / _CARD
    card = own.read_text(encoding="utf-8") if own.is_file() else model_card(contents)
    if own.is_file():
        print(f"the card is {printable(own)}, and none is made")
    if dry_run is not None:
        check_writable(dry_run)
        if dry_run.exists():
            raise ValueError(f"{dry_run} exists already; choose another folder, or delete it")
        with atomic_write(dry_run) as written:
            _stage(written, folder, card, pictures, weights=False)
        print(f"nothing is sent; see {printable(dry_run)}")
        return
    with tempfile.TemporaryDirectory() as staged, status(f"sending {printable(folder)} to {repo}"):
        _stage(Path(staged), folder, card, pictures, weights=True)
        print(_send(Path(staged), repo, private, message))


def _checked_pictures(files: Sequence[Path]) -> dict[str, Path]:
    """Name in the card -> file."""
    pictures: dict[str, Path] = {}
    for file in files:
        if not file.is_file():
            raise ValueError(missing_file(file))
        if file.suffix.lower() not in _PICTURES or not _NAME.fullmatch(file.name):
            raise ValueError(f"--picture must be one of {', '.join(_PICTURES)} with a plain name, not {file}")
        if file.name in pictures:
            raise ValueError(f"{pictures[file.name]} and {file} have one name: rename one of them")
        pictures[file.name] = file
    return pictures


def _contents(folder: Path, repo: str, license: str, reports: list[Path], pictures: list[str]) -> CardContents:
    from latentshift.bounded_read import load_json_settings, read_text_bounded
    from latentshift.evaluation.report.model_card import CardContents
    from latentshift.evaluation.report.schema import read_report
    from latentshift.model_paths import load_index, read_video_size

    unet: dict[str, Any] = load_json_settings(folder / "unet" / "config.json")
    recipe = folder.parent / "recipe.yaml"  # of a run
    return CardContents(
        repo,
        license,
        load_index(folder),
        unet,
        read_video_size(folder)[1],
        read_text_bounded(recipe) if folder.name == "model" and recipe.is_file() else None,
        [read_report(each) for each in reports],
        pictures,
    )


def _stage(target: Path, folder: Path, card: str, pictures: dict[str, Path], *, weights: bool) -> None:
    """What is sent, in a folder: links to the files of the model, the card, and pictures."""
    for file in sorted(folder.rglob("*")):
        relative = file.relative_to(folder)
        if not file.is_file() or any(part.startswith((".", "__")) for part in relative.parts) or file.name == _CARD:
            continue
        if file.suffix == ".safetensors" and not weights:
            continue
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        if weights:
            os.symlink(file.absolute(), target / relative)
        else:
            shutil.copyfile(file, target / relative)
    for name, file in pictures.items():
        (target / "pictures").mkdir(exist_ok=True)
        shutil.copyfile(file, target / "pictures" / name)
    (target / _CARD).write_text(card, encoding="utf-8")


def _send(folder: Path, repo: str, private: bool, message: str) -> str:
    """Upload a folder in one commit; its address."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message))
    except Exception as error:  # whatever the hub, or the way to it, makes the library raise
        raise ValueError(f"{repo} could not be pushed: {one_line(error)[:500]}") from None

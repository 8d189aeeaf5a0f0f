"""``latentshift push``: a model on the hub, with a card of what it is, how it was made and what it does."""

from __future__ import annotations

import json
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
_INDEX = "model_index.json"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PICTURES = (".gif", ".jpg", ".jpeg", ".png", ".webp")
_NAME = re.compile(r"[\w.-]+")
_PART_FILES = (".jinja", ".json", ".model", ".safetensors", ".txt")  # weights, settings and tokenizers
_OTHER_FILES = ("lora.safetensors", "delta.safetensors", "pytorch_lora_weights.safetensors", "LICENSE", "LICENSE.md")
_PATH_KEYS = ("_name_or_path", "name_or_path", "special_tokens_map_file", "tokenizer_file")  # of the machine that saved


def push(
    model: str = typer.Argument(..., help="The folder of a model, or of a run, whose recipe then stands in the card."),
    repo: str = typer.Argument(..., help="Of the hub: OWNER/NAME. It is made if there is none."),
    report: list[Path] | None = typer.Option(
        None, "--report", help="Folder of an evaluation, whose figures stand in the card. May be given several times."
    ),
    picture: list[Path] | None = typer.Option(
        None, "--picture", help="A .gif, .webp, .png or .jpg for the card. May be given several times."
    ),
    license: str | None = typer.Option(
        None, "--license", show_default="other", help="Of the weights, by the hub's name, as apache-2.0."
    ),
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
    files = _files(folder)
    own = folder / _CARD
    if own.is_file():
        given = {"--license": license, "--report": report, "--picture": picture}
        card = _own_card(own, [option for option, value in given.items() if value])
    else:
        from latentshift.evaluation.report.model_card import model_card

        card = model_card(_contents(folder, repo, license or "other", report or [], list(pictures)))
    if dry_run is not None:
        check_writable(dry_run)
        if dry_run.exists():
            raise ValueError(f"{dry_run} exists already; choose another folder, or delete it")
        with atomic_write(dry_run) as written:
            _stage(written, folder, files, card, pictures, weights=False)
        for name in sorted([_CARD, *map(Path.as_posix, files), *(f"pictures/{each}" for each in pictures)]):
            print(printable(name))
        print(f"nothing is sent; see {printable(dry_run)}, which holds all of these but the weights")
        return
    with tempfile.TemporaryDirectory() as staged, status(f"sending {printable(folder)} to {repo}"):
        _stage(Path(staged), folder, files, card, pictures, weights=True)
        print(_send(Path(staged), repo, private, message))


def _own_card(own: Path, dropped: list[str]) -> str:
    from latentshift.bounded_read import read_text_bounded

    if dropped:
        raise ValueError(
            f"{own} is the card that is sent, and {' and '.join(dropped)} would not stand in it: write that into it, "
            "or move it away to have one made"
        )
    card = read_text_bounded(own, what="the card")
    print(f"the card is {printable(own)}, and none is made")
    return card


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
    from latentshift.bounded_read import load_json_settings
    from latentshift.evaluation.report.model_card import CardContents
    from latentshift.evaluation.report.schema import read_report
    from latentshift.model_paths import load_index, read_video_size

    unet: dict[str, Any] = load_json_settings(folder / "unet" / "config.json")
    recipe = _recipe(folder)
    return CardContents(
        repo,
        license,
        load_index(folder),
        unet,
        read_video_size(folder)[1],
        recipe,
        None if recipe is None else _base_model(recipe.get("model"), folder),
        [read_report(each) for each in reports],
        pictures,
    )


def _recipe(folder: Path) -> dict[str, Any] | None:
    """The settings of the run that a model is of."""
    from latentshift.bounded_read import load_yaml_bounded

    file = folder.parent / "recipe.yaml"
    if folder.name != "model" or not file.is_file():
        return None
    recipe = load_yaml_bounded(file, what="the recipe")
    if not isinstance(recipe, dict):
        raise ValueError(f"the recipe {file} must hold settings, name: value; repair it, or move it away to do without")
    return recipe


def _base_model(base: object, folder: Path) -> str | None:
    """The id on the hub of what a run started from; None if that is a folder, here or above the run."""
    if not isinstance(base, str) or not _REPO.fullmatch(base):
        return None
    places = (Path(), *folder.absolute().parents)
    return None if any((place / base).exists() for place in places) else base


def _files(folder: Path) -> list[Path]:
    """What is sent of a folder: the parts that its model_index.json names, its code, adapters, license and pictures."""
    from latentshift.bounded_read import load_json_settings

    index = load_json_settings(folder / _INDEX)
    files = [Path(_INDEX), *map(Path, _OTHER_FILES)]
    for part, entry in index.items():
        if not isinstance(entry, list) or len(entry) != 2 or entry[1] is None or not _NAME.fullmatch(part):
            continue
        if part == "_class_name":  # of a pipeline with code of its own
            files.append(Path(Path(f"{entry[0]}.py").name))
            continue
        files += [Path(part, file.name) for file in (folder / part).glob("[!._]*") if file.suffix in _PART_FILES]
    for place in (Path(), Path("pictures")) if (folder / _CARD).is_file() else ():  # of the folder's own card
        files += [place / file.name for file in (folder / place).glob("[!._]*") if file.suffix.lower() in _PICTURES]
    return sorted(file for file in files if (folder / file).is_file())


def _without_paths(value: Any) -> Any:
    """A configuration without what tells where on this machine it was loaded from."""
    if isinstance(value, dict):
        return {key: _without_paths(each) for key, each in value.items() if key not in _PATH_KEYS}
    return [_without_paths(each) for each in value] if isinstance(value, list) else value


def _stage(
    target: Path, folder: Path, files: Sequence[Path], card: str, pictures: dict[str, Path], *, weights: bool
) -> None:
    """What is sent, in a folder: links to the files of the model, its configurations, the card, and pictures."""
    from latentshift.bounded_read import load_json_settings

    for relative in files:
        file, copy = folder / relative, target / relative
        if file.suffix == ".safetensors" and not weights:
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.name == _INDEX or file.name.endswith("config.json"):
            copy.write_text(json.dumps(_without_paths(load_json_settings(file)), indent=2) + "\n", encoding="utf-8")
        elif weights:
            os.symlink(file.absolute(), copy)
        else:
            shutil.copyfile(file, copy)
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

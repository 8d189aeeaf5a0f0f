"""A model's folder on the Hugging Face hub: what is sent of it, and the card that goes along.

Imports no torch: weights are sent as the files that they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentshift.evaluation.report.schema import read_report
from latentshift.files import atomic_write, check_writable, missing_file
from latentshift.hub.model_card import CardContents, model_card
from latentshift.hub.training_cost import training_cost
from latentshift.local_paths import cut_local_paths
from latentshift.models.storage.base_settings import check_saved_configs
from latentshift.models.storage.model_config import check_config_files, saved_parts
from latentshift.models.storage.model_paths import DATA_SETTINGS, check_model, load_index, read_video_size
from latentshift.models.storage.weight_files import check_variant
from latentshift.user_input.bounded_read import load_json_settings, load_yaml_bounded, read_text_bounded
from latentshift.user_input.error_text import one_line

MESSAGE = "Upload a Latent-Shift model"
_CARD = "README.md"
_INDEX = "model_index.json"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PICTURES = (".gif", ".jpg", ".jpeg", ".png", ".webp")
_NAME = re.compile(r"[\w.-]+")
_PART_FILES = (".jinja", ".json", ".model", ".safetensors", ".txt")  # weights, settings and tokenizers
_ADAPTERS = ("lora.safetensors", "delta.safetensors", "pytorch_lora_weights.safetensors")
_OTHER_FILES = (DATA_SETTINGS, *_ADAPTERS, "LICENSE", "LICENSE.md")
_PATH_KEYS = ("_name_or_path", "name_or_path", "special_tokens_map_file", "tokenizer_file")  # of the machine that saved


@dataclass(frozen=True)
class HubUpload:
    """What is sent of a model.

    Attributes:
        folder: of the model.
        repo: of the hub.
        files: relative to the folder.
        card: the model card.
        own_card: the folder's own file with it; None: it is made here.
        pictures: of the card, name -> file.
    """

    folder: Path
    repo: str
    files: tuple[Path, ...]
    card: str
    own_card: Path | None
    pictures: Mapping[str, Path]

    @property
    def names(self) -> list[str]:
        """Of all files in the repository."""
        return sorted([_CARD, *map(Path.as_posix, self.files), *(f"pictures/{each}" for each in self.pictures)])

    def write(self, target: Path) -> None:
        """Write all but the weights to a new folder, and send nothing.

        Raises:
            ValueError: if the folder exists.
        """
        check_writable(target)
        if target.exists():
            raise ValueError(f"{target} exists already; choose another folder, or delete it")
        with atomic_write(target) as written:
            _stage(written, self.folder, self.files, self.card, self.pictures, weights=False)

    def send(self, *, private: bool = False, message: str = MESSAGE) -> str:
        """Upload everything in one commit.

        Args:
            private: whether a new repository is private.
            message: of the commit.

        Returns:
            Its address.

        Raises:
            ValueError: for whatever the hub, or the way to it, refuses.
        """
        from huggingface_hub import HfApi

        with tempfile.TemporaryDirectory() as staged:
            _stage(Path(staged), self.folder, self.files, self.card, self.pictures, weights=True)
            api = HfApi()
            try:
                api.create_repo(self.repo, private=private, exist_ok=True)
                return str(api.upload_folder(repo_id=self.repo, folder_path=staged, commit_message=message))
            except Exception as error:  # whatever the hub, or the way to it, makes the library raise
                raise ValueError(f"{self.repo} could not be pushed: {one_line(error)[:500]}") from None


def prepare_upload(
    model: str | Path,
    repo: str,
    *,
    license: str | None = None,
    reports: Sequence[Path] = (),
    pictures: Sequence[Path] = (),
) -> HubUpload:
    """Read and check what is to be sent; nothing is sent yet.

    Args:
        model: the folder of a model, or of a run, whose recipe then stands in the card.
        repo: of the hub, OWNER/NAME; it is made if there is none.
        license: of the weights, by the hub's name; None: ``other``.
        reports: folders of evaluations, whose figures stand in the card.
        pictures: .gif, .webp, .png or .jpg for the card.

    Raises:
        ValueError: if there is no such model, weights or file, a name is none of the hub's, or something was given for
            the card of a folder that has its own.
    """
    if not _REPO.fullmatch(repo) or "--" in repo or ".." in repo:
        raise ValueError(f"a repository of the hub is named OWNER/NAME, not {repo!r}")
    named = _checked_pictures(pictures)
    folder = check_model(str(model))
    if folder is None:
        raise ValueError(f"{model} is no folder on this machine: only those are pushed")
    check_config_files(folder)
    check_saved_configs(folder)
    check_variant(folder, saved_parts(folder), None)
    _check_data_settings(folder / DATA_SETTINGS)
    own = folder / _CARD
    if own.is_file():
        given = {"a license": license, "a report": reports, "a picture": pictures}
        card = _own_card(own, [name for name, value in given.items() if value])
    else:
        card = model_card(_contents(folder, repo, license or "other", reports, list(named)))
    return HubUpload(folder, repo, tuple(_files(folder)), card, own if own.is_file() else None, named)


def push_model(
    model: str | Path,
    repo: str,
    *,
    license: str | None = None,
    reports: Sequence[Path] = (),
    pictures: Sequence[Path] = (),
    private: bool = False,
    message: str = MESSAGE,
) -> str:
    """Push a model to the hub with a model card, as ``latentshift push`` does; needs ``hf auth login``, or HF_TOKEN.

    Args:
        model: as for :func:`prepare_upload`.
        repo: likewise.
        license: likewise.
        reports: likewise.
        pictures: likewise.
        private: whether a new repository is private.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        ValueError: as for :func:`prepare_upload`, and for whatever the hub refuses.
    """
    upload = prepare_upload(model, repo, license=license, reports=reports, pictures=pictures)
    return upload.send(private=private, message=message)


def _check_data_settings(file: Path) -> None:
    """Refuse what an earlier version, or another program, wrote there and others must not see: it is sent as it is."""
    values = load_json_settings(file) if file.is_file() else {}
    if cut_local_paths(values) != values:
        raise ValueError(
            f"{file} is sent, and holds a path of this machine, or a URL with a user or a query, which may be a "
            "password or a signature: cut that out of it, or move the file away"
        )


def _own_card(own: Path, dropped: list[str]) -> str:
    if dropped:
        raise ValueError(
            f"{own} is the card that is sent, and {' and '.join(dropped)} would not stand in it: write that into it, "
            "or move it away to have one made"
        )
    return read_text_bounded(own, what="the card")


def _checked_pictures(files: Sequence[Path]) -> dict[str, Path]:
    """Name in the card -> file."""
    pictures: dict[str, Path] = {}
    for file in map(Path, files):
        if not file.is_file():
            raise ValueError(missing_file(file))
        if file.suffix.lower() not in _PICTURES or not _NAME.fullmatch(file.name):
            raise ValueError(f"a picture must be one of {', '.join(_PICTURES)} with a plain name, not {file}")
        if file.name in pictures:
            raise ValueError(f"{pictures[file.name]} and {file} have one name: rename one of them")
        pictures[file.name] = file
    return pictures


def _contents(folder: Path, repo: str, license: str, reports: Sequence[Path], pictures: list[str]) -> CardContents:
    unet: dict[str, Any] = load_json_settings(folder / "unet" / "config.json")
    recipe = _recipe(folder)
    settings = folder / DATA_SETTINGS
    return CardContents(
        repo,
        license,
        load_index(folder),
        unet,
        read_video_size(folder)[1],
        recipe=recipe,
        data_settings_sha256=hashlib.sha256(settings.read_bytes()).hexdigest() if settings.is_file() else None,
        training="" if recipe is None else training_cost(folder.parent),
        base_model=None if recipe is None else _base_model(recipe.get("model"), folder),
        reports=[read_report(Path(each)) for each in reports],
        pictures=pictures,
    )


def _recipe(folder: Path) -> dict[str, Any] | None:
    """The settings of the run that a model is of."""
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
    target: Path, folder: Path, files: Sequence[Path], card: str, pictures: Mapping[str, Path], *, weights: bool
) -> None:
    """What is sent, in a folder: links to the files of the model, its configurations, the card, and pictures."""
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

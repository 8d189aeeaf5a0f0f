"""UCF-101: 101 folders of clips, one for each class, with official train and test lists.

Classes have no captions: the sentence of each is in ``ucf101.yaml`` beside this file, or in a file of the user.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Literal

from latentshift.data.manifest import Entry, RejectedRow, Row
from latentshift.data.media import is_mac_file
from latentshift.data.sources.text import lines_of
from latentshift.files import missing_folder
from latentshift.user_input.bounded_read import load_yaml_bounded, parse_yaml_bounded

Captions = Literal["sentence", "class"]


def read_ucf101(
    root: Path,
    lists: Path | None = None,
    fold: int = 1,
    split: str = "",
    captions: Captions = "sentence",
    sentences: Path | None = None,
    name: str = "ucf101",
) -> Iterator[Entry]:
    """The clips in the order of the official lists, train before test, then files that are in no list.

    Args:
        root: holds a folder of ``.avi`` files for each class.
        lists: the folder of ``trainlist01.txt``, ``testlist01.txt`` and so on; by default ``ucfTrainTestlist`` in
            ``root`` or beside it.
        fold: 1, 2 or 3: which pair of lists.
        split: ``"train"``, ``"test"``, or empty for both together, as in the paper (Sec. 4.1).
        captions: the class's ``"sentence"``, or its bare name in words (``"class"``: "apply eye makeup").
        sentences: a YAML file of class name: sentence, in place of the package's.
        name: of the source, recorded in the rows.

    Raises:
        ValueError: for missing folders or lists, or an unknown split or fold.
    """
    if not root.is_dir():
        raise ValueError(missing_folder(root))
    if fold not in (1, 2, 3):
        raise ValueError(f"UCF-101 has the folds 1, 2 and 3, and not {fold}")
    if split not in ("", "train", "test"):
        raise ValueError(f"UCF-101 has the splits train and test, and not {split!r}")
    lists = _lists(root) if lists is None else lists
    class_sentences = load_sentences(sentences) if captions == "sentence" else None
    named: set[str] = set()
    for part in ("train", "test"):
        for entry in _listed(root, lists / f"{part}list{fold:02d}.txt", part, class_sentences, name):
            named.add(entry.file if isinstance(entry, Row) else entry.name)
            if split in ("", part):
                yield entry
    for path in sorted(str(each) for each in root.glob("*/*.avi") if not is_mac_file(each.name)):
        if path not in named:
            yield RejectedRow(path, "bad-row", f"neither list of fold {fold} names it")


def load_sentences(path: Path | None = None) -> dict[str, str]:
    """Class name -> sentence, from a YAML file, or the package's own for all 101 classes.

    Raises:
        ValueError: if the file can't be read, or holds anything else.
    """
    if path is None:
        own = (files(__package__) / "ucf101.yaml").read_text(encoding="utf-8")
        return dict(parse_yaml_bounded(own, "ucf101.yaml"))
    content = load_yaml_bounded(path)
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, str) and value.strip() for key, value in content.items()
    ):
        raise ValueError(f"{path} must hold lines of the form ClassName: a sentence")
    return content


def class_words(name: str) -> str:
    """The bare class name in words: ``"ApplyEyeMakeup"`` -> ``"apply eye makeup"``, ``"YoYo"`` -> ``"yo yo"``."""
    return " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)).lower()


def _lists(root: Path) -> Path:
    for folder in (root / "ucfTrainTestlist", root.parent / "ucfTrainTestlist"):
        if folder.is_dir():
            return folder
    raise ValueError(
        f"there is no folder ucfTrainTestlist in {root} or beside it: give the folder of the official lists as lists"
    )


def _listed(root: Path, path: Path, part: str, class_sentences: dict[str, str] | None, name: str) -> Iterator[Entry]:
    for number, line in lines_of(path):
        if not line.strip():
            continue
        entry = line.split()[0]  # train lists have the class's number after it
        class_name, _, file = entry.partition("/")
        if not file or ".." in Path(entry).parts or Path(entry).is_absolute():
            yield RejectedRow(f"{path} line {number}", "bad-row", f"it is not of the form Class/file.avi: {line!r}")
            continue
        if class_sentences is not None and class_name not in class_sentences:
            yield RejectedRow(str(root / entry), "missing-caption", f"no sentence is given for the class {class_name}")
            continue
        yield Row(
            str(root / entry),
            (class_words(class_name) if class_sentences is None else class_sentences[class_name],),
            name,
            split=part,
        )

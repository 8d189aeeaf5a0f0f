"""MSR-VTT's annotations: videos of 10 to 30 s, about 20 captions each, files named ``{video_id}.mp4``.

The test split is 2,990 videos with 59,800 captions; papers that use all of them report 59,794. So every
dropped caption is reported: those without words, or of no video.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from latentshift.data.manifest import Entry, RejectedRow, Row, not_text
from latentshift.data.sources.text import find_spelling
from latentshift.files import missing_folder
from latentshift.user_input.bounded_read import load_json_bounded

_MAX_BYTES = 2**28  # of the annotations, which are 30 MB
SPLITS = {"train": "train", "validate": "val", "test": "test"}


def read_msrvtt(annotations: Path, root: Path | None = None, split: str = "", name: str = "msrvtt") -> Iterator[Entry]:
    """One row for each video of the split, with all its captions, in the order of the annotations.

    Args:
        annotations: the json, with ``videos`` and ``sentences``.
        root: the folder of the videos; by default the json's own.
        split: ``"train"``, ``"val"``, ``"test"``, or empty for all of them.
        name: of the source, recorded in the rows.

    Raises:
        ValueError: if the file is not valid, or for an unknown split.
    """
    if split and split not in SPLITS.values():
        raise ValueError(f"MSR-VTT has the splits {', '.join(SPLITS.values())}, and not {split!r}")
    root = annotations.parent if root is None else root
    if not root.is_dir():
        raise ValueError(f"{missing_folder(root)}, for the videos of {annotations}")
    videos, sentences = _load(annotations)
    captions: dict[str, list[str]] = {video["video_id"]: [] for video in videos}
    for number, sentence in enumerate(sentences):
        where = f"{annotations} sentence {sentence.get('sen_id', number)}"
        whose, caption = sentence.get("video_id"), sentence.get("caption")
        if whose not in captions:
            yield RejectedRow(where, "bad-row", f"there is no video {whose!r}", caption=True)
        elif not isinstance(caption, str) or not caption.strip():
            yield RejectedRow(where, "missing-caption", f"it has no words ({whose})", caption=True)
        elif wrong := not_text(caption):
            yield RejectedRow(where, "bad-row", wrong, caption=True)
        else:
            captions[whose].append(" ".join(caption.split()))
    for video in videos:
        its_split = SPLITS.get(str(video.get("split", "")), str(video.get("split", "")))
        if split and its_split != split:
            continue
        video_id = video["video_id"]
        path = str(root / f"{video_id}.mp4")
        if PurePath(video_id).name != video_id:
            yield RejectedRow(video_id, "unsafe-member", f"it leads out of {root}")
        elif not captions[video_id]:
            yield RejectedRow(path, "missing-caption", "none of the sentences is for it")
        else:
            yield Row(find_spelling(path), tuple(captions[video_id]), name, split=its_split)


def _load(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    if path.is_dir():
        raise ValueError(f"{path} is a folder, and MSR-VTT's annotations are a JSON file: name that")
    content = load_json_bounded(path, _MAX_BYTES)
    for key in ("videos", "sentences"):
        items = content.get(key) if isinstance(content, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ValueError(f"{path} is not MSR-VTT's: it must hold the lists videos and sentences")
    videos, sentences = content["videos"], content["sentences"]
    if not all(isinstance(video.get("video_id"), str) for video in videos):
        raise ValueError(f"{path} is not MSR-VTT's: every video must have a video_id")
    return videos, sentences

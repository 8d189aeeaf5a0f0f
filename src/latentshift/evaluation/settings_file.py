"""The settings of a result, in its folder: written once, and compared whenever the result is continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latentshift.files import atomic_write_text

FILE_NAME = "settings.json"
_COMPARED_FIRST = ("device", "dtype")  # fingerprints of weights differ with the dtype, which is the reason to give
_DIGESTS = {
    "plan": "videos: prompts, seeds or files are not the same, or a file was added, removed or replaced",
    "reference": "true videos: a file was added, removed or replaced",
}


def check_or_write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a result, or check that those in the folder are equal.

    Raises:
        ValueError: if the folder's settings differ or are damaged; the message names the difference.
    """
    path = folder / FILE_NAME
    if not path.exists():
        atomic_write_text(path, json.dumps(settings, indent=1) + "\n")
        return
    try:
        before = dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        raise ValueError(f"{path} is damaged; choose another output folder") from None
    for key in (*_COMPARED_FIRST, *sorted(before.keys() | settings.keys())):
        if before.get(key) != settings.get(key):
            if key == "dtype" and key in before:
                kept, now = (str(each.get(key)).removeprefix("torch.") for each in (before, settings))
                raise ValueError(
                    f"{folder} holds a result with other settings: dtype was {kept} and is now {now}; add "
                    f"--dtype {kept} to go on there, or choose another output folder"
                )
            if key in _DIGESTS:
                raise ValueError(f"{folder} holds a result of other {_DIGESTS[key]}; choose another output folder")
            raise ValueError(
                f"{folder} holds a result with other settings: {key} was {before.get(key)!r} and is now "
                f"{settings.get(key)!r}; choose another output folder"
            )

"""Folders of clips as arguments, each with the name of its system."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from latentshift.user_input.error_text import printable
from latentshift.user_input.unicode_text import check_unicode

HELP = "Folders of clips, one for each system; NAME=FOLDER names it otherwise than the folder."


def named_folders(words: Sequence[str]) -> dict[str, Path]:
    """The folder of each system by its name.

    Args:
        words: ``FOLDER``, whose name is the system's, or ``NAME=FOLDER``.

    Raises:
        ValueError: if two systems have one name, or a name is no text.
    """
    named = []
    for word in words:
        name, equals, folder = word.partition("=")
        path = Path(folder) if equals and not Path(word).is_dir() else Path(word)
        named.append((name if path != Path(word) else Path(os.path.realpath(path)).name, path))
        if not folder and equals:
            raise ValueError(f"{printable(word, 120)} names no folder: write NAME=FOLDER, or FOLDER alone")
        if not named[-1][0].strip():
            raise ValueError(f"{printable(word, 120)} names no system: write NAME=FOLDER, or FOLDER alone")
        check_unicode(named[-1][0], "the name of a system")
    (name, times) = Counter(name for name, _ in named).most_common(1)[0]
    if times > 1:
        raise ValueError(
            f"{times} systems are called {printable(name, 120)}: name them otherwise, as in ours=FOLDER theirs=FOLDER"
        )
    return dict(named)

"""The secret in a study's link: whoever has it can enter as a new rater."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from latentshift.study.database import check_study
from latentshift.user_input.bounded_read import read_text_bounded

INVITATION = "invitation.txt"  # beside study.db, readable by its owner only
_PATTERN = re.compile(r"[A-Za-z0-9_-]{20,100}")


def read_invitation(folder: Path) -> str:
    """The secret of a study, drawn at the first call; the same for all processes from then on.

    Raises:
        FileNotFoundError: where the folder holds no study.
        ValueError: if its file holds something else.
        OSError: if it can't be written.
    """
    path = check_study(folder).with_name(INVITATION)
    if not path.exists():
        _write_once(path, secrets.token_urlsafe(18))
    token = read_text_bounded(path, 1000).strip()
    if not _PATTERN.fullmatch(token):
        raise ValueError(f"{path} does not hold the secret of a link: delete it, and a new one is made")
    return token


def _write_once(path: Path, text: str) -> None:
    """Write a file whole, unless another process does so first."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)  # unlike a rename, it never replaces another's
    finally:
        temporary.unlink()

"""Clips and pictures for a page: within it as data, as long as there is room, else as links to their files."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from urllib.parse import quote

from latentshift.user_input.bounded_read import read_bytes_bounded

TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".png": "image/png",
}
PAGE_BYTES = 24 * 2**20  # of all files within one page
FILE_BYTES = 4 * 2**20  # of one file within it
_PICTURE_QUALITY = 82  # of WebP, for pictures that are larger than they need be
_PICTURE_BYTES = 2**18  # from here on a .png is made smaller


class MediaBudget:
    """Places files into one page until it is full.

    Args:
        folder: of the page, from which links start.
        page_bytes: of all files within the page.
        file_bytes: of one file within it.
    """

    def __init__(self, folder: Path, page_bytes: int = PAGE_BYTES, file_bytes: int = FILE_BYTES) -> None:
        self.folder = folder
        self.left = page_bytes
        self.file_bytes = file_bytes

    def source(self, path: Path) -> str | None:
        """What ``src`` says for a file: data, or a link relative to the page; None for a type that pages don't play."""
        kind = TYPES.get(path.suffix.lower())
        if kind is None or not path.is_file():
            return None
        if path.stat().st_size > min(self.left, self.file_bytes):
            return relative_url(path, self.folder)
        content = read_bytes_bounded(path, self.file_bytes)
        if kind == "image/png" and len(content) > _PICTURE_BYTES:
            content, kind = _smaller(content), "image/webp"
        self.left -= len(content)
        return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def is_video(path: Path) -> bool:
    """Whether a file is played by a ``video`` element rather than shown as a picture."""
    return TYPES.get(path.suffix.lower(), "").startswith("video/")


def relative_url(path: Path, folder: Path) -> str:
    """A link from a page in ``folder`` to a file."""
    return quote(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix())


def _smaller(png: bytes) -> bytes:
    """A picture as lossy WebP."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").save(buffer, "WEBP", quality=_PICTURE_QUALITY, method=4)
    return buffer.getvalue()

"""Metadata of video files: a small JSON object, in the text field of each file type.

It holds the caller's metadata, and under "_video" the frame rate and number of frames, which a folder or a .png does
not store otherwise, and which restore the repeated frames that .gif and .webp merge.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentshift.user_input.bounded_read import parse_json_bounded, read_text_bounded

RECORD = "_video"  # the key of the metadata that is this package's own
DEFAULT_FPS = 8
EXIF_DESCRIPTION = 0x010E
IMAGES = (".gif", ".webp", ".png")


def encode(path: object, metadata: Mapping[str, object], fps: float, num_frames: int) -> str:
    """The JSON to store: ASCII, which every file type preserves, and canonical.

    Args:
        path: of the file, for messages.
        metadata: the caller's.
        fps: frames per second.
        num_frames: F.

    Raises:
        ValueError: for metadata that JSON can't say, or with the key ``RECORD``.
    """
    if RECORD in metadata:
        raise ValueError(f'{path} can\'t hold metadata with the key "{RECORD}": it is taken, rename yours')
    record = {"fps": float(fps), "frames": num_frames}
    try:
        return json.dumps({**metadata, RECORD: record}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} can't hold this metadata, because JSON can't say it: {error}") from error


def recorded(metadata: Mapping[str, Any]) -> tuple[float, int]:
    """Frame rate and number of frames as recorded, or (8, 0)."""
    record = metadata.get(RECORD)
    fps, num_frames = (record.get("fps"), record.get("frames")) if isinstance(record, dict) else (None, None)
    if isinstance(fps, float) and math.isfinite(fps) and fps > 0 and isinstance(num_frames, int):
        return fps, num_frames
    return float(DEFAULT_FPS), 0


def read_text(path: Path) -> dict[str, Any]:
    """The JSON object in a file, with this module's own record; ``{}`` if there is none."""
    text: Any = None
    if path.is_dir():
        sidecar = path / "metadata.json"
        text = read_text_bounded(sidecar) if sidecar.exists() else None
    elif path.suffix.lower() in IMAGES:
        from PIL import Image

        with Image.open(path) as image:  # .png, .gif, .webp
            text = image.info.get("Comment") or image.info.get("comment") or image.getexif().get(EXIF_DESCRIPTION)
    else:
        import av

        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            text = container.metadata.get("comment")
    try:
        values = parse_json_bounded(text.decode() if isinstance(text, bytes) else str(text or "{}"), "the comment")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def reason(error: Exception) -> str:
    """A short reason for any exception of a library."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

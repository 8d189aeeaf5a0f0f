"""What a video file carries beside its pictures: a small JSON object, wherever its kind keeps text.

It holds the caller's metadata, and under "_video" the frame rate and number of frames, which a folder or a .png cannot
say otherwise, and from which the repeated frames come back that .gif and .webp merge.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentshift.bounded_read import parse_json_bounded, read_text_bounded

RECORD = "_video"  # the key of the metadata that is this package's own
DEFAULT_FPS = 8
EXIF_DESCRIPTION = 0x010E
IMAGES = (".gif", ".webp", ".png")


def encode(path: object, metadata: Mapping[str, object], fps: float, num_frames: int) -> str:
    """The JSON to store: ASCII, the one text that every kind of file keeps as it is, and the same for equal objects."""
    if RECORD in metadata:
        raise ValueError(f'{path} can\'t hold metadata with the key "{RECORD}": it is taken, rename yours')
    record = {"fps": float(fps), "frames": num_frames}
    try:
        return json.dumps({**metadata, RECORD: record}, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} can't hold this metadata, because JSON can't say it: {error}") from error


def recorded(found: Mapping[str, Any]) -> tuple[float, int]:
    """Frame rate and number of frames as recorded, or (8, 0)."""
    record = found.get(RECORD)
    fps, num_frames = (record.get("fps"), record.get("frames")) if isinstance(record, dict) else (None, None)
    if isinstance(fps, float) and math.isfinite(fps) and fps > 0 and isinstance(num_frames, int):
        return fps, num_frames
    return float(DEFAULT_FPS), 0


def read_text(path: Path) -> dict[str, Any]:
    """The JSON object in a file, with this module's own record; ``{}`` where there is none."""
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
        found = parse_json_bounded(text.decode() if isinstance(text, bytes) else str(text or "{}"), "the comment")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def reason(error: Exception) -> str:
    """Why it failed, in a few words, whatever a library raised."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

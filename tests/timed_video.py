"""Videos of frames at given times."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video_at(path: Path, times: np.ndarray, frames: list[np.ndarray], **settings: object) -> Path:
    """A video whose frames are shown at these times (seconds)."""
    base = Fraction(1, 90_000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(90_000, 3000), options={"crf": "8", "g": "12"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.time_base = "yuv420p", base
        stream.codec_context.time_base = base
        for key, value in settings.items():
            setattr(stream.codec_context, key, value)
        for when, pixels in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(when / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path

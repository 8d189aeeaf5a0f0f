"""The options ``--video CLIP``, ``--video-start SECONDS`` and ``--strength S``, read before a model is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentshift.data.footage.named_clip import check_named_clip, read_named_clip
from latentshift.settings import VIDEO_STRENGTH, check_strength, steps_kept
from latentshift.video.cut import Cut


@dataclass(frozen=True)
class VideoOption:
    """A clip to start from.

    Attributes:
        path: of it.
        start: in seconds; None: its beginning.
        strength: in [0, 1].
    """

    path: Path
    start: float | None
    strength: float

    def read_for(
        self,
        own: tuple[int | None, int | None, float | None],
        frames: int | None,
        height: int | None,
        width: int | None,
        fps: float | None,
    ) -> dict[str, Any]:
        """The arguments of a pipeline's call.

        Args:
            own: the model's number of frames, their side in pixels and frames a second, where nothing else is asked
                for; None where they are not known before it is loaded.
            frames: that were asked for, or None.
            height: likewise, in pixels.
            width: likewise.
            fps: likewise: the distance of the frames in the clip.

        Returns:
            ``video`` and ``strength``; nothing if something is not known.

        Raises:
            ValueError: if the clip can't be used, or has too few frames.
        """
        frames, fps = frames or own[0], own[2] if fps is None else fps
        height, width = height or own[1], width or own[1]
        if frames is None or height is None or width is None or fps is None:
            return {}
        clip = read_named_clip(self.path, frames, fps, Cut(height, width), self.start).astype("float32") / 255
        return {"video": clip[0] if len(clip) == 1 else clip, "strength": self.strength}


def read_video_option(
    video: Path | None, start: float | None, strength: float | None, steps: int | None
) -> VideoOption | None:
    """All three options, without reading the clip.

    Args:
        video: of a file or folder; None without.
        start: in seconds; None: the clip's beginning.
        strength: in [0, 1]; None: ``VIDEO_STRENGTH``.
        steps: that were asked for, or None.

    Raises:
        ValueError: for an option without ``--video``, a number out of range, or what is no clip.
    """
    if video is None:
        for name, value in (("--strength", strength), ("--video-start", start)):
            if value is not None:
                raise ValueError(f"{name} is of --video: name a clip to start from, or leave it out")
        return None
    strength = VIDEO_STRENGTH if strength is None else strength
    check_strength(strength, "--strength")
    if steps is not None and steps >= 1:
        steps_kept(steps, strength, "--strength")
    if start is not None and not (math.isfinite(start) and start >= 0):
        raise ValueError(f"--video-start must be 0 or more seconds, not {start:g}")
    check_named_clip(video, start)
    return VideoOption(video, start, strength)

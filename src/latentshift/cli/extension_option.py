"""The options ``--extend N`` and ``--overlap K``, checked before a model is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from latentshift.settings import MAX_FRAMES, check_extension


@dataclass(frozen=True)
class ExtensionOption:
    """How far a clip goes on.

    Attributes:
        count: N extensions; 0: none.
        overlap: K frames; None: half of a call's.
    """

    count: int = 0
    overlap: int | None = None

    def overlap_of(self, frames: int) -> int | None:
        """K of calls of so many frames; None without extensions."""
        if not self.count:
            return None
        return max(1, frames // 2) if self.overlap is None else self.overlap

    def total(self, frames: int) -> int:
        """Frames of the video whose calls have so many.

        Raises:
            ValueError: if K is not below them, or there are too many in all.
        """
        overlap = self.overlap_of(frames)
        if overlap is None:
            return frames
        check_extension(self.count, overlap, frames, options=True)
        total = frames + self.count * (frames - overlap)
        if total > MAX_FRAMES:
            raise ValueError(f"--extend {self.count} makes {total:,} frames, and a video has at most {MAX_FRAMES:,}")
        return total


def read_extension(extend: int | None, overlap: int | None, *, loop: bool, frames: int | None) -> ExtensionOption:
    """Both options.

    Args:
        extend: N; None without one.
        overlap: K; None without one.
        loop: whether the video is to loop.
        frames: of a call; None where it is not known yet.

    Raises:
        ValueError: for a number out of range, ``--overlap`` alone, a loop, or an image.
    """
    if extend is None:
        if overlap is not None:
            raise ValueError("--overlap is of --extend: say how often the video goes on, as --extend 2")
        return ExtensionOption()
    if loop:
        raise ValueError("--extend and --loop don't go together: the end of a loop goes on with its beginning")
    if frames == 1:
        raise ValueError("--extend is for videos, and --frames 1 makes an image")
    option = ExtensionOption(extend, overlap)
    if frames is not None:
        option.total(frames)
    else:
        check_extension(extend, 1, 2, options=True)  # the overlap's bound is the model's number of frames
    return option

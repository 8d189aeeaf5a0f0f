"""How frames are split over processes. Imports no torch, so that what can't be split is refused at once."""

from __future__ import annotations

from itertools import pairwise


def split_frames(num_frames: int, parts: int) -> list[slice]:
    """Consecutive parts of F frames, whose sizes differ by one at most.

    Raises:
        ValueError: for fewer frames than parts.
    """
    if num_frames < parts:
        raise ValueError(
            f"a video of {num_frames} frame{'s' if num_frames > 1 else ''} can't be split over {parts} processes: "
            "ask for more frames, or start fewer"
        )
    ends = [-(-num_frames * number // parts) for number in range(parts + 1)]
    return [slice(*each) for each in pairwise(ends)]


def count_parts(processes: int, *, guidance_parallel: bool) -> int:
    """R, into how many parts so many processes split the frames.

    Raises:
        ValueError: if half of them can't take over guidance.
    """
    if guidance_parallel and processes % 2:
        raise ValueError(
            f"guidance over processes needs an even number of them, and not {processes}: half predict for the prompt, "
            "half for what to avoid"
        )
    return processes // 2 if guidance_parallel else processes

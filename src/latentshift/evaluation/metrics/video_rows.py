"""Rows of features kept by video: an accumulator whose merge is exactly the whole, whatever the split."""

from __future__ import annotations

import hashlib
import heapq

import numpy as np


def check_rows(rows: np.ndarray, what: str = "features") -> None:
    """Raises ValueError unless ``rows`` is a floating array (R, D) with R, D >= 1 and finite values."""
    if not isinstance(rows, np.ndarray) or not np.issubdtype(rows.dtype, np.floating):
        raise ValueError(f"{what} are a floating array, not {getattr(rows, 'dtype', type(rows).__name__)}")
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"{what} have the shape (rows, columns) with at least one of each, not {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError(f"{what} contain values that are not finite")


def repeats_said(repeats: int, videos: int, what: str) -> tuple[str, ...]:
    """The warning of so many repeats among so many videos; ``what`` says which set this is."""
    return (f"{repeats:,} of {videos:,} {what} videos repeat another one.",) if repeats else ()


class VideoRows:
    """Rows of each video by its index: features of its frames, or one row for its clip.

    Equal for any order of arrival and any split over processes, bit by bit, since rows are read in order of the
    videos' indices. With a ``limit`` it keeps a uniform sample of the videos in bounded memory: those with the smallest
    hash of (seed, index), which no split changes either.

    Args:
        limit: videos to keep; None keeps all.
        seed: of the sample.

    Raises:
        ValueError: for a limit below 1.
    """

    def __init__(self, limit: int | None = None, seed: int = 0) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"the limit of videos to keep must be at least 1, not {limit}")
        self.limit = limit
        self.seed = seed
        self._seen: set[int] = set()
        self._kept: dict[int, np.ndarray] = {}
        self._heap: list[tuple[int, int]] = []  # (-hash, video): the first is the next to go
        self._width: int | None = None

    def __len__(self) -> int:
        """Videos kept."""
        return len(self._kept)

    @property
    def seen(self) -> int:
        """Videos added, of which ``len()`` are kept."""
        return len(self._seen)

    def repeat_warning(self, what: str) -> tuple[str, ...]:
        """A warning if kept videos have exactly the rows of another one; ``what`` says which set this is."""
        digests = {hashlib.sha256(repr(rows.shape).encode() + rows.tobytes()).digest() for rows in self._kept.values()}
        return repeats_said(len(self._kept) - len(digests), len(self._kept), what)

    def add(self, video: int, rows: np.ndarray) -> None:
        """Add a video.

        Args:
            video: its index, >= 0.
            rows: floating (R, D), finite; copied.

        Raises:
            ValueError: for other rows, another D than before, or a video that was added before. No video counts twice.
        """
        check_rows(rows, f"features of video {video}")
        self._check_width(rows.shape[1])
        if video < 0 or video in self._seen:
            raise ValueError(f"video {video} was added before" if video >= 0 else f"a video's index is >= 0: {video}")
        self._width = rows.shape[1]
        self._seen.add(video)
        self._keep(video, rows.copy())

    def merge(self, other: VideoRows) -> None:
        """Add the videos of another process's accumulator, which stays as it is.

        Raises:
            ValueError: if they have a video in common, or differ in D, limit or seed. Nothing is added then.
        """
        if (self.limit, self.seed) != (other.limit, other.seed):
            raise ValueError("accumulators with different limits or seeds can't be merged")
        if other._width is not None:
            self._check_width(other._width)
        both = self._seen & other._seen
        if both:
            raise ValueError(f"{len(both)} videos are in both parts, the first is video {min(both)}")
        self._width = self._width or other._width
        self._seen |= other._seen
        for video, rows in other._kept.items():
            self._keep(video, rows)

    def by_video(self) -> list[np.ndarray]:
        """The rows of each kept video, in order of the videos' indices: float64 (R, D) each.

        Raises:
            ValueError: if there are none.
        """
        if not self._kept:
            raise ValueError("there are no videos to measure")
        return [self._kept[video].astype(np.float64) for video in sorted(self._kept)]

    def _check_width(self, width: int) -> None:
        if self._width not in (None, width):
            raise ValueError(f"all videos must have the same number of features: {self._width} and {width}")

    def _keep(self, video: int, rows: np.ndarray) -> None:
        self._kept[video] = rows
        if self.limit is None:
            return
        digest = hashlib.blake2b(f"{self.seed}:{video}".encode(), digest_size=8).digest()
        heapq.heappush(self._heap, (-int.from_bytes(digest), video))
        if len(self._kept) > self.limit:
            del self._kept[heapq.heappop(self._heap)[1]]

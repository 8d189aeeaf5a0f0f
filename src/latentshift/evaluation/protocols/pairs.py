"""Clips read each beside its true clip: PSNR and SSIM.

Legend of shapes: F frames, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from latentshift.data.rejected import Rejected
from latentshift.data.worker_pool import WorkerLimits
from latentshift.evaluation.metrics.psnr_ssim import LEAST_SIDE, MOST_DECIBELS, psnr, ssim
from latentshift.evaluation.protocols.clip_files import FrameChoice, clip_lengths, read_clips
from latentshift.evaluation.protocols.measure import PSNR, SSIM
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.protocols.run import Video


class PairedVideos:
    """Reads both clips of each pair, and measures one beside the other.

    Args:
        clips: folder of the clips.
        reference: folder of the true clips.
        true_of: as of :class:`.pairing.Pairs`.
        choice: which frames of each.
        limits: of the reading processes.
    """

    def __init__(
        self, clips: Path, reference: Path, true_of: Mapping[str, Item], choice: FrameChoice, limits: WorkerLimits
    ) -> None:
        self.clips, self.reference, self.true_of = clips, reference, true_of
        self.choice, self.limits = choice, limits
        self._true: dict[int, np.ndarray] = {}  # of the pair at hand

    def make(self, wanted: Iterable[tuple[int, Item]]) -> Iterator[Video]:
        """The clips, in order; one that can't stand beside its true clip is rejected."""
        pairs = list(wanted)
        lengths: list[dict[str, tuple[int, float]]] = [{}, {}]
        if self.choice.seconds is None:
            lengths = self._lengths([item for _, item in pairs])
        ours = read_clips(self.clips, pairs, self.choice, self.limits)
        true_items = [(index, self.true_of[item.file or ""]) for index, item in pairs]
        theirs = read_clips(self.reference, true_items, self.choice, self.limits)
        for (index, item, video), (_, true_item, true) in zip(ours, theirs, strict=True):
            if not isinstance(video, Rejected):
                video = _fitting(video, true, true_item)
            own_length, true_length = lengths[0].get(item.file or ""), lengths[1].get(true_item.file or "")
            if not isinstance(video, Rejected) and own_length and true_length:
                video = _of_one_time(video, own_length, true_length)
            if not isinstance(video, Rejected) and not isinstance(true, Rejected):
                self._true = {index: true}
            yield index, item, video, item.file

    def _lengths(self, items: list[Item]) -> list[dict[str, tuple[int, float]]]:
        """Of the clips, and of their true clips."""
        true_items = [self.true_of[item.file or ""] for item in items]
        return [
            clip_lengths(self.clips, items, self.limits),
            clip_lengths(self.reference, true_items, self.limits),
        ]

    def values(self, index: int, video: np.ndarray) -> dict[str, float]:
        """PSNR and SSIM of the clip that was made last, means over its frames."""
        true = self._true[index]
        values = {PSNR: float(np.minimum(psnr(video, true), MOST_DECIBELS).mean())}
        if min(video.shape[1:3]) >= LEAST_SIDE:
            values[SSIM] = float(ssim(video, true).mean())
        return values


def _fitting(video: np.ndarray, true: np.ndarray | Rejected, true_item: Item) -> np.ndarray | Rejected:
    if isinstance(true, Rejected):
        return Rejected(true.kind, f"its true clip {true_item.name} can't be used: {true.reason}")
    if video.shape != true.shape:
        sizes = [f"{each.shape[2]}x{each.shape[1]}" for each in (video, true)]
        return Rejected(
            "bad-row", f"it is {sizes[0]} and its true clip {sizes[1]}: with --size both are resized and cropped alike"
        )
    return video


def _of_one_time(video: np.ndarray, own: tuple[int, float], true: tuple[int, float]) -> np.ndarray | Rejected:
    """Refuse a clip whose frames, spread over it, are of other moments than those of its true clip.

    They are of the same where the clips have as many frames, or last as long.
    """
    (count, lasts), (true_count, true_lasts) = own, true
    frame = min(lasts / count, true_lasts / true_count)
    if count == true_count or abs(lasts - true_lasts) <= frame / 2:
        return video
    return Rejected(
        "bad-row",
        f"it has {count} frames in {lasts:.3g} s and its true clip {true_count} in {true_lasts:.3g} s: with "
        f"--seconds {min(lasts, true_lasts):.3g} the beginnings of both are compared",
    )

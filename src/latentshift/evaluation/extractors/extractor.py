"""What every extractor is: uint8 videos in, float32 rows out, each video on its own.

Legend of shapes: B videos, F frames, H and W pixels, D width of a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from latentshift.evaluation.extractors.cache import CachedExtractor
from latentshift.evaluation.extractors.known import Output, Per


class Extractor(Protocol):
    """Turns videos into rows of features.

    Attributes:
        name: as on the command line.
        sha256: of the weights.
        verified: whether that is a published checksum.
        per: what a row describes: a frame, or a whole clip.
        output: what a row is.
        width: D.
        frames: F that a clip must have; None: any from ``least_frames``.
        least_frames: the smallest F.
        resize: the resize rule in words.
    """

    name: str
    sha256: str
    verified: bool
    per: Per
    output: Output
    width: int
    frames: int | None
    least_frames: int
    resize: str

    def __call__(self, videos: Tensor) -> np.ndarray:
        """Rows of each video: float32 (B, F, D), or (B, 1, D) of one that describes clips.

        Args:
            videos: uint8 (B, F, H, W, 3), RGB in 0 … 255, on any device.

        Raises:
            ValueError: for another dtype, shape or number of frames; or if the network gives something else than rows
                of finite numbers of the known width.
        """
        ...


class CachedNetwork(ABC):
    """An :class:`Extractor` of cached files; a subclass says how one video becomes rows.

    A video's rows depend on nothing but the video: it goes through the network on its own, since kernels round
    differently for another size of the batch.

    Args:
        cached: its files.
        device: where the network is.
        output: one of ``cached.known.outputs``; None: the first.

    Raises:
        ValueError: for another output.
    """

    def __init__(self, cached: CachedExtractor, device: torch.device, output: Output | None = None) -> None:
        known = cached.known
        chosen: Output = output if output is not None else next(iter(known.outputs))
        if chosen not in known.outputs:
            raise ValueError(f"the extractor {known.name} gives {' or '.join(known.outputs)}, not {chosen}")
        self.name, self.per, self.resize = known.name, known.per, known.resize
        self.frames, self.least_frames = known.frames, known.least_frames
        self.output, self.width = chosen, known.outputs[chosen]
        self.sha256, self.verified = cached.sha256, cached.verified
        self.device = device

    @abstractmethod
    def rows(self, video: Tensor) -> Tensor:
        """The rows (F or 1, D) of one video, uint8 (F, H, W, 3) on the network's device."""

    def __call__(self, videos: Tensor) -> np.ndarray:
        """As :class:`Extractor` says."""
        self._check(videos)
        with reproducible(self.device):
            made = [self._finite(self.rows(video.to(self.device)), len(video)) for video in videos]
        return np.stack(made)

    def _check(self, videos: Tensor) -> None:
        if videos.dtype != torch.uint8 or videos.ndim != 5 or videos.shape[-1] != 3 or 0 in videos.shape:
            raise ValueError(f"videos are uint8 (B, F, H, W, 3), not {videos.dtype} {tuple(videos.shape)}")
        count = videos.shape[1]
        if self.frames is not None and count != self.frames:
            raise ValueError(f"the extractor {self.name} reads clips of {self.frames} frames, not {count}")
        if count < self.least_frames:
            raise ValueError(
                f"the extractor {self.name} needs clips of {self.least_frames} frames or more, not {count}"
            )

    def _finite(self, rows: Tensor, frames: int) -> np.ndarray:
        expected = (frames if self.per == "frame" else 1, self.width)
        if tuple(rows.shape) != expected:
            raise ValueError(
                f"the extractor {self.name} gave {tuple(rows.shape)} and not {expected}: its file is another one"
            )
        values = rows.float().cpu().numpy()
        if not np.isfinite(values).all():
            raise ValueError(f"the extractor {self.name} gave numbers that are not finite")
        return values


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """No gradients, no autocast, no TF32 and no choice of kernels by trial: the same numbers each time on a device."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        )
        # TorchScript compiles a function anew after its first calls, and the fused kernels round differently.
        stack.enter_context(torch.jit.optimized_execution(False))  # type: ignore[attr-defined]
        yield


def extractor_warnings(extractor: Extractor) -> tuple[str, ...]:
    """What a result must say of its extractor: sentences, empty if there is nothing."""
    if extractor.verified:
        return ()
    return (f"The weights of {extractor.name} are not verified: SHA-256 {extractor.sha256} is not a published one.",)

"""What ``bench length`` measures, checked before torch is imported. Imports no library."""

from __future__ import annotations

from dataclasses import dataclass

from latentshift.models.storage.model_paths import check_model, has_temporal_attention
from latentshift.settings import MAX_FRAMES, PADDINGS, check_chunk


@dataclass(frozen=True)
class LengthSettings:
    """One table.

    Attributes:
        model: as for :func:`latentshift.models.storage.model_paths.resolve_model`.
        frames: of the videos, in order.
        chunk: frames in one call of the U-Net.
        at_once: videos of up to this many frames also go through the U-Net at once, as those of a single chunk do.
        paddings: of the shift.
        steps: that are timed of each video, after a first one.
        rounds: in which all videos take turns.
        device: to calculate on.
        dtype: name of the weights' dtype.
        threads: of torch on the CPU.
        offload_skips: whether skip connections of videos in chunks wait in CPU memory.
    """

    model: str
    frames: tuple[int, ...]
    chunk: int
    at_once: int
    paddings: tuple[str, ...]
    steps: int
    rounds: int
    device: str
    dtype: str
    threads: int
    offload_skips: bool = False

    def chunks_of(self, frames: int) -> list[int]:
        """Chunks that a video of so many frames is made in, one or two: all frames, and the setting's."""
        return list(dict.fromkeys([*([frames] if frames <= self.at_once else []), min(self.chunk, frames)]))


def parse_lengths(words: str) -> tuple[int, ...]:
    """Numbers of frames with commas between them, in rising order, each once.

    Raises:
        ValueError: for what is no such list.
    """
    parts = [word.strip() for word in words.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= MAX_FRAMES for part in parts):
        raise ValueError(f"--frames must be numbers from 1 to {MAX_FRAMES:,} with commas, as 16,64,256, not {words!r}")
    return tuple(sorted({int(part) for part in parts}))


def parse_paddings(words: str) -> tuple[str, ...]:
    """Names of paddings with commas between them, each once.

    Raises:
        ValueError: for an unknown name.
    """
    parts = tuple(dict.fromkeys(word.strip() for word in words.split(",")))
    if unknown := [part for part in parts if part not in PADDINGS]:
        raise ValueError(f"there is no padding {unknown[0]!r}: choose from {', '.join(PADDINGS)}")
    return parts


def check_length(model: str, frames: tuple[int, ...], chunk: int, rounds: int) -> None:
    """Refuse what can't be measured, as far as it shows before libraries are imported.

    Raises:
        ValueError: for the first such setting.
    """
    check_chunk(chunk, max(frames), "--frame-chunk")
    if rounds < 1:
        raise ValueError(f"--rounds must be 1 or more, not {rounds}")
    folder = check_model(model)
    if folder is not None and has_temporal_attention(folder):
        raise ValueError("bench length is for the temporal shift: Latent-VDM looks at all frames at once")

"""Whether compiling a U-Net pays for the videos ahead: arithmetic of numbers that were measured or are given.

Imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from latentshift.settings import SPEEDS, default_chunk

CALLS_TO_MEASURE = 2
"""Calls of the U-Net that are made to see how long one takes: the first is slower than all others."""
SHARE_SAVED = 1 / 6
"""Of a call's time, that compiled code is assumed to save: 1.2 times as fast."""
SECONDS_FOR_A_LAYER = 0.25
"""Of compiling, assumed for each layer of a U-Net that holds weights, of which the bundled model's has 200."""
EXPORT_SECONDS_FOR_A_LAYER = 0.15
"""Of writing an export for OpenVINO with its comparison, assumed for each layer with weights (docs/speed.md)."""


@dataclass(frozen=True)
class SamplingWork:
    """What is going to be made, each video by a call of its own; None: the pipeline's default.

    Attributes:
        videos: number of them, each with the same settings, 1 or more.
        frames: F of each.
        steps: sampling steps of each.
        height: of the frames, in pixels.
        width: of the frames, in pixels.
        guidance_scale: of the calls; only whether it is 1 matters, for that halves the U-Net's batch.
        frame_chunk: frames in one call of the U-Net.
        deep_cache_interval: of the calls, in whose steps not the whole U-Net is called.

    Raises:
        ValueError: if a number is below 1.
    """

    videos: int = 1
    frames: int | None = None
    steps: int | None = None
    height: int | None = None
    width: int | None = None
    guidance_scale: float | None = None
    frame_chunk: int | None = None
    deep_cache_interval: int | None = None

    def __post_init__(self) -> None:
        for name in ("videos", "frames", "steps", "height", "width", "frame_chunk", "deep_cache_interval"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{name} must be a whole number of 1 or more, not {value!r}")


def check_speed(speed: str | None, name: str = "speed") -> None:
    """Refuse an unknown word for speed; None is none.

    Raises:
        ValueError: with the known ones.
    """
    if speed is not None and speed not in SPEEDS:
        raise ValueError(f"unknown {name} {speed!r}: choose from {', '.join(SPEEDS)}")


def why_in_chunks(frames: int, latent_pixels: int, frame_chunk: int | None) -> str | None:
    """Why videos are made in chunks of frames, which compiled code can't be; None: they are made whole."""
    chunk = default_chunk(frames, latent_pixels) if frame_chunk is None else frame_chunk
    if chunk >= frames:
        return None
    return f"{frames:,} frames are sampled {chunk} at a time, and compiled code can't wait for its neighbours"


def why_not_worth_it(calls: int, seconds: float | None, layers: int, calls_of_a_video: int) -> str | None:
    """Why compiling does not pay; None: it does, as far as can be told beforehand.

    Args:
        calls: of the U-Net, that are ahead.
        seconds: that one takes now; None: not measured yet, so that only work too short to measure is refused.
        layers: of the U-Net, with weights.
        calls_of_a_video: of the U-Net.
    """
    if seconds is None:
        if calls > 4 * CALLS_TO_MEASURE:
            return None
        return f"the work ahead is {_calls(calls)} of the U-Net, too few to find out whether it pays"
    compiling, saved_by_a_call = layers * SECONDS_FOR_A_LAYER, seconds * SHARE_SAVED
    if calls * saved_by_a_call > compiling:
        return None
    return (
        f"the work ahead is {_calls(calls)} of the U-Net of {_seconds(seconds)} each, of which compiled code saves "
        f"about {_seconds(calls * saved_by_a_call)} and takes {_seconds(compiling)} or more to make; "
        f"{pays_from(compiling, saved_by_a_call, calls_of_a_video)}"
    )


def why_export(calls: int, seconds: float, layers: int, calls_of_a_video: int, dtype: str) -> str | None:
    """A sentence about OpenVINO, where writing an export for it is expected to take less than it saves; else None.

    Args:
        calls: of the U-Net, that are ahead.
        seconds: that one takes here.
        layers: of the U-Net, with weights.
        calls_of_a_video: of the U-Net.
        dtype: name of the pipeline's.
    """
    writing, saved_by_a_call = layers * EXPORT_SECONDS_FOR_A_LAYER, seconds * SHARE_SAVED
    if calls * saved_by_a_call <= writing:
        return None
    option = " --dtype bfloat16" if dtype == "bfloat16" else ""
    return (
        f"OpenVINO is installed, and may be faster: latentshift export MODEL --to openvino -o DIR writes the model for "
        f"it in about {_seconds(writing)}, latentshift generate --model DIR --runtime openvino{option} makes videos "
        f"with it; {pays_from(writing, saved_by_a_call, calls_of_a_video)}"
    )


def pays_from(spent: float, saved_by_a_call: float, calls_of_a_video: int) -> str:
    """A clause that says from how many videos on something pays.

    Args:
        spent: seconds, once.
        saved_by_a_call: seconds.
        calls_of_a_video: of the U-Net.
    """
    if saved_by_a_call <= 0:
        return "it never pays"
    videos = math.ceil(spent / (saved_by_a_call * calls_of_a_video))
    return f"it pays from about {videos:,} such video{'s' if videos > 1 else ''} on"


def _calls(count: int) -> str:
    return f"{count:,} call{'s' if count > 1 else ''}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:,.0f} s"

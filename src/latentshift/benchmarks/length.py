"""``bench length``: time and memory of videos of more and more frames, at once and in chunks."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import diffusers
import numpy as np
import torch
import transformers

from latentshift.benchmarks.length_settings import LengthSettings
from latentshift.benchmarks.own_process import in_own_process
from latentshift.benchmarks.peak_memory import check_peak, forget_peak, peak
from latentshift.benchmarks.report import Result
from latentshift.benchmarks.timing import spread, take_turns
from latentshift.memory.long_video import pass_memory
from latentshift.pipeline import open_pipeline
from latentshift.video import write_chunks

_PROMPT = "a red star circling on a navy background"
_MIB = 2**20


@dataclass(frozen=True)
class MadeVideo:
    """One video of a process of its own.

    Attributes:
        steps: seconds of each guided step but the first: of processor time on the CPU, else of the wall.
        writing: likewise of decoding and writing an .mp4.
        resting: bytes of the device, or of the process, with the model loaded.
        peak: bytes at the peak, from text to file.
        latents: float32 (F, C, h, w), to compare.
    """

    steps: tuple[float, ...]
    writing: float
    resting: int
    peak: int
    latents: np.ndarray


def bench_length(settings: LengthSettings) -> Iterator[Result]:
    """Rows of one padding after the other: frames, and how many of them go through the U-Net at a time.

    Raises:
        ValueError: for a model that can't be loaded, a machine that does not tell what a process takes, or a process
            that ended without an answer, as for lack of memory.
    """
    check_peak(torch.device(settings.device))
    dtype = getattr(torch, settings.dtype)
    for padding in settings.paddings:
        cases = [(frames, chunk) for frames in settings.frames for chunk in settings.chunks_of(frames)]
        calls = [partial(_in_turn, settings, padding, frames, chunk) for frames, chunk in cases]
        made = dict(zip(cases, take_turns(calls, settings.rounds), strict=True))
        first = cases[0]
        for (frames, chunk), videos in made.items():
            steps = [seconds for video in videos for seconds in video.steps]
            at_once = made.get((frames, frames))
            yield {
                "padding": padding,
                "frames": frames,
                "frame_chunk": chunk,
                "seconds_a_step": spread(steps),
                "cost_a_frame": _a_frame(videos, frames) / _a_frame(made[first], first[0]),
                "decode_and_write_seconds": spread([video.writing for video in videos]),
                "model_mib": median(video.resting for video in videos) / _MIB,
                "beside_it_mib": spread([(video.peak - video.resting) / _MIB for video in videos]),
                "pass_expected_mib": pass_memory(
                    settings.model,
                    frames,
                    chunk,
                    padding,
                    dtype,
                    offload_skips=settings.offload_skips and chunk < frames,
                )
                / _MIB,
                "difference_to_at_once": None if at_once is None else _difference(videos, at_once),
            }


@torch.no_grad()
def make_video(settings: LengthSettings, padding: str, frames: int, chunk: int) -> MadeVideo:
    """Make one video, from text to file, in this process."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    device = torch.device(settings.device)
    torch.set_num_threads(settings.threads)
    pipeline = open_pipeline(settings.model, dtype=getattr(torch, settings.dtype)).to(device)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.set_shift({**(pipeline.config.shift or {}), "padding": padding})
    clock = time.process_time if device.type == "cpu" else time.perf_counter  # others may be at work on this CPU
    forget_peak(device)
    resting, times = peak(device), []

    def on_step(*_: object) -> dict[str, torch.Tensor]:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(clock())
        return {}

    generator = torch.Generator().manual_seed(0)
    (latents,) = pipeline(
        _PROMPT,
        num_frames=frames,
        num_inference_steps=settings.steps + 1,
        guidance_scale=3.0,
        generator=generator,
        output_type="latent",
        return_dict=False,
        callback_on_step_end=on_step,
        frame_chunk=chunk,
        offload_skips=settings.offload_skips and chunk < frames,
    )[0]
    start = clock()
    with tempfile.TemporaryDirectory() as folder:
        write_chunks(Path(folder) / "video.mp4", pipeline.decode_clip(latents, chunk), frames)
    writing = clock() - start
    steps = tuple(np.diff(times).tolist())
    return MadeVideo(steps, writing, resting, peak(device), latents.float().cpu().numpy())


def _in_turn(settings: LengthSettings, padding: str, frames: int, chunk: int, _round: int) -> MadeVideo:
    return in_own_process(f"a video of {frames} frames", make_video, settings, padding, frames, chunk)


def _a_frame(videos: Sequence[MadeVideo], frames: int) -> float:
    return median(seconds for video in videos for seconds in video.steps) / frames


def _difference(videos: Sequence[MadeVideo], others: Sequence[MadeVideo]) -> float:
    return float(np.abs(videos[0].latents - others[0].latents).max())

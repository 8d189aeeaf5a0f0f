"""From nothing to a video of a saved model: cold, a fresh interpreter, and warm, a process that made one before."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from latentshift.benchmarks.generation.settings import GenerationSettings
from latentshift.benchmarks.generation.time_model import PROMPT, time_start
from latentshift.benchmarks.own_process import in_own_process
from latentshift.benchmarks.report import Result
from latentshift.benchmarks.timing import spread


def start_rows(settings: GenerationSettings) -> Iterator[Result]:
    """Seconds of ``latentshift generate`` from its start to the file's end, and of the parts of a process that stays.

    Raises:
        ValueError: if the command fails; the message is its own.
    """
    commands, processes = [], []
    for _ in range(settings.rounds):
        commands.append(_generate(settings))
        processes.append(in_own_process("a video of the saved model", time_start, settings))
    for what, seconds in (
        ("cold: latentshift generate, from start to file", commands),
        ("in a process with its imports: load", [each.load for each in processes]),
        ("in a process with its imports: first video", [each.first for each in processes]),
        ("warm: the same video again", [each.later for each in processes]),
    ):
        yield {"start": what, "steps": settings.steps, "seconds": spread(seconds)}


def _generate(settings: GenerationSettings) -> float:
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "latentshift", "generate", PROMPT, "--model", settings.base, "--seed", "0"]
        words += ["--frames", str(settings.num_frames), "--steps", str(settings.steps)]
        words += ["--guidance", str(settings.guidance), "--device", settings.device, "--dtype", settings.dtype]
        words += [] if settings.size is None else ["--size", str(settings.size)]
        start = time.perf_counter()
        ended = subprocess.run([*words, "-o", str(Path(folder) / "video.mp4")], capture_output=True, text=True)
        seconds = time.perf_counter() - start
    if ended.returncode:
        lines = ended.stderr.strip().splitlines()
        raise ValueError(f"latentshift generate failed: {lines[-1].removeprefix('error: ') if lines else 'no message'}")
    return seconds

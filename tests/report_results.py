"""Folders of results for tests of reports: small, with true clips, and texts that would break a careless page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from latentshift.evaluation.report.schema import Example, Metric, Rejected, Report, System, write_report
from latentshift.video import write_video

HOSTILE = '<script>alert(1)</script> & "x" | `_*$%#\\{'
PROMPTS = ("a red star", "a dog on a couch", HOSTILE)


def clip(seed: int, frames: int = 4, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, size, size, 3), dtype=np.uint8)


def metric(name: str, value: float, **changes: Any) -> Metric:
    facts: dict[str, Any] = {
        "interval": (0.9 * value, 1.1 * value),
        "interval_kind": "bootstrap over videos",
        "better": "higher" if name == "CLIPSIM" else "lower",
        "n": 100,
        "samples": 1600,
        "n_reference": None if name == "CLIPSIM" else 100,
        "frames": 16,
        "size": "64x64",
        "resize": "bilinear to 299 pixels",
        "extractor": "inception-2015",
        "extractor_sha256": "ab" * 32,
    }
    return Metric(name=name, value=value, **{**facts, **changes})


def write_result(folder: Path, name: str, metrics: tuple[Metric, ...], **changes: Any) -> Path:
    """A result of MSR-VTT with a clip of each prompt."""
    videos = []
    for index, prompt in enumerate(PROMPTS):
        file = f"clips/{index}.mp4"
        write_video(folder / file, clip(index), metadata={"prompt": prompt, "seed": index})
        videos.append(Example(index=index, prompt=prompt, seed=index, file=file, values={"CLIPSIM": 0.3 - index / 100}))
    facts: dict[str, Any] = {
        "protocol": "msrvtt",
        "command": f"latentshift evaluate msrvtt DATA --model {name}",
        "date": "2026-11-26",
        "latentshift": "0",
        "system": System(name=name, kind="video", model=name),
        "settings": {"n": 100, "size": "64x64", "sampler": "ddpm", "steps": 100, "guidance": 7.5, "note": HOSTILE},
        "metrics": metrics,
        "videos": tuple(videos),
        "rejected": (Rejected(file=HOSTILE, reason="it can't be decoded"),),
    }
    write_report(folder, Report(**{**facts, **changes}))
    return folder

"""The options of ``latentshift generate``, as they were typed; :mod:`.command` says what each means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TORCH = "torch"


@dataclass(frozen=True)
class GenerateOptions:
    """One attribute for each option, by the name of the command's parameter; None where none was given."""

    prompts: list[str] | None
    prompts_file: Path | None
    output: Path | None
    suffix: str | None
    contact_sheet: Path | None
    model: str
    variant: str | None
    lora: list[str] | None
    delta: Path | None
    frames: int | None
    steps: int | None
    guidance: float | None
    guidance_interval: str | None
    negative: str | None
    sampler: str | None
    seed: int | None
    fps: float | None
    size: str | None
    prompt_at: list[str] | None
    keyframe: list[str] | None
    video: Path | None
    strength: float | None
    video_start: float | None
    extend: int | None
    overlap: int | None
    loop: bool
    frame_chunk: int | None
    offload_skips: bool
    preview: bool | None
    guidance_parallel: bool
    rank_timeout: float
    speed: str | None
    deep_cache: int | None
    deep_cache_branch: int
    device: str
    dtype: str
    runtime: str

"""Evaluate a pipeline on sprites: generate, read and score the videos of each part, with contact sheets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentshift.contact_sheet import contact_sheet
from latentshift.evaluation.sprites_study import (
    PARTS,
    Part,
    check_or_write_settings,
    prompts_of,
    read_part,
    score_log,
    score_part,
    true_clip,
)
from latentshift.files import atomic_write_text
from latentshift.frame_context import frames_independent
from latentshift.models.autoencoder import mean_latents
from latentshift.models.fingerprint import model_fingerprint
from latentshift.pipeline import LatentShiftPipeline
from latentshift.progress import progress_bar, status
from latentshift.video import as_clip, to_uint8, to_unit, write_video

_SHEET_ROWS = 16
SCORES = ("background", "colour", "motion", "thing", "joint")


class Study:
    """A sprites study in a folder; repeating it resumes where it was interrupted.

    Args:
        pipeline: to evaluate, with its sampler.
        name: of the model, for the report.
        output: the folder.
        steps: of the sampler.
        guidance: scale; None: the model's default.
        true_clips: at most so many true clips of each part are scored too, rendered and through the autoencoder.

    Raises:
        ValueError: for invalid settings, or if the folder holds a study with other settings.
    """

    def __init__(
        self,
        pipeline: LatentShiftPipeline,
        name: str,
        output: Path,
        steps: int,
        guidance: float | None = None,
        *,
        true_clips: int = 128,
    ) -> None:
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline
        self.name = name
        self.output = output
        self.steps = steps
        self.true_clips = true_clips
        self.scale = float(pipeline.config.guidance_scale) if guidance is None else guidance
        pipeline.check_inputs(["a"], 1, pipeline.sample_size, pipeline.sample_size, steps, self.scale, 1, "pil")
        with status("reading the model's weights"):
            contents = model_fingerprint(*pipeline.components.values())
        self.settings = {
            "contents": contents,
            "shift": pipeline.config.shift,
            "frames": pipeline.config.num_frames,
            "steps": steps,
            "guidance": self.scale,
            "sampler": type(pipeline.scheduler).__name__,
            "device": pipeline.device.type,
            "dtype": str(pipeline.dtype),
        }
        if pipeline.config.noise_share > 0:  # left out at 0, as in studies from before there was one
            self.settings["noise_share"] = pipeline.config.noise_share
        check_or_write_settings(output, self.settings)

    def scores(self, counts: Mapping[str, int]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name and scores of each part, as soon as it is scored; ``report.json`` is written at the end.

        Args:
            counts: number of videos of each part (:data:`latentshift.evaluation.sprites_study.PARTS`); 0 skips it.
        """
        report: dict[str, Any] = {"model": self.name, "settings": self.settings, "parts": []}
        for part in PARTS:
            if counts.get(part.name):
                report["parts"].append(self._read(part, counts[part.name]))
                yield part.name, report["parts"][-1]
        atomic_write_text(self.output / "report.json", json.dumps(report, indent=1) + "\n")

    def _read(self, part: Part, count: int) -> dict[str, Any]:
        def generate(prompt: str, seed: int) -> np.ndarray:
            return self._generate(prompt, seed, part)

        size = self.pipeline.sample_size
        log = self.output / "readings" / f"{part.name}.jsonl"
        picture = self.output / f"{part.name}.png"
        first: list[np.ndarray] = []
        shown = min(_SHEET_ROWS, count)
        videos = read_part(part, count, size, generate, log)
        bar = progress_bar(videos, total=count, text=part.name, unit="video")
        for index, video in enumerate(bar):
            if video is not None and index < shown:
                first.append(video)
        wanted = prompts_of(part, shown, size)
        if len(first) < shown and not picture.exists():  # an interrupted run has read some of them
            again = progress_bar(wanted, text=f"{part.name}: picture", unit="video", leave=False)
            first = [generate(prompt, seed) for _, prompt, seed in again]
        if len(first) == shown:
            write_video(picture, contact_sheet(first, [prompt for _, prompt, _ in wanted], columns=16)[None])
        return {
            **score_part(part, count, size, log),
            "true_clips": self._read_true_clips(part, min(count, self.true_clips)),
        }

    def _read_true_clips(self, part: Part, count: int) -> dict[str, Any]:
        """The scores of the true clips of a part's prompts, as they are rendered and through the autoencoder."""
        if not count:
            return {}
        size = self.pipeline.sample_size
        # Parts that differ in how a model generates have the same true clips.
        kind = "images" if part.image else "held_out" if part.held_out else "seen"

        def rendered(_: str, seed: int) -> np.ndarray:
            return true_clip(part, seed - part.first_seed, size)

        def through_autoencoder(prompt: str, seed: int) -> np.ndarray:
            return reconstruct(self.pipeline, rendered(prompt, seed))

        scores = {}
        for name, make in (("rendered", rendered), ("through_autoencoder", through_autoencoder)):
            log = self.output / "readings" / f"true_{kind}_{name}.jsonl"
            videos = read_part(part, count, size, make, log)
            for _ in progress_bar(videos, total=count, text=f"{part.name}: true clips", unit="video", leave=False):
                pass
            scores[name] = score_log(part, count, size, log)
        return scores

    def _generate(self, prompt: str, seed: int, part: Part) -> np.ndarray:
        with nullcontext() if part.shift else frames_independent(self.pipeline.unet):
            (video,) = self.pipeline(
                prompt,
                num_frames=1 if part.image else None,
                num_inference_steps=self.steps,
                guidance_scale=self.scale,
                generator=torch.Generator().manual_seed(seed),
                return_dict=False,
            )[0]
        return as_clip(video)


@torch.no_grad()
def reconstruct(pipeline: LatentShiftPipeline, clip: np.ndarray) -> np.ndarray:
    """A clip, uint8 (F, S, S, 3), through the autoencoder: the posterior's mean, decoded as a generated video is.

    Raises:
        NotFiniteError: if the autoencoder's output is not finite.
    """
    pixels = to_unit(torch.from_numpy(clip)).permute(0, 3, 1, 2).to(pipeline.device, pipeline.vae.dtype)
    (frames,) = pipeline.decode(mean_latents(pipeline.vae, pixels)[None])
    return to_uint8(frames.float().cpu().permute(0, 2, 3, 1).numpy())

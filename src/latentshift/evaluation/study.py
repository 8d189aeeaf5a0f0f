"""Evaluate a pipeline on sprites: generate, read and score the videos of each part, with contact sheets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentshift.contact_sheet import contact_sheet
from latentshift.evaluation.report.schema import write_report
from latentshift.evaluation.sprite_examples import choose_examples
from latentshift.evaluation.sprite_report import study_report
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
from latentshift.frame_context import frames_independent
from latentshift.models.autoencoder import mean_latents
from latentshift.models.fingerprint import model_fingerprint
from latentshift.pipeline import LatentShiftPipeline
from latentshift.progress import progress_bar, status
from latentshift.prompt_slug import prompt_slug
from latentshift.video import as_clip, check_output, read_video, to_uint8, to_unit, write_video

_SHEET_ROWS = 16
SCORES = ("background", "colour", "motion", "thing", "joint")


class Study:
    """A sprites study in a folder; repeating it resumes where it was interrupted.

    Every clip is kept in ``clips/``, in a folder for each part, under names as ``latentshift generate`` gives them.

    Args:
        pipeline: to evaluate, with its sampler.
        name: of the model, for the report.
        output: the folder.
        steps: of the sampler.
        guidance: scale; None: the model's default.
        true_clips: at most so many true clips of each part are scored too, rendered and through the autoencoder.

    Raises:
        ValueError: for invalid settings, or if the folder holds a study with other settings.
        OSError: if no clips can be written there.
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
        self.fps = float(pipeline.config.fps)
        check_output(output / "clips" / "clip.mp4", pipeline.config.num_frames, fps=self.fps)
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

    def scores(self, counts: Mapping[str, int], command: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        """Name and scores of each part, as soon as it is scored; ``report.json`` is written at the end.

        Args:
            counts: number of videos of each part (:data:`latentshift.evaluation.sprites_study.PARTS`); 0 skips it.
            command: that makes the study, for the report.
        """
        parts = []
        for part in PARTS:
            if counts.get(part.name):
                parts.append(self._read(part, counts[part.name]))
                yield part.name, parts[-1]
        frames, size = self.pipeline.config.num_frames, self.pipeline.sample_size
        report = study_report(self.name, self.settings, parts, command=command, frames=frames, size=size)
        write_report(self.output, report)

    def _read(self, part: Part, count: int) -> dict[str, Any]:
        size = self.pipeline.sample_size
        log = self.output / "readings" / f"{part.name}.jsonl"

        def generate(prompt: str, seed: int) -> np.ndarray:
            # Before its reading, so that what has been read has a clip.
            return self._generate_and_keep(prompt, seed, part)

        videos = read_part(part, count, size, generate, log)
        bar = progress_bar(videos, total=count, text=part.name, unit="video")
        made = [index for index, video in enumerate(bar) if video is not None]
        self._draw_sheet(part, min(_SHEET_ROWS, count), made)
        return {
            **score_part(part, count, size, log),
            "true_clips": self._read_true_clips(part, min(count, self.true_clips)),
            "examples": self._examples(part, count, log),
        }

    def _draw_sheet(self, part: Part, rows: int, made: Sequence[int]) -> None:
        """Write the picture of a part's first videos, unless it is there and none of them is new."""
        picture = self.output / f"{part.name}.png"
        if picture.exists() and not any(index < rows for index in made):
            return
        wanted = prompts_of(part, rows, self.pipeline.sample_size)
        bar = progress_bar(wanted, text=f"{part.name}: picture", unit="video", leave=False)
        clips = [read_video(self._kept_clip(prompt, seed, part))[0] for _, prompt, seed in bar]
        write_video(picture, contact_sheet(clips, [prompt for _, prompt, _ in wanted], columns=16)[None])

    def _examples(self, part: Part, count: int, log: Path) -> dict[str, list[dict[str, Any]]]:
        """The part's first, best and worst videos, with the files of their clips relative to the study's folder."""
        examples = choose_examples(part, count, self.pipeline.sample_size, log)
        for each in progress_bar(
            [each for chosen in examples.values() for each in chosen],
            text=f"{part.name}: examples",
            unit="video",
            leave=False,
        ):
            each["file"] = self._kept_clip(each["prompt"], each["seed"], part).relative_to(self.output).as_posix()
        return examples

    def _kept_clip(self, prompt: str, seed: int, part: Part) -> Path:
        """The file of a clip, generated again where a study of an earlier version kept none."""
        path = self._clip_path(prompt, seed, part)
        if not path.exists():
            self._generate_and_keep(prompt, seed, part)
        return path

    def _generate_and_keep(self, prompt: str, seed: int, part: Part) -> np.ndarray:
        video = self._generate(prompt, seed, part)
        path = self._clip_path(prompt, seed, part)
        write_video(path, video, fps=self.fps, metadata={"prompt": prompt, "seed": seed, "model": self.name})
        return video

    def _clip_path(self, prompt: str, seed: int, part: Part) -> Path:
        suffix = ".png" if part.image else ".mp4"
        return self.output / "clips" / part.name / f"{prompt_slug(prompt)}-{seed}{suffix}"

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

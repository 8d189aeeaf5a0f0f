"""Evaluate a pipeline on sprites: generate, read and score the videos of each part, with contact sheets.

The folder holds ``settings.json``, ``readings/`` with what was measured of each part's videos and of some true clips,
``reference/`` with features of the true clips of all prompts, ``clips/``, pictures and ``report.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentshift.contact_sheet import contact_sheet
from latentshift.diffusion.fewer_operations import FewerOperations
from latentshift.evaluation.extractors.extractor import Extractor
from latentshift.evaluation.extractors.load import load_extractor
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.run import Video, Worker, measure_plan
from latentshift.evaluation.protocols.systems import KeepWord
from latentshift.evaluation.report.schema import write_report
from latentshift.evaluation.settings_file import check_or_write_settings
from latentshift.evaluation.sprites.distances import distance_extractors, measure_true_clips, summarize_distances
from latentshift.evaluation.sprites.earlier_readings import take_over_earlier
from latentshift.evaluation.sprites.examples import choose_examples
from latentshift.evaluation.sprites.parts import PARTS, Part, plan_of, prompts_of, true_clip
from latentshift.evaluation.sprites.readings import ReadingMeasurer, load_readings
from latentshift.evaluation.sprites.report import study_report
from latentshift.evaluation.sprites.scores import score_part, score_readings
from latentshift.evaluation.sprites.seeded_clip import seeded_clip
from latentshift.files import clear_leftovers
from latentshift.frame_context import frames_independent
from latentshift.models.autoencoder import mean_latents
from latentshift.models.storage.fingerprint import model_fingerprint
from latentshift.pipeline import LatentShiftPipeline
from latentshift.progress import progress_bar, status
from latentshift.video import check_output, read_video, to_uint8, to_unit, write_video
from latentshift.video.prompt_slug import prompt_slug

_SHEET_ROWS = 16
READINGS, REFERENCE = "readings", "reference"


class Study:
    """A sprites study in a folder; repeating it resumes where it was interrupted.

    Clips are kept in ``clips/``, in a folder for each part, under names as ``latentshift generate`` gives them.

    Args:
        pipeline: to evaluate, with its sampler.
        name: of the model, for the report.
        output: the folder.
        steps: of the sampler.
        guidance: scale; None: the model's default.
        true_clips: at most so many true clips of each part are scored too, rendered and through the autoencoder.
        worker: this process among those that share the videos; their numbers do not depend on how many there are.
        fewer: operations that calls leave out.
        keep: which clips stay when a part is scored: ``all``, ``examples`` (those that the page shows), or ``none``.

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
        worker: Worker = Worker(),
        fewer: FewerOperations = FewerOperations(),
        keep: KeepWord = "all",
    ) -> None:
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline
        self.name = name
        self.output = output
        self.steps = steps
        self.true_clips = true_clips
        self.worker = worker
        self.fewer = fewer
        self.keep = keep
        self._extractors: dict[str, Extractor] = {}
        self.scale = float(pipeline.config.guidance_scale) if guidance is None else guidance
        pipeline.check_inputs(1, pipeline.sample_size, pipeline.sample_size, steps, self.scale, 1, "pil")
        self.fps = float(pipeline.config.fps)
        check_output(output / "clips" / "clip.mp4", pipeline.config.num_frames, fps=self.fps)
        with status("reading the model's weights", shown=worker.is_first):
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
        self.settings |= {
            name: list(each) if isinstance(each, tuple) else each for name, each in fewer.arguments().items()
        }
        if worker.is_first:
            check_or_write_settings(output, self.settings)
        worker.barrier()
        check_or_write_settings(output, self.settings)  # each worker's: its machine may have another dtype or device

    def scores(self, counts: Mapping[str, int], command: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        """Name and scores of each part, as soon as it is scored; ``report.json`` is written at the end.

        All workers have to go through it; the first one alone gets the scores.

        Args:
            counts: number of videos of each part (:data:`latentshift.evaluation.sprites.parts.PARTS`); 0 skips it.
            command: that makes the study, for the report.

        Raises:
            ValueError: if readings are damaged, or features there are of other extractors.
        """
        parts = []
        frames, size = self.pipeline.config.num_frames, self.pipeline.sample_size
        for part in PARTS:
            count = counts.get(part.name, 0)
            if not count:
                continue
            new = self._measure(part, count)
            self._measure_true_clips(part, min(count, self.true_clips))
            if self.worker.is_first:
                parts.append(self._score(part, count, new))
                yield part.name, parts[-1]
        if self.worker.is_first:
            report = study_report(self.name, self.settings, parts, command=command, frames=frames, size=size)
            write_report(self.output, report)

    def _measure(self, part: Part, count: int) -> list[int]:
        """Make and measure this worker's share of a part's videos, and its true clips; indices of all new videos."""
        extractors = self._open_extractors(part)
        folder = self.output / READINGS / part.name
        if self.worker.is_first:
            # Features of other networks must not stand beside these.
            hashes = {key: each.sha256 for key, each in extractors.items()}
            check_or_write_settings(self._reference(part), {"extractors": hashes, "size": self.pipeline.sample_size})
            take_over_earlier(folder.with_suffix(".jsonl"), folder, part, self.pipeline.sample_size)
        self.worker.barrier()

        def make(wanted: Iterable[tuple[int, Item]]) -> Iterator[Video]:
            for index, item in wanted:
                assert item.seed is not None
                # The clip is written before its reading, so that what has been read has a clip.
                yield index, item, self._generate_and_keep(item.prompt, item.seed, part), None

        items = plan_of(part, count, self.pipeline.sample_size)
        measure_true_clips(self._reference(part), part, count, self.pipeline.sample_size, extractors, self.worker)
        measurer = ReadingMeasurer(extractors, texts=False)
        return measure_plan(folder, items, make, measurer, self.worker, part.name, prefix=True)

    def _open_extractors(self, part: Part) -> dict[str, Extractor]:
        keys, _ = distance_extractors(part, self._frames(part))
        for key in keys:
            if key not in self._extractors:
                self._extractors[key] = load_extractor(key, self.pipeline.device)
        return {key: self._extractors[key] for key in keys}

    def _frames(self, part: Part) -> int:
        return 1 if part.image else part.frames or int(self.pipeline.config.num_frames)

    def _reference(self, part: Part) -> Path:
        return self.output / REFERENCE / part.true_clips

    def _score(self, part: Part, count: int, new: Sequence[int]) -> dict[str, Any]:
        size = self.pipeline.sample_size
        clear_leftovers(self.output / "clips" / part.name)  # of killed workers; none writes there now
        self._draw_sheet(part, min(_SHEET_ROWS, count), new)
        kept = Readings(self.output / READINGS / part.name, count, prefix=True)
        readings = load_readings(kept, part, size)
        infos = ReadingMeasurer(self._open_extractors(part)).infos
        distances = summarize_distances(kept, self._reference(part), part, infos)
        _, notes = distance_extractors(part, self._frames(part))
        examples = choose_examples(part, size, readings)
        examples = self._with_files(part, examples)
        self._remove_clips(part, count, examples)
        return {
            **score_part(part, size, readings),
            "true_clips": self._true_clip_scores(part, min(count, self.true_clips)),
            "examples": examples,
            "distances": [each.model_dump(mode="json") for each in distances.metrics],
            "notes": [*notes, *distances.notes],
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

    def _with_files(self, part: Part, examples: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
        """The part's first, best and worst videos, with the files of their clips relative to the study's folder."""
        if self.keep == "none":
            return {kind: [{**each, "file": None} for each in chosen] for kind, chosen in examples.items()}
        for each in progress_bar(
            [each for chosen in examples.values() for each in chosen],
            text=f"{part.name}: examples",
            unit="video",
            leave=False,
        ):
            each["file"] = self._kept_clip(each["prompt"], each["seed"], part).relative_to(self.output).as_posix()
        return examples

    def _remove_clips(self, part: Part, count: int, examples: Mapping[str, list[dict[str, Any]]]) -> None:
        """Delete the part's clips that are not to stay; other files in the folder are none of ours."""
        if self.keep == "all":
            return
        shown = {each["file"] for chosen in examples.values() for each in chosen}
        for _, prompt, seed in prompts_of(part, count, self.pipeline.sample_size):
            path = self._clip_path(prompt, seed, part)
            if path.relative_to(self.output).as_posix() not in shown:
                path.unlink(missing_ok=True)

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

    def _measure_true_clips(self, part: Part, count: int) -> None:
        """Read this worker's share of a part's true clips, as they are rendered and through the autoencoder."""
        size = self.pipeline.sample_size

        def rendered(index: int) -> np.ndarray:
            return true_clip(part, index, size)

        def through_autoencoder(index: int) -> np.ndarray:
            return reconstruct(self.pipeline, rendered(index))

        for name, clip in (("rendered", rendered), ("through_autoencoder", through_autoencoder)):

            def make(wanted: Iterable[tuple[int, Item]], clip: Callable[[int], np.ndarray] = clip) -> Iterator[Video]:
                for index, item in wanted:
                    yield index, item, clip(index), None

            folder = self._true_readings(part, name)
            if count:
                if self.worker.is_first:
                    take_over_earlier(folder.with_suffix(".jsonl"), folder, part, size)
                self.worker.barrier()
                text = f"{part.name}: true clips"
                items = plan_of(part, count, size)
                measure_plan(folder, items, make, ReadingMeasurer({}), self.worker, text, prefix=True)

    def _true_clip_scores(self, part: Part, count: int) -> dict[str, Any]:
        size = self.pipeline.sample_size
        names = ("rendered", "through_autoencoder") if count else ()
        folders = {name: self._true_readings(part, name) for name in names}
        return {
            name: score_readings(part, size, load_readings(Readings(folder, count, prefix=True), part, size))
            for name, folder in folders.items()
        }

    def _true_readings(self, part: Part, name: str) -> Path:
        return self.output / READINGS / f"true_{part.true_clips}_{name}"

    def _generate(self, prompt: str, seed: int, part: Part) -> np.ndarray:
        with nullcontext() if part.shift else frames_independent(self.pipeline.unet):
            return seeded_clip(
                self.pipeline,
                prompt,
                seed,
                steps=self.steps,
                guidance=self.scale,
                num_frames=self._frames(part),
                **self.fewer.arguments(),
            )


@torch.no_grad()
def reconstruct(pipeline: LatentShiftPipeline, clip: np.ndarray) -> np.ndarray:
    """A clip, uint8 (F, S, S, 3), through the autoencoder: the posterior's mean, decoded as a generated video is.

    Raises:
        NotFiniteError: if the autoencoder's output is not finite.
    """
    pixels = to_unit(torch.from_numpy(clip)).permute(0, 3, 1, 2).to(pipeline.device, pipeline.vae.dtype)
    (frames,) = pipeline.decode(mean_latents(pipeline.vae, pixels)[None])
    return to_uint8(frames.float().cpu().permute(0, 2, 3, 1).numpy())

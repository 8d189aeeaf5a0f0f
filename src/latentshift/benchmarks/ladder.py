"""The ladder: temporal methods and settings, trained from one image model at equal budget, and scored on sprites.

Every rung takes the same steps on the same data with the same seeds; what differs is how frames meet, and how much of
their noise they share (the paper's comparison, Sec. 4.1, on the sprites world). The image model that all start from
is scored as well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from latentshift.benchmarks.ladder_table import ladder_rows
from latentshift.benchmarks.report import Result
from latentshift.benchmarks.rungs import METHOD_RUNGS, Rung, check_image_base, check_ladder_recipe
from latentshift.benchmarks.timing import interleaved_timing
from latentshift.benchmarks.train import training_step
from latentshift.data.sprites import NUM_FRAMES, Sprites
from latentshift.diffusion.samplers import make_sampler
from latentshift.evaluation.sprites.parts import PARTS
from latentshift.evaluation.sprites.pool_scores import pool_scores
from latentshift.evaluation.sprites.study import Study
from latentshift.files import atomic_write_text
from latentshift.models.storage.meta_init import meta_components
from latentshift.models.storage.model_paths import resolve_model
from latentshift.models.storage.saved_pipeline import find_family
from latentshift.pipeline import LatentShiftPipeline
from latentshift.training.checkpoints.paths import checkpoint_step, list_checkpoints
from latentshift.training.models.build import prepare_video_model, set_frame_size
from latentshift.training.preflight import validate_run
from latentshift.training.recipe import ImageRecipe, VideoRecipe
from latentshift.training.run import run

_TIMED_STEPS = 5
_QUICK_VIDEOS, _QUICK_SAMPLER_STEPS = 4, 10
_TRUE_CLIPS = 128


def bench_ladder(
    recipe: VideoRecipe,
    folder: Path,
    counts: Mapping[str, int],
    steps: int,
    device: str,
    dtype: torch.dtype,
    quick: bool = False,
    *,
    rungs: Sequence[Rung] = METHOD_RUNGS,
    seeds: int = 1,
    sampler: str | None = None,
) -> Iterator[Result]:
    """The ladder's tables (:func:`latentshift.benchmarks.ladder_table.ladder_rows`).

    Args:
        recipe: as for :class:`Ladder`, like all that is not named here.
        folder: likewise.
        counts: likewise.
        steps: likewise.
        device: likewise.
        dtype: likewise.
        quick: few videos with few sampler steps, and one timed step; the training is as long as its recipe says.
        rungs: likewise.
        seeds: likewise.
        sampler: likewise.

    Raises:
        ValueError: as :meth:`Ladder.check`.
    """
    if quick:
        counts = {part: min(count, _QUICK_VIDEOS) for part, count in counts.items()}
        steps = min(steps, _QUICK_SAMPLER_STEPS)
    ladder = Ladder(recipe, folder, counts, steps, device, dtype, rungs=rungs, seeds=seeds, sampler=sampler)
    ladder.results(timed_steps=1 if quick else _TIMED_STEPS)
    yield from ladder_rows(json.loads(ladder.report.read_text()))


@dataclass(frozen=True)
class RungResult:
    """What one rung came to.

    Attributes:
        rung: its name.
        method: how frames meet.
        shift: settings of the shift that differ from the recipe's.
        noise_share: None: the recipe's.
        temporal_parameters: that it adds to the image model.
        seconds_a_step: of training on clips, on the recipe's device, measured in turns with the other rungs; None: not
            measured yet.
        scores: part of the study -> scores of all seeds
            (:func:`latentshift.evaluation.sprites.pool_scores.pool_scores`).
        seeds: training seed -> part -> scores.
    """

    rung: str
    method: str
    shift: dict[str, Any]
    noise_share: float | None
    temporal_parameters: int
    seconds_a_step: float | None
    scores: dict[str, dict[str, Any]]
    seeds: dict[int, dict[str, dict[str, Any]]]


class Ladder:
    """All rungs in one folder; the same call again goes on where it stopped.

    Args:
        recipe: of stage (c), from an image stage; what the rungs decide, the seed and the output are replaced.
        folder: with a run and a study for each rung and seed, and ``ladder.json``.
        counts: videos of each part of the study.
        steps: of the sampler.
        device: where the study's videos are made.
        dtype: in which the study's videos are made.
        rungs: to climb; default: the three methods with the recipe's own settings.
        seeds: training seeds of each rung, from the recipe's seed on.
        sampler: name as in ``generate``; None: the model's.
    """

    def __init__(
        self,
        recipe: VideoRecipe,
        folder: Path,
        counts: Mapping[str, int],
        steps: int,
        device: str,
        dtype: torch.dtype,
        *,
        rungs: Sequence[Rung] = METHOD_RUNGS,
        seeds: int = 1,
        sampler: str | None = None,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.counts = counts
        self.steps = steps
        self.device = device
        self.dtype = dtype
        self.rungs = tuple(rungs)
        self.seeds = range(recipe.seed, recipe.seed + seeds)
        self.sampler = sampler
        self.report = folder / "ladder.json"

    def check(self) -> None:
        """Refuse what would fail, or compare nothing, after hours of training.

        Raises:
            ValueError: for a base that is no image model, a recipe that trains an adapter or exports no model, videos
                of a shape that the base can't make or the reader can't read, settings of the study that don't hold, or
                a folder with a run of another recipe.
        """
        recipe = self.recipe
        check_ladder_recipe(recipe)
        base = resolve_model(recipe.model)
        pipeline = LatentShiftPipeline(**meta_components(base))
        if find_family(base) is None:
            check_image_base(recipe.model, pipeline.method)
        for rung in self.rungs:
            for seed in self.seeds:
                validate_run(rung.recipe(recipe, self.folder, seed), 1)
            pipeline = LatentShiftPipeline(**meta_components(base))
            prepare_video_model(rung.recipe(recipe, self.folder, recipe.seed), pipeline)
            make_sampler(self.sampler, pipeline.scheduler)
        side, frames, scale = pipeline.sample_size, pipeline.config.num_frames, pipeline.config.guidance_scale
        pipeline.check_inputs(frames, side, side, self.steps, scale, 1, "pil")
        Sprites(size=side)
        if frames != NUM_FRAMES:
            raise ValueError(f"the reader reads clips of {NUM_FRAMES} frames, and these would have {frames}")

    def results(self, timed_steps: int = _TIMED_STEPS) -> list[RungResult]:
        """Train, score and time every rung; writes ``ladder.json`` anew after each run.

        Args:
            timed_steps: of each rung; 0 times none.

        Raises:
            ValueError: as :meth:`check`, which comes first.
        """
        self.check()
        image_stage = self._score_image_stage()
        parameters: dict[str, int] = {}
        scores: dict[str, dict[int, dict[str, dict[str, Any]]]] = {rung.name: {} for rung in self.rungs}
        true_clips: dict[str, Any] = {}
        for seed in self.seeds:  # all rungs with one seed first: a ladder that is not finished compares something
            for rung in self.rungs:
                recipe = rung.recipe(self.recipe, self.folder, seed)
                train_once(recipe)
                # All runs have one autoencoder, so that one of them is enough to show what it does.
                scored, parameters[rung.name] = self._score(recipe.output, rung, 0 if true_clips else _TRUE_CLIPS)
                of_true = {part: each.pop("true_clips") for part, each in scored.items()}
                true_clips = true_clips or of_true
                scores[rung.name][seed] = scored
                self._write(image_stage, true_clips, self._results(scores, parameters, {}))
        results = self._results(scores, parameters, self._seconds_a_step(timed_steps) if timed_steps else {})
        self._write(image_stage, true_clips, results)
        return results

    def _results(
        self,
        scores: Mapping[str, dict[int, dict[str, dict[str, Any]]]],
        parameters: Mapping[str, int],
        seconds: Mapping[str, float],
    ) -> list[RungResult]:
        """Of the rungs that have scores."""
        return [
            RungResult(
                rung=rung.name,
                method=rung.method,
                shift=dict(rung.shift),
                noise_share=rung.noise_share,
                temporal_parameters=parameters[rung.name],
                seconds_a_step=seconds.get(rung.name),
                scores={
                    part: pool_scores([each[part] for each in scores[rung.name].values()])
                    for part in parts_of(rung, self.counts)
                },
                seeds=scores[rung.name],
            )
            for rung in self.rungs
            if scores[rung.name]
        ]

    def _write(self, image_stage: dict[str, Any], true_clips: dict[str, Any], results: Sequence[RungResult]) -> None:
        facts = {
            "steps": self.recipe.steps,
            "batch_size": self.recipe.batch_size,
            "seeds": list(self.seeds),
            "sampler": self.sampler,
            "sampler_steps": self.steps,
            "image_stage": image_stage,
            "true_clips": true_clips,
            "rungs": [asdict(each) for each in results],
        }
        atomic_write_text(self.report, json.dumps(facts, indent=1) + "\n")

    def _score_image_stage(self) -> dict[str, Any]:
        """Scores of the one-frame images of the base, without anything between frames."""
        if not self.counts.get("images"):
            return {}
        pipeline = LatentShiftPipeline.from_pretrained(resolve_model(self.recipe.model), dtype=self.dtype)
        pipeline.set_method("none")
        if self.recipe.size is not None:
            set_frame_size(pipeline, self.recipe.size)
        pipeline.scheduler = make_sampler(self.sampler or "ddpm", pipeline.scheduler)  # as the runs' models have it
        study = Study(
            pipeline.to(self.device),
            "image stage",
            self.folder / "image-stage" / "study",
            self.steps,
            self.recipe.guidance_scale,
            true_clips=0,
        )
        ((_, scores),) = study.scores({"images": self.counts["images"]})
        return scores

    def _score(self, run: Path, rung: Rung, true_clips: int) -> tuple[dict[str, dict[str, Any]], int]:
        """The scores of a run's model by part of the study, and the number of its temporal parameters."""
        pipeline = LatentShiftPipeline.from_pretrained(run / "model", dtype=self.dtype).to(self.device)
        assert pipeline.method == rung.method
        pipeline.scheduler = make_sampler(self.sampler, pipeline.scheduler)
        study = Study(pipeline, run.name, run / "study", self.steps, true_clips=true_clips)
        return dict(study.scores(parts_of(rung, self.counts))), pipeline.temporal_parameters

    def _seconds_a_step(self, timed_steps: int) -> dict[str, float]:
        """Of each rung; those that differ only in their noise take the same steps."""
        first: dict[tuple[str, str], Rung] = {}
        for rung in self.rungs:
            first.setdefault(_kind(rung), rung)
        recipes = [rung.recipe(self.recipe, self.folder, self.recipe.seed) for rung in first.values()]
        calls = [training_step(recipe)[0] for recipe in recipes]
        rates = interleaved_timing(calls, timed_steps, clock=time.perf_counter)
        seconds = {kind: 1 / rate for kind, rate in zip(first, rates, strict=True)}
        return {rung.name: seconds[_kind(rung)] for rung in self.rungs}


def train_once(recipe: ImageRecipe | VideoRecipe) -> None:
    """Run a recipe, unless that is done."""
    kept = list_checkpoints(recipe.output / "checkpoints")
    if not (kept and checkpoint_step(kept[-1]) == recipe.steps and (recipe.output / "model").exists()):
        run(recipe)


def _kind(rung: Rung) -> tuple[str, str]:
    return rung.method, json.dumps(rung.shift, sort_keys=True)


def parts_of(rung: Rung, counts: Mapping[str, int]) -> dict[str, int]:
    """The parts that a rung's studies have: without a temporal module nothing can be switched off."""
    off = {part.name for part in PARTS if not part.shift} if rung.method == "none" else set()
    wanted = counts.keys() if rung.parts is None else set(rung.parts)
    return {part: count for part, count in counts.items() if count and part in wanted and part not in off}

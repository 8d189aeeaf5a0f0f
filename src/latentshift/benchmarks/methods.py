"""The methods compared at equal budget: trained from one image model by one recipe, and scored by the analytic reader.

Latent-Shift, Latent-VDM and no temporal module take the same steps on the same data with the same seeds; what differs
is how frames meet (the paper's comparison, Sec. 4.1, on the sprites world).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from latentshift.benchmarks.report import Result
from latentshift.benchmarks.timing import interleaved_timing
from latentshift.benchmarks.train import training_step
from latentshift.data.sprites import NUM_FRAMES, Sprites
from latentshift.evaluation.study import SCORES, Study
from latentshift.files import atomic_write_text
from latentshift.model_paths import resolve_model
from latentshift.models.meta_init import meta_components
from latentshift.models.saved_pipeline import find_family
from latentshift.pipeline import LatentShiftPipeline
from latentshift.settings import METHODS
from latentshift.training.build import prepare_video_model
from latentshift.training.checkpoint_paths import checkpoint_step, list_checkpoints
from latentshift.training.preflight import validate_run
from latentshift.training.recipe import VideoRecipe
from latentshift.training.run import run

_TIMED_STEPS = 5
_QUICK_VIDEOS, _QUICK_SAMPLER_STEPS = 4, 10


def bench_methods(comparison: MethodComparison, quick: bool = False) -> Iterator[Result]:
    """For each part of the study a row for each method, with its shares of right answers (0 … 1).

    Args:
        comparison: of the methods.
        quick: few videos with few sampler steps, and one timed step; the training is as long as its recipe says.

    Raises:
        ValueError: as :meth:`MethodComparison.check`.
    """
    if quick:
        comparison.counts = {part: min(count, _QUICK_VIDEOS) for part, count in comparison.counts.items()}
        comparison.steps = min(comparison.steps, _QUICK_SAMPLER_STEPS)
    results = comparison.results(timed_steps=1 if quick else _TIMED_STEPS)
    for part in results[0].scores:
        names = [name for name in SCORES if results[0].scores[part][name] is not None]
        for each in results:
            yield {
                "method": each.method,
                "temporal_parameters": each.temporal_parameters,
                "seconds_a_step": each.seconds_a_step,
                part: comparison.counts[part],
                **{"all" if name == "joint" else name: float(each.scores[part][name]) for name in names},
            }


@dataclass(frozen=True)
class MethodResult:
    """What one method came to.

    Attributes:
        method: how frames meet.
        temporal_parameters: that it adds to the image model.
        seconds_a_step: of training on clips, on the recipe's device, measured in turns with the other methods.
        scores: part of the study -> shares of right answers.
    """

    method: str
    temporal_parameters: int
    seconds_a_step: float
    scores: dict[str, dict[str, Any]]


class MethodComparison:
    """All methods in one folder; the same call again goes on where it stopped.

    Args:
        recipe: of stage (c), from an image stage; its method and its output are replaced.
        folder: with a run and a study for each method, and ``ladder.json``.
        counts: videos of each part of the study.
        steps: of the sampler.
        device: where the study's videos are made.
        dtype: in which the study's videos are made.
    """

    def __init__(
        self,
        recipe: VideoRecipe,
        folder: Path,
        counts: Mapping[str, int],
        steps: int,
        device: str,
        dtype: torch.dtype,
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.counts = counts
        self.steps = steps
        self.device = device
        self.dtype = dtype

    def check(self) -> None:
        """Refuse what would fail, or compare nothing, after hours of training.

        Raises:
            ValueError: for a base that is no image model, a recipe that trains an adapter or exports no model, videos
                of a shape that the base can't make or the reader can't read, settings of the study that don't hold, or
                a folder with a run of another recipe.
        """
        recipe = self.recipe
        if recipe.lora is not None or (recipe.exports is not None and "model" not in recipe.exports):
            raise ValueError("bench methods compares whole models: leave lora and exports out")
        base = resolve_model(recipe.model)
        pipeline = LatentShiftPipeline(**meta_components(base))
        if find_family(base) is None and pipeline.method != "none":
            raise ValueError(
                f"{recipe.model} is a video model ({pipeline.method}) already, and all methods have to start from one "
                "image model: the run of stage (b)"
            )
        for each in self._recipes():
            validate_run(each, 1)
            prepare_video_model(each, pipeline := LatentShiftPipeline(**meta_components(base)))
        side, frames, scale = pipeline.sample_size, pipeline.config.num_frames, pipeline.config.guidance_scale
        pipeline.check_inputs(["a"], frames, side, side, self.steps, scale, 1, "pil")
        Sprites(size=side)
        if frames != NUM_FRAMES:
            raise ValueError(f"the reader reads clips of {NUM_FRAMES} frames, and these would have {frames}")

    def results(self, timed_steps: int = _TIMED_STEPS) -> list[MethodResult]:
        """Train, score and time every method; writes ``ladder.json``.

        Raises:
            ValueError: as :meth:`check`, which comes first.
        """
        self.check()
        for recipe in self._recipes():
            kept = list_checkpoints(recipe.output / "checkpoints")
            if not (kept and checkpoint_step(kept[-1]) == recipe.steps and (recipe.output / "model").exists()):
                run(recipe)
        scored = {str(recipe.method): self._score(str(recipe.method), recipe.output) for recipe in self._recipes()}
        seconds = self._seconds_a_step(timed_steps)
        results = [
            MethodResult(method, parameters, seconds[method], scores) for method, (parameters, scores) in scored.items()
        ]
        budget = {"steps": self.recipe.steps, "batch_size": self.recipe.batch_size}
        facts = {**budget, "rungs": [asdict(each) for each in results]}
        atomic_write_text(self.folder / "ladder.json", json.dumps(facts, indent=1) + "\n")
        return results

    def _recipes(self) -> Iterator[VideoRecipe]:
        settings = self.recipe.model_dump(mode="json")
        for method in METHODS:
            shift = settings["shift"] if method == "latent-shift" else None
            own = {"method": method, "shift": shift, "output": str(self.folder / method)}
            yield VideoRecipe.model_validate({**settings, **own})

    def _score(self, method: str, output: Path) -> tuple[int, dict[str, dict[str, Any]]]:
        pipeline = LatentShiftPipeline.from_pretrained(output / "model", dtype=self.dtype).to(self.device)
        assert pipeline.method == method
        study = Study(pipeline, method, output / "study", self.steps)
        return pipeline.temporal_parameters, dict(study.scores(self.counts))

    def _seconds_a_step(self, timed_steps: int) -> dict[str, float]:
        recipes = list(self._recipes())
        calls = [training_step(recipe)[0] for recipe in recipes]
        rates = interleaved_timing(calls, timed_steps, clock=time.perf_counter)
        return {str(recipe.method): 1 / rate for recipe, rate in zip(recipes, rates, strict=True)}

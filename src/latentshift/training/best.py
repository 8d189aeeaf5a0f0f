"""Which step of a run is its best: that with the lowest validation error, of those that have a checkpoint."""

from __future__ import annotations

import hashlib
import json
import math

from latentshift.training.checkpoint import Checkpoint, checkpoint_path, load_checkpoint
from latentshift.training.recipe import AnyRecipe, DiffusionSettings

VALIDATION = "validation.jsonl"


def question(recipe: AnyRecipe) -> str | None:
    """A digest of what validation asks: only errors of the same question can be compared. None without validation."""
    if not isinstance(recipe, DiffusionSettings) or recipe.validation is None:
        return None
    asked = recipe.validation.model_dump_json(exclude={"every"})
    return hashlib.sha256(asked.encode()).hexdigest()[:12]


def validated_steps(recipe: AnyRecipe) -> dict[int, float]:
    """Step -> its error, of all steps at which the recipe's question was asked and answered with a number."""
    path = recipe.output / VALIDATION
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    wanted = question(recipe)
    return {line["step"]: line["error"] for line in lines if line["asked"] == wanted and math.isfinite(line["error"])}


def best_step(recipe: AnyRecipe, also: int | None = None) -> int | None:
    """The best step, the earliest of several; ``also`` counts without a checkpoint. None if there is none."""
    folder = recipe.output / "checkpoints"
    told = validated_steps(recipe)
    kept = [step for step in told if step == also or checkpoint_path(folder, step).exists()]
    return min(kept, key=lambda step: (told[step], step), default=None)


def load_best(recipe: AnyRecipe) -> Checkpoint:
    """The checkpoint of the best step.

    Raises:
        ValueError: if there is none, or it is damaged.
    """
    best = best_step(recipe)
    if best is None:
        raise ValueError(
            f"export_from is best, and no checkpoint of {recipe.output} has a validation error that is a number; "
            "export_from=last exports the last step"
        )
    return load_checkpoint(checkpoint_path(recipe.output / "checkpoints", best))

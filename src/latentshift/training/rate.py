"""The course of the learning rate over a run."""

from __future__ import annotations

import math

from latentshift.training.recipe import AnyRecipe, OptimizerSettings


def learning_rate(settings: OptimizerSettings, step: int, steps: int) -> float:
    """The learning rate of step 1 … ``steps``.

    A linear warm-up; then constant, or half a cosine down to a hundredth; and, where ``decay_steps`` is set, a straight
    line to nothing at the end. With a constant rate a run can be made longer from any checkpoint before that line.
    """
    rate = settings.learning_rate * min(1.0, step / max(1, settings.warmup_steps))
    if settings.schedule == "cosine":
        progress = max(0, step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
        rate *= 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, progress))) / 2
    if settings.decay_steps:
        rate *= min(1.0, (steps - step + 1) / settings.decay_steps)
    return rate


def before_decay(recipe: AnyRecipe) -> int | None:
    """The last step at the full learning rate, from which a run can be made longer; None if it falls all along."""
    return None if recipe.optimizer.schedule == "cosine" else recipe.steps - recipe.optimizer.decay_steps

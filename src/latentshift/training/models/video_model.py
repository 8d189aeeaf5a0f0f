"""The model of a video run: as it begins, and as it stands at the newest checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from latentshift.models.adapters.video_adapter import add_lora, merge_lora
from latentshift.models.storage.fingerprint import model_fingerprint
from latentshift.models.storage.model_paths import BUNDLED
from latentshift.pipeline import LatentShiftPipeline, open_pipeline
from latentshift.training.checkpoints.checkpoint import load_newest_checkpoint
from latentshift.training.models.build import build_objective, lora_of, prepare_video_model
from latentshift.training.recipe import VideoRecipe
from latentshift.training.recipe_file import load_recipe


@dataclass(frozen=True)
class VideoModel:
    """A base as a run trains it.

    Attributes:
        pipeline: with the run's settings, and the adapter that it trains, if any.
        base_fingerprint: of the base alone.
        base_prediction_type: what the base predicts, which the run may change.
    """

    pipeline: LatentShiftPipeline
    base_fingerprint: str
    base_prediction_type: str


def open_video_model(recipe: VideoRecipe) -> VideoModel:
    """Open the base of a run and prepare it for training; new layers are drawn with the recipe's seed.

    Raises:
        ValueError: for a base that can't be read, or can't have the recipe's settings.
    """
    torch.manual_seed(recipe.seed)
    pipeline = _open_base(recipe.model, recipe.variant)
    own_temporal, prediction_type = pipeline.temporal, pipeline.scheduler.config.prediction_type
    prepare_video_model(recipe, pipeline)
    # New layers are this run's own: another library may draw them differently, and a checkpoint holds them.
    temporal = own_temporal if pipeline.temporal is own_temporal else None
    base = model_fingerprint(*{**pipeline.components, "temporal": temporal}.values())
    if recipe.lora is not None:
        add_lora(pipeline.unet, lora_of(recipe.lora))  # after the fingerprint, which is of the base alone
    return VideoModel(pipeline, base, prediction_type)


def open_checkpoint(run: Path) -> tuple[LatentShiftPipeline, int]:
    """Open what a video run would export if its newest intact checkpoint were its end.

    Args:
        run: its folder, with ``recipe.yaml`` and ``checkpoints/``; nothing is written there, and it may be at work.

    Returns:
        The pipeline, with averaged weights, on the CPU in float32; and the checkpoint's step.

    Raises:
        ValueError: for a run of another stage, without an intact checkpoint, or whose base has changed since.
    """
    recipe = load_recipe(run / "recipe.yaml")
    if not isinstance(recipe, VideoRecipe):
        raise ValueError(f"{run} is a run of stage {recipe.stage}, whose checkpoints hold no video model")
    checkpoint, errors = load_newest_checkpoint(run / "checkpoints")
    if checkpoint is None:
        raise ValueError(f"{errors[0]}, and none is intact" if errors else f"{run} has no checkpoint yet")
    model = open_video_model(recipe)
    objective = build_objective(model.pipeline, text_encoded=False)
    trained = {name: value for name, value in objective.named_parameters() if value.requires_grad}
    average = checkpoint.tensors["average"]
    began_with = checkpoint.values.get("fingerprint", {}).get("base", model.base_fingerprint)
    if began_with != model.base_fingerprint or average.keys() != trained.keys():
        raise ValueError(f"{run} began with another base than {recipe.model} is now; put back what it began with")
    with torch.no_grad():
        for name, value in trained.items():
            value.copy_(average[name])
    objective.eval().requires_grad_(False)
    if recipe.lora is not None:
        merge_lora(model.pipeline.unet)
    return model.pipeline, checkpoint.step


def _open_base(model: str, variant: str | None) -> LatentShiftPipeline:
    try:
        return open_pipeline(model, variant=variant)
    except ValueError as error:
        is_there = model == BUNDLED or Path(model).exists()
        hint = "" if is_there else "; train stage (b) first if it is a run"
        raise ValueError(f"{error}{hint}") from error

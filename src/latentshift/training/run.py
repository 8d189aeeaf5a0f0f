"""From a recipe to a trained model: the checks, the stage, and the loop."""

from __future__ import annotations

import sys
from datetime import timedelta

from accelerate import Accelerator

from latentshift.process_group import LaunchedProcess, drain_process_group, other_rank
from latentshift.progress import quiet_inside, status
from latentshift.training.distributed import RANK_TIMEOUT, complete_last_collective, make_accelerator
from latentshift.training.loop import fit
from latentshift.training.main_process import main_process_alone
from latentshift.training.precision import is_slow_in_bf16
from latentshift.training.preflight import lost_shift, validate_run
from latentshift.training.recipe import AnyRecipe
from latentshift.training.run_folder import lock_run
from latentshift.training.stages.autoencoder import AutoencoderStage
from latentshift.training.stages.controlnet import ControlNetStage
from latentshift.training.stages.image import ImageStage
from latentshift.training.stages.video import VideoStage
from latentshift.user_input.error_text import printable


def run(recipe: AnyRecipe, *, quiet: bool = False) -> None:
    """Train to the last step of the recipe; the model lies in ``model/`` of the run's folder afterwards.

    On several processes (``torchrun``, ``accelerate launch``) each of them is to call it.

    Args:
        recipe: of the run.
        quiet: no progress and no summary of the data is printed; warnings are.

    Raises:
        ValueError: for a base or a run's folder that does not fit the recipe, or that another run is using.
        MemoryError, torch.OutOfMemoryError: if memory runs out.
        Terminated: after SIGTERM, when the progress is saved.
        RankError: if another process ends, or does not answer within ``compute.rank_timeout``.
    """
    launched = LaunchedProcess.from_environment("train RECIPE")
    validate_run(recipe, launched.count)  # a refusal comes before the work
    others = "another process of this run", timedelta(seconds=recipe.compute.rank_timeout), RANK_TIMEOUT
    # Before the stage: it sets the threads that building uses.
    with other_rank(*others):
        accelerator = make_accelerator(recipe.compute, recipe.trackers, recipe.output / "tensorboard")
    try:
        with other_rank(*others), quiet_inside(quiet), lock_run(recipe.output, accelerator):
            shown = not quiet and accelerator.is_main_process
            # The main process first: the others find what it has encoded.
            with status("preparing the model and the data", shown=shown):
                with main_process_alone(accelerator) as alone:
                    built = build_stage(recipe, accelerator) if alone else None
                stage = built or build_stage(recipe, accelerator)
            if shown:
                for line in stage.data_summary():
                    print(printable(line, 2000))
                if (lost := lost_shift(recipe)) is not None:
                    print(f"warning: {printable(lost)}", file=sys.stderr)
                if recipe.compute.precision == "bf16" and is_slow_in_bf16(accelerator.device):
                    print(
                        "warning: this CPU has no instructions for bf16, and is many times faster with "
                        "compute.precision=fp32",
                        file=sys.stderr,
                    )
            fit(stage, recipe, accelerator, quiet=quiet)
            complete_last_collective(accelerator)
    finally:
        if accelerator.num_processes > 1:
            drain_process_group()


def build_stage(
    recipe: AnyRecipe, accelerator: Accelerator
) -> AutoencoderStage | ImageStage | VideoStage | ControlNetStage:
    """The recipe's stage for this process; its data is listed, and encoded where the recipe says so."""
    rank, ranks = accelerator.process_index, accelerator.num_processes
    if recipe.stage == "autoencoder":
        return AutoencoderStage(recipe, rank, ranks)
    if recipe.stage == "image":
        return ImageStage(recipe, accelerator.device, rank, ranks)
    if recipe.stage == "controlnet":
        return ControlNetStage(recipe, accelerator.device, rank, ranks)
    return VideoStage(recipe, accelerator.device, rank, ranks)

"""From a recipe to a trained model: the checks, the stage, and the loop."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

import torch
from accelerate import Accelerator

from latentshift.error_text import printable
from latentshift.progress import status
from latentshift.training.distributed import drain_process_group, make_accelerator, micro_batch_count
from latentshift.training.loop import fit
from latentshift.training.precision import is_slow_in_bf16
from latentshift.training.recipe import AnyRecipe, AutoencoderRecipe, ImageRecipe
from latentshift.training.run_folder import check_folder, lock_run
from latentshift.training.stages.autoencoder import AutoencoderStage
from latentshift.training.stages.image import ImageStage
from latentshift.training.stages.video import VideoStage


def run(recipe: AnyRecipe, *, quiet: bool = False) -> None:
    """Train to the last step of the recipe; the model lies in ``model/`` of the run's folder afterwards.

    On several processes (``torchrun``, ``accelerate launch``) each of them is to call it.

    Raises:
        ValueError: for a base or a run's folder that does not fit the recipe, or that another run is using.
        MemoryError, torch.OutOfMemoryError: if memory runs out.
        Terminated: after SIGTERM, when the progress is saved.
    """
    validate_run(recipe, int(os.environ.get("WORLD_SIZE", "1")))  # a refusal comes before the work
    # Before the stage: it sets the threads that building uses.
    accelerator = make_accelerator(recipe.compute, recipe.trackers, recipe.output / "tensorboard")
    try:
        with lock_run(recipe.output, accelerator):
            shown = not quiet and accelerator.is_main_process
            # The main process first: the others find what it has encoded.
            with accelerator.main_process_first(), status("preparing the model and the data", shown=shown):
                stage = build_stage(recipe, accelerator)
            if shown:
                for line in stage.data_lines():
                    print(printable(line, 2000))
                if recipe.compute.precision == "bf16" and is_slow_in_bf16(accelerator.device):
                    print(
                        "warning: this CPU has no instructions for bf16, and is many times faster with "
                        "compute.precision=fp32",
                        file=sys.stderr,
                    )
            fit(stage, recipe, accelerator, quiet=quiet)
    except RuntimeError as error:
        if "closed by peer" in str(error) or "reset by peer" in str(error):
            raise ValueError("another process of this run has ended; its message says why") from error
        raise
    finally:
        drain_process_group(accelerator)


def validate_run(recipe: AnyRecipe, processes: int, *, elsewhere: bool = False) -> None:
    """Refuse what would fail later, as far as that can be known before anything is loaded.

    Args:
        recipe: of the run.
        processes: that would share each batch.
        elsewhere: the run is for another machine, and has the GPU that this one may lack.

    Raises:
        ValueError: for a folder with a run of another recipe, with the base or with what a run would overwrite, a
            batch that so many processes can't share, half precision without a GPU, or a library that is not installed.
        OSError: if the folder can't be written to.
    """
    check_folder(recipe)
    micro_batch_count(recipe.batch_size, recipe.micro_batch_size, processes)
    compute = recipe.compute
    has_gpu = elsewhere or torch.cuda.is_available()
    if compute.precision == "fp16" and (compute.device == "cpu" or not has_gpu):
        raise ValueError("compute.precision fp16 needs a GPU; on the CPU choose bf16 or fp32")
    for name in recipe.trackers:
        if find_spec(name) is None:
            raise ValueError(f"trackers names {name}, which is not installed: pip install {name}, or leave it out")
    if recipe.optimizer.kind == "adamw_8bit" and find_spec("bitsandbytes") is None:
        raise ValueError("optimizer.kind adamw_8bit needs bitsandbytes: pip install 'latentshift[8bit]'")


def build_stage(recipe: AnyRecipe, accelerator: Accelerator) -> AutoencoderStage | ImageStage | VideoStage:
    """The recipe's stage for this process; its data is listed, and encoded where the recipe says so."""
    rank, ranks = accelerator.process_index, accelerator.num_processes
    if isinstance(recipe, AutoencoderRecipe):
        return AutoencoderStage(recipe, rank, ranks)
    if isinstance(recipe, ImageRecipe):
        return ImageStage(recipe, accelerator.device, rank, ranks)
    return VideoStage(recipe, accelerator.device, rank, ranks)

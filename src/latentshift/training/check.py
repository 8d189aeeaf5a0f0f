"""Whether a run can begin, as far as that can be told before anything is loaded."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from latentshift.training.folder import check_folder
from latentshift.training.processes import parts_of_a_share
from latentshift.training.recipe import AnyRecipe


def check_run(recipe: AnyRecipe, processes: int, *, elsewhere: bool = False) -> None:
    """Refuse what would fail later on.

    Args:
        recipe: of the run.
        processes: that would share each batch.
        elsewhere: the run is for another machine, and has the GPU that this one may lack.

    Raises:
        ValueError: for a folder with a run of another recipe, with the base or with what a run would write over, a
            batch that so many processes can't share, half precision without a GPU, or a library that is not installed.
        OSError: if the folder can't be written to.
    """
    check_folder(recipe)
    parts_of_a_share(recipe, processes)
    compute = recipe.compute
    here = elsewhere or torch.cuda.is_available()
    if compute.precision == "fp16" and (compute.device == "cpu" or not here):
        raise ValueError("compute.precision fp16 needs a GPU; on the CPU choose bf16 or fp32")
    for name in recipe.trackers:
        if find_spec(name) is None:
            raise ValueError(f"trackers names {name}, which is not installed: pip install {name}, or leave it out")
    if recipe.optimizer.kind == "adamw_8bit" and find_spec("bitsandbytes") is None:
        raise ValueError("optimizer.kind adamw_8bit needs bitsandbytes: pip install 'latentshift[8bit]'")

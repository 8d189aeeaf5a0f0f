"""Whether a run can start or resume, as far as that can be known before anything is loaded. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from latentshift.files import check_writable
from latentshift.models.storage.model_paths import check_model, read_saved_shift
from latentshift.settings import ShiftConfig
from latentshift.training.checkpoints.paths import checkpoint_step, list_checkpoints
from latentshift.training.recipe import AnyRecipe, VideoRecipe
from latentshift.training.recipe_file import load_recipe

EXPORTS = ("model", "controlnet", "lora.safetensors", "delta.safetensors")
"""What runs make, by name in their folder."""
# What a run would overwrite, and never makes before its recipe.
_RUN_OUTPUTS = ("checkpoints", "samples", *EXPORTS, "metrics.jsonl")


def validate_run(recipe: AnyRecipe, processes: int, *, elsewhere: bool = False) -> None:
    """Refuse what would fail later, as far as that can be known before anything is loaded.

    Args:
        recipe: of the run.
        processes: that would share each batch.
        elsewhere: the run is for another machine, and has the GPU that this one may lack.

    Raises:
        ValueError: for a folder with a run of another recipe, with the base, the data or what a run would overwrite, a
            batch that so many processes can't share, half precision without a GPU, or a library that is not installed.
        OSError: if the folder can't be written to.
    """
    check_folder(recipe.output, recipe.bases)
    for each in recipe.all_sources:
        folder = Path(each.source.removeprefix("folder:"))
        if each.source != "sprites" and folder.resolve() == recipe.output.resolve():
            raise ValueError(
                f"{recipe.output} is the folder of the data, and the run would write its samples among the clips; "
                "choose another output"
            )
    path, checkpoints = recipe.output / "recipe.yaml", list_checkpoints(recipe.output / "checkpoints")
    if path.exists() and checkpoints:
        # Read back through the validation, so that a setting that is new since then has its default.
        recipe.check_resumes(load_recipe(path), checkpoint_step(checkpoints[-1]))
    recipe.micro_batches(processes)
    compute = recipe.compute
    if compute.precision == "fp16" and (compute.device == "cpu" or not (elsewhere or _has_gpu())):
        raise ValueError("compute.precision fp16 needs a GPU; on the CPU choose bf16 or fp32")
    for name in recipe.trackers:
        if find_spec(name) is None:
            raise ValueError(f"trackers names {name}, which is not installed: pip install {name}, or leave it out")
    if recipe.optimizer.kind == "adamw_8bit" and find_spec("bitsandbytes") is None:
        raise ValueError("optimizer.kind adamw_8bit needs bitsandbytes: pip install 'latentshift[8bit]'")


def rate_change(recipe: AnyRecipe, step: int) -> str | None:
    """What is to be said of a run that goes on with another learning rate; None: it has the same, or is new.

    Args:
        recipe: of the run, before it is written to its folder.
        step: of the checkpoint that the run goes on from; 0: there is none.

    Returns:
        One sentence.
    """
    path, rate = recipe.output / "recipe.yaml", recipe.optimizer.learning_rate
    if step == 0 or not path.exists() or (before := load_recipe(path).optimizer.learning_rate) == rate:
        return None
    return f"optimizer.learning_rate was {before:g} up to step {step} of {recipe.output}, and is {rate:g} from there on"


def lost_shift(recipe: AnyRecipe) -> str | None:
    """What is to be said of a run that names some settings of the shift, and so loses others that its base has.

    Returns:
        One sentence; None: nothing is lost.
    """
    if not isinstance(recipe, VideoRecipe) or recipe.shift is None or (folder := check_model(recipe.model)) is None:
        return None
    paper, own = asdict(ShiftConfig()), asdict(recipe.shift)
    saved = read_saved_shift(folder) or {}
    lost = [name for name, value in saved.items() if value != paper.get(name, value) == own.get(name)]
    if not lost:
        return None
    name = lost[0]
    return (
        f"the shift of {recipe.model} has {name} {saved[name]}, and this run has {own[name]}, the paper's, as a "
        f"recipe's shift has where it leaves something out: say shift.{name}={saved[name]} to keep it"
    )


def check_folder(output: Path, bases: Sequence[str | Path]) -> None:
    """Check that a run's folder can be written to, and holds nothing that a run would overwrite.

    Args:
        output: the folder.
        bases: the models that the run starts from.

    Raises:
        ValueError: if the folder holds the base, or files of a run without its recipe.
        OSError: if it can't be written to.
    """
    check_writable(output / "recipe.yaml")
    for base in bases:
        if Path(base).resolve() in (output.resolve(), (output / "model").resolve()):
            raise ValueError(f"{output} holds the model that the run begins from, {base}; choose another output")
    for name in () if (output / "recipe.yaml").exists() else _RUN_OUTPUTS:
        if (output / name).exists():
            raise ValueError(
                f"{output} holds {name}, and no recipe.yaml that says of which run; put it back, or choose another "
                "output"
            )


def _has_gpu() -> bool:
    import torch  # only where half precision makes it matter

    return torch.cuda.is_available()

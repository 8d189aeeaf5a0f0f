"""What can be known of a command before torch is imported: it is refused at once where that does not hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latentshift.files import check_writable
from latentshift.model_paths import check_model, check_steps_and_size, resolve_model
from latentshift.settings import DTYPES, check_guidance

if TYPE_CHECKING:
    from latentshift.training.recipe import AnyRecipe


def check_device_name(name: str) -> None:
    """Refuse a device of a kind that there is not; whether this machine has it, torch knows.

    Raises:
        ValueError: that names those there are.
    """
    kind, colon, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (colon and not index.isdecimal()):
        raise ValueError(f"the device {name!r} cannot be used: there are auto, cpu, cuda, cuda:1, … and mps")


def check_dtype_name(name: str, *, auto: bool = True) -> None:
    """Refuse a dtype that there is not.

    Raises:
        ValueError: that names those there are.
    """
    known = ("auto", *DTYPES) if auto else DTYPES
    if name not in known:
        raise ValueError(f"no dtype is called {name!r}; there are {', '.join(known)}")


def check_new_model(output: Path, dtype: str) -> None:
    """That a model can be written.

    Raises:
        ValueError: if something lies at its place, nothing can be written there, or there is no such dtype.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} exists already; choose another folder, or delete it")
    check_writable(output)
    check_dtype_name(dtype, auto=False)


def check_recipe(recipe: AnyRecipe, *, data: bool) -> None:
    """What a run starts from, as far as its folders tell.

    Args:
        recipe: of the run.
        data: whether its data has to be here.

    Raises:
        ValueError: for a device of no kind that there is, a base or a text encoder that is no model, or a source that
            is not there.
    """
    from latentshift.data.latents.spec import index_path
    from latentshift.data.sources import parse_source

    check_device_name(recipe.compute.device)
    if recipe.base_model is not None:
        check_model(recipe.base_model)
    for name in recipe.text_models:
        resolve_model(name)
    for source in recipe.all_sources if data else ():
        if not index_path(Path(source.source)).is_file():
            parse_source(source.source, source.options)


def check_generation(
    model: str,
    device: str,
    dtype: str,
    sampler: str | None,
    steps: int,
    guidance: float | None,
    *,
    height: int | None = None,
    width: int | None = None,
) -> None:
    """What ``generate`` and ``evaluate`` ask of a model, as far as its folder and the words tell.

    Raises:
        ValueError: for the first that does not hold.
    """
    from latentshift.diffusion.samplers import SAMPLERS

    check_device_name(device)
    check_dtype_name(dtype)
    if sampler is not None and sampler not in SAMPLERS:
        raise ValueError(f"no sampler is called {sampler!r}; there are {', '.join(SAMPLERS)}")
    if guidance is not None:
        check_guidance(guidance)
    folder = check_model(model)
    if folder is not None:
        check_steps_and_size(folder, steps, height, width)
    if steps < 1:
        raise ValueError(f"--steps must be 1 or more, not {steps}")

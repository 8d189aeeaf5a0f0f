"""Checks of a command before torch is imported, so that mistakes are refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latentshift.files import check_writable
from latentshift.model_paths import check_model, check_size_to_train, check_steps_and_size, resolve_model
from latentshift.settings import DTYPES, check_guidance

if TYPE_CHECKING:
    from latentshift.training.recipe import AnyRecipe


def check_device_name(name: str) -> None:
    """Refuse an unknown device type; whether this machine has the device is checked later by torch.

    Raises:
        ValueError: for an unknown device.
    """
    kind, colon, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (colon and not index.isdecimal()):
        raise ValueError(f"the device {name!r} cannot be used: choose from auto, cpu, cuda, cuda:1, … and mps")


def check_dtype_name(name: str, *, auto: bool = True) -> None:
    """Refuse an unknown dtype.

    Raises:
        ValueError: for an unknown dtype.
    """
    known = ("auto", *DTYPES) if auto else DTYPES
    if name not in known:
        raise ValueError(f"unknown dtype {name!r}: choose from {', '.join(known)}")


def check_new_model(output: Path, dtype: str) -> None:
    """Check that a model can be written.

    Raises:
        ValueError: if the folder exists and is not empty, can't be written, or the dtype is unknown.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} exists already; choose another folder, or delete it")
    check_writable(output)
    check_dtype_name(dtype, auto=False)


def check_recipe(recipe: AnyRecipe, *, data: bool) -> None:
    """Check the models and sources of a recipe as far as possible without loading them.

    Args:
        recipe: of the run.
        data: whether its data must exist on this machine.

    Raises:
        ValueError: for an unknown device, a base or text encoder that is not a model, a size of frames that the base
            can't have, or a missing source.
    """
    from latentshift.data.latents.spec import index_path
    from latentshift.data.sources import parse_source

    check_device_name(recipe.compute.device)
    if recipe.base_model is not None:
        folder = check_model(recipe.base_model)
        if folder is not None and recipe.new_size is not None:
            check_size_to_train(folder, recipe.new_size)
    for name in recipe.text_models:
        resolve_model(name)
    for source in recipe.all_sources if data else ():
        if not index_path(Path(source.source)).is_file():
            parse_source(source.source, source.options)


def check_data(recipe: AnyRecipe) -> None:
    """Check that each source of a recipe lists something that it can use; encoded clips are checked when opened.

    Raises:
        ValueError: for a source that can't be listed or offers nothing.
    """
    from latentshift.data.latents.spec import index_path
    from latentshift.data.sources import check_not_empty, parse_source

    for source in recipe.all_sources:
        if not index_path(Path(source.source)).is_file():
            listed = parse_source(source.source, source.options)
            check_not_empty(listed, captioned=source.captioned, no_images=recipe.no_images(source))


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
    """Check the options of ``generate`` and ``evaluate`` as far as possible without loading the model.

    Raises:
        ValueError: for the first invalid option.
    """
    from latentshift.diffusion.samplers import SAMPLERS

    check_device_name(device)
    check_dtype_name(dtype)
    if sampler is not None and sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler {sampler!r}: choose from {', '.join(SAMPLERS)}")
    if guidance is not None:
        check_guidance(guidance)
    folder = check_model(model)
    if folder is not None:
        check_steps_and_size(folder, steps, height, width)
    if steps < 1:
        raise ValueError(f"--steps must be 1 or more, not {steps}")

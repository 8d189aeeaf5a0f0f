"""Checks of a command before torch is imported, so that mistakes are refused at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentshift.cli.extension_option import ExtensionOption
from latentshift.diffusion.sampler_names import DISTILLED_SAMPLERS, SAMPLERS, check_distilled, timestep_spacing
from latentshift.files import check_writable, missing_file
from latentshift.memory.machine_memory import machine_memory
from latentshift.models.compile_decision import check_speed
from latentshift.models.storage.model_paths import (
    check_model,
    check_size_to_train,
    check_steps_and_size,
    has_temporal_attention,
    read_video_size,
    resolve_model,
)
from latentshift.settings import DTYPES, IMAGE_MODEL_FRAMES, MAX_FRAMES, ShiftConfig, check_chunk, check_guidance

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


def check_sampler_name(name: str | None, steps: int | None = None, *, adapted: bool | None = None) -> None:
    """Refuse an unknown sampler, and one for distilled weights where there are none; None is the model's.

    Args:
        name: of the sampler.
        steps: that were asked for; None: none were.
        adapted: whether there are adapters; None: the command takes none.

    Raises:
        ValueError: with the known names.
    """
    known = SAMPLERS if adapted is None else SAMPLERS | DISTILLED_SAMPLERS
    if name is not None and name not in SAMPLERS | DISTILLED_SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}: choose from {', '.join(known)}")
    check_distilled(name, steps, adapted=adapted)


def check_frame_count(frames: int) -> None:
    """Refuse a number of frames that no saved model may have.

    Raises:
        ValueError: with the valid range.
    """
    if not 1 <= frames <= MAX_FRAMES:
        raise ValueError(f"--frames must be from 1 to {MAX_FRAMES:,}, not {frames:,}")


def check_model_files(model: str, variant: str | None) -> Path | None:
    """Refuse a model that can't be loaded, has a wrong or unsupported setting, or no weights of the variant.

    Args:
        model: as for :func:`latentshift.models.storage.model_paths.check_model`.
        variant: of its weight files.

    Returns:
        Its folder; None for a hub id.

    Raises:
        ValueError: if it can't be loaded, as far as that shows without loading it.
    """
    from latentshift.models.storage.base_settings import check_saved_configs
    from latentshift.models.storage.model_config import check_config_files, check_part_folders, saved_parts
    from latentshift.models.storage.weight_files import check_variant

    folder = check_model(model)
    if folder is not None:
        check_config_files(folder)
        check_saved_configs(folder)
        check_part_folders(folder, saved_parts(folder))
        check_variant(folder, saved_parts(folder), variant)
    return folder


def check_adapters(loras: Sequence[str], delta: Path | None, model: str, variant: str | None) -> None:
    """Refuse adapter files that are missing, damaged, pickles, or of another kind or model, by their headers.

    Args:
        loras: ``FILE`` or ``FILE:WEIGHT`` of each LoRA, of latentshift's training or of any other.
        delta: a file with the difference of all weights; None for none.
        model: that they are for.
        variant: of its weight files.

    Raises:
        ValueError: for the first such file, or for two LoRAs of latentshift, or a LoRA and the delta, that were trained
            with different settings.
    """
    from latentshift.models.adapters.adapter_fit import check_delta_fits, check_lora_fits, saved_layers
    from latentshift.models.adapters.lora_file import is_own_lora, parse_lora, read_lora_layers, read_own_layers
    from latentshift.models.storage.model_config import read_adapter_metadata

    if delta is None and not loras:
        return
    folder = check_model(model)
    of_model = {} if folder is None else saved_layers(folder, variant)  # what is not known fits
    if delta is not None:
        read_adapter_metadata(delta, "delta")
        check_delta_fits(delta, of_model)
    own: list[Path] = []
    for path, _ in [parse_lora(each) for each in loras]:
        if is_own_lora(path):
            own.append(path)
            _lora_metadata(path)
        check_lora_fits(read_own_layers(path) if path in own else read_lora_layers(path), of_model, str(path))
    trained = [(metadata["settings"], metadata["temporal"]) for path in own if (metadata := _lora_metadata(path))]
    for path, settings in zip(own, trained, strict=True):
        if settings != trained[0] or (len(own) > 1 and settings[1] is not None):
            raise ValueError(f"{own[0]} and {path} are video models with settings of their own: use one of them")
    if delta is not None and own and _video_model(read_adapter_metadata(delta)) != _video_model(_lora_metadata(own[0])):
        raise ValueError(f"{delta} and {own[0]} are video models with settings of their own: use one of them")


def _video_model(metadata: dict[str, Any]) -> tuple[Any, ...]:
    """How frames meet and share noise in the model that an adapter's file makes of its base."""
    settings = metadata["settings"]
    shift = settings["shift"] and ShiftConfig.from_dict(settings["shift"])
    return shift, settings.get("noise_share", 0.0), settings["prediction_type"], metadata["temporal"]


def _lora_metadata(path: Path) -> dict[str, Any]:
    from latentshift.models.storage.model_config import read_adapter_metadata

    return read_adapter_metadata(path, "lora")


def check_original_checkpoint(file: Path, family: str | None) -> None:
    """Refuse a file that is no checkpoint in the original layout, as far as its header shows.

    Args:
        file: a ``.safetensors`` file, or a torch checkpoint, of which only the first bytes are looked at.
        family: given by the user.

    Raises:
        ValueError: if it is missing or damaged, or if no family, several, or not the wanted one matches.
    """
    from latentshift.models.storage.original_layout import find_original_family
    from latentshift.models.storage.safetensors_header import open_safetensors

    if not file.is_file():
        way = f": latentshift init --base {file} -o DIR makes a video model of a folder" if file.is_dir() else ""
        raise ValueError(missing_file(file) + way)
    if file.suffix == ".safetensors":
        with open_safetensors(file) as tensors:
            names = list(tensors.keys())
        try:
            find_original_family(names, family)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        return
    with file.open("rb") as start:
        if not start.read(4).startswith((b"PK", b"\x80")):
            raise ValueError(f"{file} is damaged or no checkpoint: it begins like neither a zip file nor a pickle")


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
        ValueError: for an unknown device, a base or text encoder that is not a model, a variant that the
            base does not have, a size of frames that it can't have, a curriculum of frames that has as many as its
            clips, or a missing source.
    """
    from latentshift.data.latents.spec import index_path
    from latentshift.data.sources import parse_source

    check_device_name(recipe.compute.device)
    if recipe.base_model is not None:
        folder = check_model_files(recipe.base_model, recipe.base_variant)
        if folder is not None and recipe.new_size is not None:
            check_size_to_train(folder, recipe.new_size)
        if folder is not None and recipe.stage == "video" and recipe.num_frames is None:
            recipe.check_curriculum_fits(read_video_size(folder)[0] or IMAGE_MODEL_FRAMES)
    for name in recipe.text_models:
        resolve_model(name)
    for source in recipe.all_sources if data else ():
        if not index_path(Path(source.source)).is_file():
            parse_source(source.source, source.options)


def check_data(recipe: AnyRecipe) -> None:
    """Check that each source of a recipe lists something that it can use; encoded clips are checked when opened.

    Each list is read up to the first usable entry; the run lists it in full, when it holds the lock of its folder.

    Raises:
        ValueError: for a source that can't be listed or offers nothing.
    """
    from latentshift.data.latents.spec import index_path
    from latentshift.data.sources import check_not_empty, parse_source

    for source in recipe.all_sources:
        if not index_path(Path(source.source)).is_file():
            listed = parse_source(source.source, source.options)
            check_not_empty(
                listed, captioned=source.captioned, images_unused_reason=recipe.images_unused_reason(source)
            )


def check_generation(
    model: str,
    device: str,
    dtype: str,
    sampler: str | None,
    steps: int | None,
    guidance: float | None,
    *,
    variant: str | None = None,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    frame_chunk: int | None = None,
    extension: ExtensionOption = ExtensionOption(),
    speed: str | None = None,
    adapted: bool | None = None,
) -> Path | None:
    """Check the options of ``generate`` and ``evaluate sprites`` as far as possible without loading the model.

    ``steps``, ``frames``, ``height`` and ``width`` are the model's where they are None. ``adapted`` says whether
    there are adapters; None: the command takes none.

    Returns:
        The model's folder; None for a hub id.

    Raises:
        ValueError: for the first invalid option.
    """
    check_device_name(device)
    check_dtype_name(dtype)
    check_sampler_name(sampler, steps, adapted=adapted)
    check_speed(speed, "--speed")
    if guidance is not None:
        check_guidance(guidance, "--guidance")
    folder = check_model_files(model, variant)
    if folder is not None:
        check_steps_and_size(folder, steps, height, width, None if sampler is None else timestep_spacing(sampler))
    own_frames, own_side = (None, None) if folder is None else read_video_size(folder)
    if frame_chunk is not None:
        _check_frame_chunk(frame_chunk, folder, frames or own_frames)
    of_a_call = frames or own_frames
    total = 1 if of_a_call is None else extension.total(of_a_call)
    check_video_memory(total, height or own_side or 1, width or own_side or 1)
    if steps is not None and steps < 1:
        raise ValueError(f"--steps must be 1 or more, not {steps}")
    return folder


def _check_frame_chunk(chunk: int, folder: Path | None, frames: int | None) -> None:
    """As far as it can be known before the model is loaded."""
    check_chunk(chunk, MAX_FRAMES if frames is None else frames, "--frame-chunk")
    if folder is not None and has_temporal_attention(folder):
        raise ValueError("--frame-chunk is not possible: Latent-VDM's temporal attention looks at all frames at once")


def check_video_memory(frames: int, height: int, width: int) -> None:
    """Refuse a video whose frames, as finished pixels, do not fit into memory: a rough bound, on the cautious side.

    A .gif or a .webp holds them all, and more. An .mp4 or a folder of frames holds all latents and a few frames, which
    can take less: it is refused nevertheless.
    """
    needed, memory = frames * height * width * 3, machine_memory()
    if needed > memory:
        raise ValueError(
            f"{frames:,} frames of {width:,}x{height:,} pixels take {needed // 2**30:,} GiB and more, and this "
            f"machine has {memory / 2**30:,.1f} GiB; ask for fewer frames or a smaller size"
        )

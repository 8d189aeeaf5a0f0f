"""Load a model for a command: without library warnings, onto a device, with one-sentence errors."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from latentshift.cli.preflight import check_device_name, check_dtype_name
from latentshift.imports.fast_import import collector_paused
from latentshift.imports.late_function import import_with_late_function
from latentshift.imports.lazy_module import load_when_used
from latentshift.progress import status
from latentshift.user_input.error_text import printable

if TYPE_CHECKING:
    import torch

    from latentshift.pipeline import LatentShiftPipeline


def quiet_libraries() -> None:
    """Silence warnings and progress bars of the libraries; call this before they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore")
    for part in ("scipy.integrate", "scipy.stats"):  # imported by diffusers' samplers, and used by one, or one setting
        load_when_used(part)
    with collector_paused():
        import diffusers.utils.logging
        import huggingface_hub.utils.logging
        import transformers.utils.logging

        # Of losses for object detection, which come with every model of transformers.
        import_with_late_function("transformers.loss.loss_utils", "scipy.optimize", "linear_sum_assignment")

    huggingface_hub.utils.logging.set_verbosity_error()
    for library in (transformers, diffusers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def pick_device(name: str) -> str:
    """Resolve a device name; ``auto`` is CUDA if available, else the CPU.

    Raises:
        ValueError: for a device that torch does not know or this machine does not have.
    """
    check_device_name(name)
    with collector_paused():
        import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"the device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return name


def load_dtype(dtype: str, device: str) -> torch.dtype:
    """Resolve a dtype name for a device; ``auto`` is :func:`latentshift.models.precision.fast_dtype`.

    Raises:
        ValueError: for an unknown dtype.
    """
    check_dtype_name(dtype)
    import torch

    from latentshift.models.precision import fast_dtype

    return fast_dtype(device) if dtype == "auto" else cast("torch.dtype", getattr(torch, dtype))


def load_pipeline(
    model: str, device: str = "cpu", dtype: str = "auto", variant: str | None = None
) -> LatentShiftPipeline:
    """Load a pipeline onto a device.

    Args:
        model: ``bundled``, a folder, or a hub id.
        device: from :func:`pick_device`.
        dtype: float32, bfloat16, float16, or ``auto``: bfloat16 where the device has instructions for it, else float16
            on CUDA, and float32 elsewhere.
        variant: of the weight files, as ``fp16`` for ``model.fp16.safetensors``.

    Raises:
        ValueError: if it cannot be loaded; the message says why.
    """
    with status(f"loading {printable(model)}"):
        quiet_libraries()
        with collector_paused():
            from latentshift.pipeline import open_pipeline

        gc.freeze()  # what was imported stays: the collector need not look through it while weights are loaded
        return open_pipeline(model, dtype=load_dtype(dtype, device), variant=variant).to(device)


def load_adapted(
    model: str,
    device: str,
    dtype: str,
    loras: Sequence[str] = (),
    delta: Path | None = None,
    variant: str | None = None,
    *,
    other_base: bool = False,
) -> LatentShiftPipeline:
    """Load a pipeline onto a device, with adapters merged into its weights.

    Args:
        model: ``bundled``, a folder, or a hub id.
        device: from :func:`pick_device`.
        dtype: as for :func:`load_pipeline`.
        loras: ``FILE`` or ``FILE:WEIGHT`` of each LoRA, ours with the settings in it, or any other trainer's.
        delta: a file with the difference of all weights, which is added before them; None for none.
        variant: as for :func:`load_pipeline`.
        other_base: whether the delta may be added to other weights than those it was made of.

    Raises:
        ValueError: if the model cannot be loaded or a file is not for it; the message says why.
    """
    if not loras and delta is None:
        return load_pipeline(model, device, dtype, variant)
    quiet_libraries()
    from latentshift.models.adapters.lora_file import is_own_lora, parse_lora
    from latentshift.models.adapters.video_adapter import load_adapter

    target = load_dtype(dtype, device)
    pipeline = load_pipeline(model, "cpu", "float32", variant)  # adapters are added in float32
    if delta is not None:
        with status(f"adding {printable(delta.name)}"):
            load_adapter(pipeline, delta, "delta", other_base=other_base)
    weights: dict[str, float] = {}
    files = [(is_own_lora(path), path, weight) for path, weight in map(parse_lora, loras)]
    # Ours first: they are merged at once, and no LoRA may be in the U-Net then.
    for number, (own, path, weight) in enumerate(sorted(files, key=lambda each: not each[0])):
        with status(f"adding {printable(path.name)}"):
            if own:
                load_adapter(pipeline, path, "lora", weight)
            else:
                pipeline.load_lora_weights(path, adapter_name=f"lora_{number}")
                weights[f"lora_{number}"] = weight
    if weights:
        pipeline.set_adapters(list(weights), list(weights.values()))
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    return pipeline.to(device, target)


def load_sampling_pipeline(
    model: str,
    device: str,
    dtype: str,
    sampler: str | None,
    loop: bool,
    loras: Sequence[str],
    delta: Path | None,
    variant: str | None,
) -> LatentShiftPipeline:
    """As :func:`load_adapted`, with a sampler by name (None: the model's), and with circular padding for loops.

    Args:
        model: as there.
        device: as for :func:`pick_device`.
        dtype: as there.
        sampler: as for :func:`latentshift.diffusion.samplers.make_sampler`.
        loop: whether videos are loops.
        loras: as there.
        delta: as there.
        variant: as there.

    Raises:
        ValueError: also for a sampler that the model can't have, and loops of a model without the shift.
    """
    pipeline = load_adapted(model, pick_device(device), dtype, loras, delta, variant)
    from latentshift.diffusion.samplers import make_sampler

    pipeline.scheduler = make_sampler(sampler, pipeline.scheduler)
    if loop:
        if pipeline.config.shift is None:
            raise ValueError(f"--loop needs the temporal shift, and {model} has none")
        pipeline.set_shift({**pipeline.config.shift, "padding": "circular"})
    return pipeline

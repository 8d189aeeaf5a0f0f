"""What a run is going to take, before it takes it: parameters, memory by part, operations.

Only configurations are read; the model is never built in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from diffusers import AutoencoderKL
from torch import nn

from latentshift.locate import locate_model
from latentshift.models.adapter import add_lora
from latentshift.models.autoencoder import encode_moments
from latentshift.models.skeleton import skeleton
from latentshift.pipeline import LatentShiftPipeline
from latentshift.training.arithmetic import attention_backend, autocast_dtype
from latentshift.training.recipe import (
    AnyRecipe,
    AutoencoderRecipe,
    ImageRecipe,
    VideoRecipe,
)
from latentshift.training.sharding import block_sizes
from latentshift.training.sizing.footprint import footprint, peak_of, shapes_alone
from latentshift.training.stages.data import brings_text
from latentshift.training.stages.objective import AutoencoderObjective, FrameBatch, LatentBatch
from latentshift.training.stages.prepare import (
    lora_of,
    make_video_model,
    new_autoencoder,
    new_image_model,
    objective_for,
    trained_autoencoder,
)

_FLOAT = 4  # bytes of a weight, a gradient, an average
_MOMENTS = {"adamw": 8, "adamw_8bit": 2}  # bytes of the optimizer's two averages, for each trained weight
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Part:
    """One part of the model.

    Attributes:
        name: ``unet``, ``temporal``, ``text_encoder`` or ``autoencoder``.
        parameters: how many it has, with its adapter's.
        trained: how many of them are trained.
        at_work: whether training has a use for it, so that it lies on the device.
    """

    name: str
    parameters: int
    trained: int
    at_work: bool


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    Attributes:
        parts: of the model.
        memory: bytes by what they are for, of one process on its device, at the moment of training when it holds most.
        flops: floating-point operations of a step, of all processes together, in the mean over all kinds of steps.
    """

    parts: tuple[Part, ...]
    memory: dict[str, int]
    flops: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(self.memory.values())


def estimate(recipe: AnyRecipe, device: torch.device, processes: int = 1, base: int | None = None) -> Estimate:
    """What a recipe takes on a device, of each of so many processes.

    Args:
        recipe: whose model and data need not be there, but their configurations.
        device: where it would be trained; none is needed for that.
        processes: that share each batch.
        base: bytes of a process before anything is loaded; None: of this one, as it is. Counts on the CPU alone.

    Raises:
        ValueError: if the configuration of what it starts from can't be read, or is none that it can start from.
    """
    share = recipe.batch_size // processes
    micro = recipe.micro_batch_size or share
    sized = _size_autoencoder(recipe, micro) if isinstance(recipe, AutoencoderRecipe) else _size(recipe, micro)
    if device.type == "cuda":
        _calculate_norms_in_float32(sized.objective)
    with shapes_alone(), attention_backend(recipe):
        objective = sized.objective.to_empty(device="cpu").train()
        trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        found = [
            (
                share_of_steps,
                footprint(
                    lambda batch=batch(): objective(batch)["loss"],  # type: ignore[misc]
                    trained,
                    lambda: _calculating(recipe),
                    gathered=share > micro or (processes > 1 and recipe.compute.parallel == "ddp"),
                ),
            )
            for share_of_steps, batch in sized.batches
        ]
        largest = max((each for _, each in found), key=lambda each: each.gradients + each.activations)
        busy = {"gradients": largest.gradients, "activations": largest.activations}
        if sized.encoding is not None:
            autoencoder, shape = sized.encoding
            autoencoder.to_empty(device="cpu")
            with torch.no_grad(), _calculating(recipe):
                encoding = peak_of(lambda: encode_moments(autoencoder, torch.empty(shape)))
            if encoding > sum(busy.values()):
                busy = {"gradients": 0, "activations": encoding}  # between two steps
    flops = sum(share_of_steps * each.flops for share_of_steps, each in found)
    count = sum(parameter.numel() for parameter in trained)
    memory = {
        "weights": _FLOAT * sum(part.parameters for part in sized.parts if part.at_work or device.type == "cpu"),
        "optimizer": _MOMENTS[recipe.optimizer.kind] * count,
        "averages": _FLOAT * count if recipe.compute.ema_device != "cpu" or device.type == "cpu" else 0,
        **busy,
    }
    if processes > 1 and recipe.compute.parallel == "fsdp":
        for shared in ("weights", "optimizer", "averages", "gradients"):
            memory[shared] //= processes
        block, rest = block_sizes(sized.objective)
        memory["gathered blocks"] = _FLOAT * (rest + 2 * block)  # the one at work, and the next
        memory["exchange of gradients"] = _FLOAT * block
        if device.type == "cpu":
            memory["copy for samples"] = _FLOAT * sum(part.parameters for part in sized.parts)
    elif processes > 1:
        memory["exchange of gradients"] = _FLOAT * count
    if device.type == "cpu":
        memory["Python and libraries"] = process_size() if base is None else base
    return Estimate(sized.parts, memory, round(flops * (share // micro) * processes))


def process_size() -> int:
    """Bytes of memory that this process takes now."""
    return int(psutil.Process().memory_info().rss)


def memory_for_each(device: torch.device, processes: int) -> int:
    """Bytes that each process has on a device: a GPU is one process's, and the machine's memory all of theirs.

    Raises:
        ValueError: for a GPU that is not here.
    """
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("there is no GPU here to ask for its memory; say how much it has with --memory GIB")
        return int(torch.cuda.get_device_properties(device).total_memory)
    total = int(psutil.virtual_memory().total)
    limit = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.exists() else "max"
    return (total if limit == "max" else min(total, int(limit))) // processes


@dataclass(frozen=True)
class _Sized:
    """The model, its weights on torch's meta device: its parts, what is trained, on batches of which kinds at which
    share of the steps; and where clips are encoded as they come, with what and in which shape."""

    parts: tuple[Part, ...]
    objective: nn.Module
    batches: Sequence[tuple[float, Callable[[], FrameBatch | LatentBatch]]]
    encoding: tuple[AutoencoderKL, tuple[int, ...]] | None = None


def _size_autoencoder(recipe: AutoencoderRecipe, count: int) -> _Sized:
    with torch.device("meta"):
        autoencoder = new_autoencoder(recipe)
    side, model = recipe.data.size, recipe.model
    small = side // 2 ** (len(model.channels) - 1)

    def batch() -> FrameBatch:
        return FrameBatch(torch.empty(count, 3, side, side), torch.empty(count, model.latent_channels, small, small))

    objective = AutoencoderObjective(autoencoder, recipe.kl_weight, recipe.edge_weight)
    return _Sized((_part("autoencoder", autoencoder),), objective, [(1.0, batch)])


def _size(recipe: ImageRecipe | VideoRecipe, count: int) -> _Sized:
    pipeline = _pipeline(recipe)
    sentences = pipeline.sentences
    text_encoded = brings_text(recipe) and not sentences.is_trained
    footage = any(not each.encode for each in recipe.data)
    objective = objective_for(recipe.model_copy(update={"compile": False}), pipeline, text_encoded=text_encoded)
    if isinstance(recipe, VideoRecipe) and recipe.lora is not None:
        add_lora(pipeline.unet, lora_of(recipe))
    parts = [_part("unet", pipeline.unet)]
    if pipeline.temporal is not None:
        parts.append(_part("temporal", pipeline.temporal))
    parts.append(_part("text_encoder", sentences, at_work=not text_encoded))
    parts.append(_part("autoencoder", pipeline.vae, at_work=footage))
    num_frames = 1 if isinstance(recipe, ImageRecipe) else pipeline.config.num_frames
    side, channels = pipeline.unet.config.sample_size, pipeline.unet.config.in_channels
    ids = (len(sentences.encoders), sentences.length)
    text = sentences(torch.zeros(1, *ids, dtype=torch.long, device="meta")).shape[1:] if text_encoded else None

    def batch(samples: int, frames: int) -> LatentBatch:
        latents = torch.empty(samples, frames, channels, side, side)
        return LatentBatch(
            latents=latents,
            noise=torch.empty_like(latents),
            timesteps=torch.zeros(samples, dtype=torch.long),
            token_ids=torch.zeros(samples, *ids, dtype=torch.long),
            text=None if text is None else torch.empty(samples, *text),
        )

    images = recipe.image_share if isinstance(recipe, VideoRecipe) else 0.0
    batches = [(1 - images, partial(batch, count, num_frames))]
    if images:  # as many single frames, each with a text of its own
        batches.append((images, partial(batch, count * num_frames, 1)))
    clip = (num_frames, 3, pipeline.sample_size, pipeline.sample_size)
    return _Sized(tuple(parts), objective, batches, (pipeline.vae, clip) if footage else None)


def _pipeline(recipe: ImageRecipe | VideoRecipe) -> LatentShiftPipeline:
    try:
        if isinstance(recipe, VideoRecipe):
            pipeline = LatentShiftPipeline(**skeleton(locate_model(recipe.model)))
            make_video_model(recipe, pipeline)
            return pipeline
        config = AutoencoderKL.load_config(trained_autoencoder(recipe))
    except OSError as error:
        what = recipe.autoencoder if isinstance(recipe, ImageRecipe) else recipe.model
        raise ValueError(f"the configuration of {what} can't be read: {str(error).splitlines()[0]}") from None
    with torch.device("meta"):
        pipeline = new_image_model(recipe, AutoencoderKL.from_config(config))
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)  # it is no weight
    return pipeline


def _part(name: str, module: nn.Module, *, at_work: bool = True) -> Part:
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
    return Part(name, sum(count for count, _ in counts), sum(count for count, trained in counts if trained), at_work)


def _calculating(recipe: AnyRecipe) -> AbstractContextManager[Any]:
    precise = recipe.compute.precision == "fp32"
    return nullcontext() if precise else torch.autocast("cpu", autocast_dtype(recipe))


def _calculate_norms_in_float32(objective: nn.Module) -> None:
    """As CUDA's autocast does, and the CPU's does not."""
    for module in objective.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.register_forward_pre_hook(lambda module, arguments: (arguments[0].float(), *arguments[1:]))

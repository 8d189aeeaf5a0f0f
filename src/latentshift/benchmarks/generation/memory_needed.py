"""Which of the compared models have memory here, by an estimate before anything is made: the others are left out.

Passes and the decoder are traced on torch's meta device. On the CPU a process that takes more than there is would be
killed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from latentshift.benchmarks.generation.image_base import ImageBase, open_base
from latentshift.benchmarks.generation.peers import build_video_model
from latentshift.benchmarks.generation.settings import FROZEN, VIDEO_MODELS, GenerationSettings
from latentshift.benchmarks.generation.time_model import build_autoencoder, build_text, building
from latentshift.benchmarks.own_process import in_own_process
from latentshift.memory.machine_memory import available_memory
from latentshift.memory.trace import peak_memory
from latentshift.models.autoencoder import decode_latents

GIB = 2**30
BESIDE = 7 * GIB // 10  # bytes that a process takes with its libraries
_MARGIN = 1.5  # of the traced peak of activations: a convolution's or an attention's own memory is not in it
# Of the weights in a runtime's session, where some are packed anew.
_SESSION = 2


def leave_out_models(settings: GenerationSettings) -> GenerationSettings:
    """Settings without the video models that can't be built like the base, or have no memory for what is measured.

    ``left_out`` of the result has the reasons, and ``decoded_at_once`` how many frames the decoder has memory for.

    Raises:
        ValueError: for a base that can't be read; if no video model is left; or without memory for a frame's decoding.
    """
    base, free = open_base(settings.base, settings.size), free_memory(settings)
    parts = _beside_unet(settings, base) if settings.whole else 0
    kept, unets, left_out = [], [0], dict(settings.left_out)
    for name in settings.models:
        try:
            weights, activations = pass_memory(settings, base, name)
        except ValueError as error:
            left_out[name] = str(error)
            continue
        needed = BESIDE + weights + parts + round(_MARGIN * activations)
        if needed > free:
            what = f"a {'whole video' if settings.whole else 'pass'} of {VIDEO_MODELS[name]}"
            left_out[name] = f"{what} takes about {too_much(needed, free)}: try fewer --frames or a smaller --size"
            continue
        kept.append(name)
        unets.append(weights)
    if not kept:
        raise ValueError(f"no video model is left to compare: {left_out[settings.models[0]]}")
    beside = max(unets) + parts if settings.whole else 0
    at_once = decoded_at_once(settings, base, free - beside)
    return replace(settings, models=tuple(kept), left_out=left_out, decoded_at_once=at_once)


def check_models(settings: GenerationSettings) -> GenerationSettings:
    """Settings with ``decoded_at_once``, where all video models are to be compared or none.

    Raises:
        ValueError: for the first that :func:`leave_out_models` leaves out, and for what it raises itself.
    """
    complete = leave_out_models(settings)
    for name in settings.models:
        if name in complete.left_out:
            raise ValueError(f"{complete.left_out[name]}; or leave {name} out with --models")
    return complete


def decoded_at_once(settings: GenerationSettings, base: ImageBase, free: int) -> int | None:
    """How many frames of a video the decoder has memory for: of all, a half and so on the first; None for all.

    Raises:
        ValueError: if a single one is too many.
    """
    frames = settings.num_frames
    while True:
        weights, activations = _decoding_memory(settings, base, frames)
        needed = BESIDE + weights + round(_MARGIN * activations)
        if needed <= free:
            return None if frames == settings.num_frames else frames
        if frames == 1:
            raise ValueError(f"decoding a frame takes about {too_much(needed, free)}: choose a smaller --size")
        frames //= 2


def free_memory(settings: GenerationSettings) -> int:
    """Bytes that a process can have on the settings' device; on mps those of the machine."""
    if torch.device(settings.device).type == "cuda":
        return in_own_process("look at the GPU's memory", _free_on_gpu, settings.device)
    return available_memory()


def too_much(needed: int, free: int) -> str:
    """Both numbers, for a sentence."""
    return f"{needed / GIB:.1f} GiB of memory, and {free / GIB:.1f} GiB are free"


def pass_memory(
    settings: GenerationSettings, base: ImageBase, name: str, *, fused_attention: bool = True
) -> tuple[int, int]:
    """Bytes of a video model's weights, and of the activations of a pass at their peak.

    Args:
        settings: of the comparison.
        base: whose width it has.
        name: of :data:`latentshift.benchmarks.generation.settings.VIDEO_MODELS`.
        fused_attention: whether attention is calculated without a matrix of all its weights.

    Raises:
        ValueError: if it can't be built like this.
    """
    settings = replace(settings, device="meta")
    with torch.no_grad(), building(settings):
        model = build_video_model(name, base.unet, settings.num_frames)
        latents = torch.randn(settings.texts, *base.latent_shape(settings.num_frames))
        text = base.random_text(settings.texts)
        with _FusedAttention() if fused_attention else nullcontext():
            activations = peak_memory(lambda: model(latents, torch.tensor(500), text))
        copies = 2 if name in FROZEN else 1  # compiled code has its own, in the order that is fast there
        return copies * model.num_parameters * latents.element_size(), activations


def export_memory(settings: GenerationSettings, base: ImageBase, *, fused_attention: bool) -> int:
    """Bytes that a process with an export takes for what is measured of it: a pass, or a whole video.

    Args:
        settings: of the comparison, with the dtype of the runtime.
        base: whose width it has.
        fused_attention: as for :func:`pass_memory`.
    """
    weights, activations = pass_memory(settings, base, "latent-shift", fused_attention=fused_attention)
    if settings.whole:
        weights += _beside_unet(settings, base)
        activations = max(activations, _decoding_memory(settings, base, settings.num_frames)[1])
    return BESIDE + _SESSION * weights + round(_MARGIN * activations)


def _decoding_memory(settings: GenerationSettings, base: ImageBase, frames: int) -> tuple[int, int]:
    """Likewise of the decoder and of so many frames; what has been decoded is kept."""
    settings = replace(settings, device="meta")
    with torch.no_grad(), building(settings), _FusedAttention():
        autoencoder = build_autoencoder(settings, base)
        latents = torch.randn(base.latent_shape(frames))
        activations = peak_memory(lambda: decode_latents(autoencoder, latents))
        done = 3 * base.side**2 * settings.videos * settings.num_frames * latents.element_size()
        return _bytes(autoencoder), activations + 2 * done  # in parts, and together


def _beside_unet(settings: GenerationSettings, base: ImageBase) -> int:
    """Bytes of the text encoders' and the autoencoder's weights."""
    settings = replace(settings, device="meta")
    return _bytes(build_text(settings, base)) + _bytes(build_autoencoder(settings, base))


def _bytes(part: nn.Module) -> int:
    return sum(each.numel() * each.element_size() for each in part.parameters())


class _FusedAttention(TorchFunctionMode):
    """Attention that allocates its result alone; on the meta device torch makes the matrix of all its weights."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is not scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))

        def attend(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
            return query.new_empty(*query.shape[:-1], value.shape[-1])

        return attend(*args, **(kwargs or {}))


def _free_on_gpu(device: str) -> int:
    return int(torch.cuda.mem_get_info(device)[0])

"""Deep features of a U-Net, kept for some steps of a sampling (DeepCache, Ma et al. 2024).

From one step to the next the features of a U-Net's lower levels change little. So in every n-th step the whole U-Net is
called, and in the steps between only its first and last layers at the upper level, around the kept input of the latter.
Frames meet in the layers that are called as they do in the whole U-Net.

Legend of shapes: B videos, F frames, C channels, H × W.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.hooks.group_offloading import _is_group_offload_enabled
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from latentshift.diffusion.fewer_operations import FewerOperations
from latentshift.diffusion.guidance import PromptedDenoiser
from latentshift.frame_context import frame_context, uncompiled
from latentshift.models.compiled_calls import CompiledCalls

_BLOCKS = {"DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"}
_FREEU = ("s1", "s2", "b1", "b2")


@dataclass
class _Kept:
    """The input of the upper level's last layers in one call of the whole U-Net, (B·F, C, H, W), and its step."""

    features: Tensor
    step: int


class DeepCache:
    """One sampling with deep features that are kept; to be made anew for each.

    Args:
        unet: of the sampling; a stock one, with or without temporal layers.
        interval: N ≥ 2: the whole U-Net is called in steps 0, N, 2 N, …, and wherever nothing fits that is kept.
        branch: b, 0 … L for L layers (a ResNet block with its attention) a level: the first b and the last b + 1
            layers are called in each step.

    Raises:
        ValueError: for a branch that this U-Net does not have, or a U-Net whose layers can't be called one by one.
    """

    def __init__(self, unet: nn.Module, interval: int, branch: int = 0) -> None:
        if (reason := _why_not(unet)) is not None:
            raise ValueError(f"deep_cache_interval={interval} is not possible: {reason}")
        self._unet = cast(Any, uncompiled(unet))
        most = len(self._unet.up_blocks[-1].resnets) - 1
        if branch > most:
            raise ValueError(f"deep_cache_branch must be 0 to {most} for this U-Net, not {branch}")
        self._interval = interval
        self._branch = branch
        self._step = -1
        self._kept: dict[Hashable, _Kept] = {}
        # Of the call that is under way in this thread, or in this greenlet: calls on chunks of frames take turns.
        self._taken: ContextVar[list[Tensor] | None] = ContextVar("taken", default=None)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside, whole calls are looked into; at the end all that was kept is dropped."""
        layer = self._unet.up_blocks[-1].resnets[-1 - self._branch]
        width = self._unet.config.block_out_channels[0]  # of the skip connections at the upper level

        def take(module: nn.Module, args: tuple[Any, ...]) -> None:
            if (taken := self._taken.get()) is not None:
                taken.append(args[0][:, :-width].clone())  # a view would keep the skip connection too

        handle = layer.register_forward_pre_hook(take)
        try:
            yield
        finally:
            handle.remove()
            self._kept.clear()

    def each_step(self, denoiser: PromptedDenoiser) -> PromptedDenoiser:
        """A denoiser that is called once a step, and lets this count."""

        def predict(latents: Tensor, timestep: Tensor) -> Tensor:
            self._step += 1
            return denoiser(latents, timestep)

        return predict

    def of(self, text: object) -> CachedCall:
        """The U-Net for the videos of a text, which has to be the very same object in each step."""
        return CachedCall(self, (id(text),))

    def call(self, of: Hashable, frames: Tensor, timesteps: Tensor, tokens: Tensor, **options: Any) -> Tensor:
        """The U-Net's prediction, (B·F, C, H, W), from the whole of it or from its outermost layers.

        Args:
            of: which videos and frames these are: the same from step to step, and no others in the same step.
            frames: as the U-Net takes them, (B·F, C, H, W).
            timesteps: (B·F,).
            tokens: likewise.
            **options: other arguments of the U-Net's.
        """
        kept = self._kept.get(of)
        if kept is not None and self._step - kept.step < self._interval and self._step % self._interval != 0:
            return self._outermost_layers(kept.features, frames, timesteps, tokens, **options)
        taken: list[Tensor] = []
        before = self._taken.set(taken)
        try:
            call = self._unet(frames, timesteps, encoder_hidden_states=tokens, return_dict=False, **options)
        finally:
            self._taken.reset(before)
        (features,) = taken
        self._kept[of] = _Kept(features, self._step)
        predicted: Tensor = call[0]
        return predicted

    def _outermost_layers(
        self,
        features: Tensor,
        frames: Tensor,
        timesteps: Tensor,
        tokens: Tensor,
        num_frames: int | None = None,
        timestep_cond: Tensor | None = None,
        added_cond_kwargs: dict[str, Any] | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
    ) -> Tensor:
        """What ``UNet2DConditionModel.forward`` does, without what lies below ``features``."""
        unet, context = self._unet, frame_context(self._unet)
        in_call = (
            nullcontext() if context is None else context.with_num_frames(num_frames or 1, context.frames_independent)
        )
        with in_call:
            time = unet.time_embedding(unet.get_time_embed(sample=frames, timestep=timesteps), timestep_cond)
            added = unet.get_aug_embed(
                emb=time, encoder_hidden_states=tokens, added_cond_kwargs=added_cond_kwargs or {}
            )
            time = time if added is None else time + added
            time = time if unet.time_embed_act is None else unet.time_embed_act(time)
            text = unet.process_encoder_hidden_states(
                encoder_hidden_states=tokens, added_cond_kwargs=added_cond_kwargs or {}
            )

            def layer(block: Any, number: int, hidden: Tensor) -> Tensor:
                hidden = block.resnets[number](hidden, time)
                if getattr(block, "has_cross_attention", False):
                    hidden = block.attentions[number](
                        hidden,
                        encoder_hidden_states=text,
                        cross_attention_kwargs=cross_attention_kwargs,
                        return_dict=False,
                    )[0]
                return hidden

            down, up = unet.down_blocks[0], unet.up_blocks[-1]
            skips = [unet.conv_in(2 * frames - 1.0 if unet.config.center_input_sample else frames)]
            for number in range(self._branch):
                skips.append(layer(down, number, skips[-1]))
            hidden = features
            for number in range(-1 - self._branch, 0):
                hidden = layer(up, number, torch.cat([hidden, skips.pop()], dim=1))
            if unet.conv_norm_out is not None:
                hidden = unet.conv_act(unet.conv_norm_out(hidden))
            return unet.conv_out(hidden)


@dataclass(frozen=True)
class CachedCall:
    """What is called in place of the U-Net for some videos and frames.

    Attributes:
        cache: of the sampling.
        of: which videos and frames.
    """

    cache: DeepCache
    of: tuple[int, ...]

    def part(self, number: int) -> CachedCall:
        """For a part of the frames."""
        return CachedCall(self.cache, (*self.of, number))

    def __call__(
        self,
        frames: Tensor,
        timesteps: Tensor,
        *,
        encoder_hidden_states: Tensor,
        return_dict: bool = False,
        **options: Any,
    ) -> tuple[Tensor]:
        """As the U-Net's, without ``return_dict``."""
        return (self.cache.call(self.of, frames, timesteps, encoder_hidden_states, **options),)


def open_deep_cache(pipe: Any, fewer: FewerOperations, *, guided: bool) -> DeepCache | None:
    """The cache of one call of a pipeline, after checks that need one; None if none is asked for.

    Raises:
        ValueError: for what this pipeline or call can't leave out.
    """
    ranks = pipe.frame_ranks
    if fewer.guidance_interval is not None:
        if not guided:
            raise ValueError(
                "guidance_interval has no effect without guidance, with guidance_scale 1 or a guidance-distilled U-Net"
            )
        if ranks is not None and ranks.half is not None:
            raise ValueError("guidance_interval can't be used where guidance is split over processes")
    if fewer.deep_cache_interval is None:
        return None
    if ranks is not None:
        raise ValueError("deep_cache_interval can't be used where frames are split over processes")
    return DeepCache(pipe.unet, fewer.deep_cache_interval, fewer.deep_cache_branch)


def _why_not(unet: nn.Module) -> str | None:
    """Why the layers of a U-Net can't be called one by one, as half a sentence; None if they can."""
    impl = unet._compiled_call_impl
    by_others = impl is not None and not isinstance(impl, CompiledCalls)
    if by_others or uncompiled(unet) is not unet or hasattr(unet.forward, "_torchdynamo_orig_callable"):
        return "a compiled U-Net has no layers to call one by one"
    if _is_group_offload_enabled(unet):
        return "group offloading moves whole blocks"
    module: Any = unet
    config, down, up = module.config, module.down_blocks[0], module.up_blocks[-1]
    if len(module.down_blocks) < 2:
        return "this U-Net has one level only, and nothing below it"
    known = {type(down).__name__, type(up).__name__} <= _BLOCKS and all(
        type(each) is Transformer2DModel for block in (down, up) for each in getattr(block, "attentions", ())
    )
    embedded = (
        config.class_embed_type or config.num_class_embeds or config.addition_embed_type not in (None, "text_time")
    )
    if not known or embedded:
        return "it is known for the U-Nets of Stable Diffusion and LDM alone"
    if any(getattr(up, name, None) for name in _FREEU):
        return "FreeU changes features on the way; call disable_freeu first"
    return None

"""The text conditions of a call: from sentences, or from embeddings that are given in their place.

Legend of shapes: P prompts, F frames, L tokens, D width of the text encoders together, W width of the pooled embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from diffusers.utils.peft_utils import scale_lora_layers
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from latentshift.diffusion.condition import TextCondition
from latentshift.models.conditioning.prompt_schedule import (
    Prompt,
    PromptSchedule,
    check_schedule,
    encode_prompts,
    read_schedule,
)
from latentshift.models.conditioning.text import TextEncoders
from latentshift.user_input.unicode_text import check_unicode

_OF_FRAMES = 4  # dimensions of embeddings of each frame


@dataclass(frozen=True)
class Prompts:
    """P prompts and what to avoid in each, as sentences or as embeddings.

    Attributes:
        sentences: P of them, or None if ``embeds`` are given. One that changes is a dict, frame -> sentence, until
            :meth:`for_frames` makes a :class:`latentshift.models.conditioning.prompt_schedule.PromptSchedule` of it.
        negatives: P of them, likewise, None for no sentence; or None if ``negative_embeds`` are given.
        embeds: (P, L, D), or (P, F, L, D) of each frame.
        pooled: (P, W) or (P, F, W), with ``embeds`` and where the encoders have a pooled embedding.
        negative_embeds: as ``embeds``.
        negative_pooled: likewise.
        num_frames: F, of prompts that are made for it.
        loop: whether videos are loops, so that their last frames lead to the first.
    """

    sentences: list[Any] | None
    negatives: list[Any] | None
    embeds: Tensor | None = None
    pooled: Tensor | None = None
    negative_embeds: Tensor | None = None
    negative_pooled: Tensor | None = None
    num_frames: int = 1
    loop: bool = False

    def __len__(self) -> int:
        """P."""
        return len(self.sentences if self.sentences is not None else cast(Tensor, self.embeds))

    @classmethod
    def of(
        cls,
        prompt: Any,
        negative_prompt: Any,
        embeds: Tensor | None = None,
        pooled: Tensor | None = None,
        negative_embeds: Tensor | None = None,
        negative_pooled: Tensor | None = None,
    ) -> Prompts:
        """Sort a call's arguments.

        Raises:
            ValueError: if there is neither a sentence nor an embedding, or both, or another number of negative ones.
        """
        for name, tokens, other in (("", embeds, pooled), ("negative_", negative_embeds, negative_pooled)):
            if other is not None and tokens is None:
                raise ValueError(f"{name}pooled_prompt_embeds goes with {name}prompt_embeds: give both")
        if embeds is not None:
            if prompt is not None:
                raise ValueError("give prompt or prompt_embeds, not both")
            sentences, count = None, len(embeds)
        else:
            several = isinstance(prompt, Iterable) and not isinstance(prompt, (str, Mapping))
            sentences = list(prompt) if several else [prompt]
            check_sentences(sentences)
            count = len(sentences)
        if negative_embeds is None:
            negatives = one_for_each(negative_prompt, "negative_prompt", count)
        elif negative_prompt is not None:
            raise ValueError("give negative_prompt or negative_prompt_embeds, not both")
        elif len(negative_embeds) != count:
            raise ValueError(f"negative_prompt_embeds has {len(negative_embeds)} rows for {count} prompts")
        else:
            negatives = None
        return cls(sentences, negatives, embeds, pooled, negative_embeds, negative_pooled)

    @property
    def change(self) -> bool:
        """Whether any of the prompts, or of what to avoid, has a text for each frame."""
        texts = [*(self.sentences or ()), *(self.negatives or ())]
        embeds = [each for each in (self.embeds, self.negative_embeds) if each is not None]
        return any(isinstance(each, (Mapping, PromptSchedule)) for each in texts) or any(
            each.ndim == _OF_FRAMES for each in embeds
        )

    def for_frames(self, num_frames: int, *, loop: bool) -> Prompts:
        """The prompts of videos of F frames.

        Raises:
            ValueError: if one that changes names a frame outside of the video, or embeddings are of other frames.
        """

        def read(text: Any, name: str) -> Prompt:
            return read_schedule(text, num_frames, name) if isinstance(text, Mapping) else text

        for name, embeds in (("prompt_embeds", self.embeds), ("negative_prompt_embeds", self.negative_embeds)):
            if embeds is not None and embeds.ndim == _OF_FRAMES and embeds.shape[1] != num_frames:
                raise ValueError(f"{name} are of {embeds.shape[1]} frames, and the video has {num_frames}")
        sentences = self.sentences and [read(each, "prompt") for each in self.sentences]
        negatives = self.negatives and [read(each, "negative_prompt") for each in self.negatives]
        return replace(self, sentences=sentences, negatives=negatives, num_frames=num_frames, loop=loop)

    @property
    def has_negative(self) -> bool:
        """Whether there is anything to avoid."""
        return self.negatives is None or any(self.negatives)

    def check_negative(self, guidance_scale: float, *, distilled: bool) -> None:
        """Refuse something to avoid that a call would not look at.

        Embeddings are taken without guidance, since they are often made together with the prompt's.

        Raises:
            ValueError: for any with a guidance-distilled U-Net, or a sentence with guidance off.
        """
        if distilled and self.has_negative:
            raise ValueError("negative_prompt has no effect on this model, whose U-Net is guidance-distilled")
        if guidance_scale == 1 and any(self.negatives or ()):
            raise ValueError(
                "negative_prompt has no effect without guidance, with guidance_scale 1: leave it out, or choose "
                "another guidance_scale"
            )

    def encode(
        self,
        encoders: TextEncoders,
        device: torch.device,
        clip_skip: int | None,
        lora_scale: float,
        guided: bool = True,
    ) -> tuple[TextCondition, TextCondition]:
        """The conditions of the prompts and of what to avoid, of P rows each.

        Args:
            encoders: of the pipeline.
            device: to encode on.
            clip_skip: for the prompts' sentences, as in image pipelines; not for what to avoid.
            lora_scale: of the encoders' LoRAs.
            guided: whether what to avoid is used, and so has to have as many tokens as the prompts.

        Raises:
            ValueError: for embeddings of another shape than the model takes.
        """
        if clip_skip is not None:
            if self.sentences is None:
                raise ValueError("clip_skip has no effect on prompt_embeds: leave it out")
            encoders.check_clip_skip(clip_skip)
        conditions = []
        with scaled_lora(encoders, lora_scale):
            for name, sentences, embeds, pooled, skip in (
                ("prompt", self.sentences, self.embeds, self.pooled, clip_skip),
                ("negative_prompt", self.negatives, self.negative_embeds, self.negative_pooled, None),
            ):
                if sentences is not None:
                    frames = self.num_frames
                    conditions.append(encode_prompts(encoders, sentences, device, skip, frames, loop=self.loop))
                elif embeds is not None:
                    conditions.append(_given(name, embeds, pooled, encoders.width, encoders.pooled_width))
        text, negative = conditions
        lengths = text.tokens.shape[-2], negative.tokens.shape[-2]
        if guided and lengths[0] != lengths[1]:
            raise ValueError(
                f"the prompts have {lengths[0]} tokens and the negative ones {lengths[1]}: give embeddings of both, of "
                "one length"
            )
        if text.of_frames or negative.of_frames:
            return text.with_frames(self.num_frames), negative.with_frames(self.num_frames)
        return text, negative


def check_sentences(prompts: Sequence[Any]) -> None:
    """Raise a ValueError unless prompts are sentences that can be encoded, or change between such, at least one."""
    if not prompts or not all(isinstance(each, (str, Mapping, PromptSchedule)) for each in prompts):
        raise ValueError("prompt must be a sentence or a list of sentences, or of dicts {frame: sentence}")
    for each in prompts:
        if isinstance(each, Mapping):
            check_schedule(each, "prompt")
        elif isinstance(each, str):
            check_unicode(each, "the prompt")


def one_for_each(given: Any, name: str, count: int) -> list[Any]:
    """A sentence for each of P prompts, or a dict of one that changes; None for no sentence.

    Args:
        given: one for all, or P of them.
        name: the argument's, for messages.
        count: P.

    Raises:
        ValueError: if there is another number of them, or something that is no sentence.
    """
    if given is not None and not isinstance(given, (str, Iterable)):
        raise ValueError(f"{name} must be a sentence or a list of sentences, not a {type(given).__name__}")
    is_one = given is None or isinstance(given, (str, Mapping))
    sentences: list[Any] = [given] * count if is_one else list(cast(Iterable[Any], given))
    if len(sentences) != count:
        raise ValueError(f"{name} has {len(sentences)} sentences for {count} prompts: give one, or one a prompt")
    for each in sentences:
        if isinstance(each, Mapping):
            check_schedule(each, name)
            continue
        if each is not None and not isinstance(each, str):
            raise ValueError(f"{name} must be a sentence or a list of sentences, and has a {type(each).__name__}")
        check_unicode(each or "", name)
    return sentences


@contextmanager
def scaled_lora(module: nn.Module, scale: float) -> Iterator[None]:
    """Inside, LoRAs of a U-Net or of text encoders act ``scale`` times as much.

    Their weights are exact again afterwards; diffusers' own ``unscale_lora_layers`` sets them to 1 after a scale of 0.

    Raises:
        ValueError: for another scale than 1 and LoRAs that are merged, which it would not reach.
    """
    before = {layer: dict(layer.scaling) for layer in module.modules() if isinstance(layer, BaseTunerLayer)}
    if scale != 1 and any(layer.merged for layer in before):
        raise ValueError(
            "the scale of cross_attention_kwargs does not reach LoRAs that are merged: call unfuse_lora first, or leave"
            " it out"
        )
    scale_lora_layers(module, scale)
    try:
        yield
    finally:
        for layer, weights in before.items():
            layer.scaling.update(weights)


def _given(name: str, embeds: Tensor, pooled: Tensor | None, width: int, pooled_width: int | None) -> TextCondition:
    if embeds.ndim not in (3, _OF_FRAMES) or embeds.shape[-1] != width:
        shapes = f"(P, L, {width}), or (P, F, L, {width}) for each frame"
        raise ValueError(f"{name}_embeds must have the shape {shapes}, not {tuple(embeds.shape)}")
    pooled_name = f"{name.replace('prompt', 'pooled_prompt')}_embeds"
    if pooled_width is None:
        if pooled is not None:
            raise ValueError(f"{pooled_name} is for SDXL only; this model does not take it")
        return TextCondition(embeds)
    wanted = (*embeds.shape[:-2], pooled_width)
    if pooled is None or tuple(pooled.shape) != wanted:
        shape = None if pooled is None else tuple(pooled.shape)
        raise ValueError(f"{pooled_name} must have the shape {wanted}, not {shape}")
    return TextCondition(embeds, pooled=pooled)

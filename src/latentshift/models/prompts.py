"""The text conditions of a call: from sentences, or from embeddings that are given in their place.

Legend of shapes: P prompts, L tokens, D width of the text encoders together, W width of the pooled embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from diffusers.utils.peft_utils import scale_lora_layers
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from latentshift.diffusion.condition import TextCondition
from latentshift.models.text import TextEncoders
from latentshift.unicode_text import check_unicode


@dataclass(frozen=True)
class Prompts:
    """P prompts and what to avoid in each, as sentences or as embeddings.

    Attributes:
        sentences: P of them, or None if ``embeds`` are given.
        negatives: P of them, None for no sentence; or None if ``negative_embeds`` are given.
        embeds: (P, L, D).
        pooled: (P, W), with ``embeds`` and where the encoders have a pooled embedding.
        negative_embeds: (P, L, D).
        negative_pooled: (P, W), likewise.
    """

    sentences: list[str] | None
    negatives: list[str | None] | None
    embeds: Tensor | None = None
    pooled: Tensor | None = None
    negative_embeds: Tensor | None = None
    negative_pooled: Tensor | None = None

    def __len__(self) -> int:
        """P."""
        return len(self.sentences if self.sentences is not None else cast(Tensor, self.embeds))

    @classmethod
    def of(
        cls,
        prompt: str | list[str] | None,
        negative_prompt: str | list[str] | None,
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
            sentences = [prompt] if isinstance(prompt, str) else list(prompt or [])
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
    def has_negative(self) -> bool:
        """Whether there is anything to avoid."""
        return self.negatives is None or any(self.negatives)

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
                    conditions.append(encoders.encode(sentences, device, skip))
                elif embeds is not None:
                    conditions.append(_given(name, embeds, pooled, encoders.width, encoders.pooled_width))
        text, negative = conditions
        if guided and text.tokens.shape[1] != negative.tokens.shape[1]:
            lengths = text.tokens.shape[1], negative.tokens.shape[1]
            raise ValueError(
                f"the prompts have {lengths[0]} tokens and the negative ones {lengths[1]}: give embeddings of both, of "
                "one length"
            )
        return text, negative


def check_sentences(prompts: Sequence[str]) -> None:
    """Raise a ValueError unless prompts are sentences that can be encoded, at least one."""
    if not prompts or not all(isinstance(each, str) for each in prompts):
        raise ValueError("prompt must be a sentence or a list of sentences")
    for each in prompts:
        check_unicode(each, "the prompt")


def one_for_each(given: str | Iterable[str | None] | None, name: str, count: int) -> list[str | None]:
    """A sentence for each of P prompts; None for no sentence.

    Args:
        given: one for all, or P of them.
        name: the argument's, for messages.
        count: P.

    Raises:
        ValueError: if there is another number of them, or something that is no sentence.
    """
    if given is not None and not isinstance(given, (str, Iterable)):
        raise ValueError(f"{name} must be a sentence or a list of sentences, not a {type(given).__name__}")
    sentences: list[str | None] = [given] * count if given is None or isinstance(given, str) else list(given)
    if len(sentences) != count:
        raise ValueError(f"{name} has {len(sentences)} sentences for {count} prompts: give one, or one a prompt")
    for each in sentences:
        if each is not None and not isinstance(each, str):
            raise ValueError(f"{name} must be a sentence or a list of sentences, and has a {type(each).__name__}")
        check_unicode(each or "", name)
    return sentences


@contextmanager
def scaled_lora(module: nn.Module, scale: float) -> Iterator[None]:
    """Inside, LoRAs of a U-Net or of text encoders act ``scale`` times as much.

    Their weights are exact again afterwards; diffusers' own ``unscale_lora_layers`` sets them to 1 after a scale of 0.
    """
    before = {layer: dict(layer.scaling) for layer in module.modules() if isinstance(layer, BaseTunerLayer)}
    scale_lora_layers(module, scale)
    try:
        yield
    finally:
        for layer, weights in before.items():
            layer.scaling.update(weights)


def _given(name: str, embeds: Tensor, pooled: Tensor | None, width: int, pooled_width: int | None) -> TextCondition:
    if embeds.ndim != 3 or embeds.shape[-1] != width:
        raise ValueError(f"{name}_embeds must have the shape (P, L, {width}), not {tuple(embeds.shape)}")
    pooled_name = f"{name.replace('prompt', 'pooled_prompt')}_embeds"
    if pooled_width is None:
        if pooled is not None:
            raise ValueError(f"{pooled_name} is for SDXL only; this model does not take it")
        return TextCondition(embeds)
    if pooled is None or tuple(pooled.shape) != (len(embeds), pooled_width):
        shape = None if pooled is None else tuple(pooled.shape)
        raise ValueError(f"{pooled_name} must have the shape ({len(embeds)}, {pooled_width}), not {shape}")
    return TextCondition(embeds, pooled=pooled)

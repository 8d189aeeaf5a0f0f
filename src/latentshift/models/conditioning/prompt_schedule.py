"""Prompts that change over the frames of a video: a sentence at some frames, and what lies between.

The embeddings of two sentences are mixed linearly in the frames between them; before the first and after the last
frame that has a sentence, that one holds. A loop goes on from the last to the first. Legend of shapes: F frames, K
sentences, L tokens, D width of the text encoders together, W width of the pooled embedding.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentshift.diffusion.condition import TextCondition
from latentshift.models.conditioning.text import TextEncoders
from latentshift.settings import frame_position
from latentshift.user_input.argument_types import is_whole
from latentshift.user_input.unicode_text import check_unicode


@dataclass(frozen=True)
class PromptSchedule:
    """A prompt that changes.

    Attributes:
        frames: K numbers of frames, 0 … F - 1, increasing.
        sentences: K of them.
    """

    frames: tuple[int, ...]
    sentences: tuple[str, ...]


Prompt = str | PromptSchedule | None  # of a video; None for no sentence


def check_schedule(given: Mapping[Any, Any], name: str) -> None:
    """Refuse what is no schedule, whatever the number of frames.

    Args:
        given: frame -> sentence.
        name: of the argument, for messages.

    Raises:
        ValueError: if it is empty, a key is no whole number, or a value is no sentence.
    """
    if not given:
        raise ValueError(f'{name} is an empty dict: give a sentence for frame 0, as {{0: "a red star"}}')
    for frame, sentence in given.items():
        if not is_whole(frame):
            raise ValueError(f"{name} has the key {frame!r}: it must be the number of a frame, as 0 or -1")
        if not isinstance(sentence, str):
            raise ValueError(f"{name}[{frame}] must be a sentence, not a {type(sentence).__name__}")
        check_unicode(sentence, f"{name}[{frame}]")


def read_schedule(given: Mapping[int, str], num_frames: int, name: str) -> PromptSchedule | str:
    """A schedule for a video of F frames; the sentence itself, if there is one only.

    Args:
        given: checked, frame -> sentence; negative frames count from the end.
        num_frames: F.
        name: of the argument, for messages.

    Raises:
        ValueError: for a frame outside of the video, or named twice.
    """
    of_frame: dict[int, str] = {}
    for frame, sentence in given.items():
        position = frame_position(operator.index(frame), num_frames, name)
        if position in of_frame:
            raise ValueError(f"{name} names frame {position} of the video twice: give it one sentence")
        of_frame[position] = sentence
    if len(distinct := set(of_frame.values())) == 1:
        return distinct.pop()
    frames = sorted(of_frame)
    return PromptSchedule(tuple(frames), tuple(of_frame[frame] for frame in frames))


def frame_weights(frames: Sequence[int], num_frames: int, *, loop: bool) -> Tensor:
    """How much of each sentence is in each frame.

    Args:
        frames: K increasing numbers, 0 … F - 1.
        num_frames: F.
        loop: whether frame F is frame 0 again.

    Returns:
        (F, K) float32, of which each row has one or two numbers above 0, and the sum 1.
    """
    count = len(frames)
    weights = torch.zeros(num_frames, count)
    for frame in range(num_frames):
        after = next((key for key, at in enumerate(frames) if at >= frame), count)  # the first that is not before it
        before = after - 1
        if not loop and (after == 0 or after == count):
            weights[frame, min(after, count - 1)] = 1.0
            continue
        begin = frames[before] if before >= 0 else frames[-1] - num_frames
        end = frames[after] if after < count else frames[0] + num_frames
        share = (frame - begin) / (end - begin)
        weights[frame, after % count] += share
        weights[frame, before % count] += 1 - share
    return weights


def encode_prompts(
    encoders: TextEncoders,
    prompts: Sequence[Prompt],
    device: torch.device,
    clip_skip: int | None,
    num_frames: int,
    *,
    loop: bool,
) -> TextCondition:
    """The conditions of P prompts: of each video, or where any of them changes, of each frame.

    Args:
        encoders: of the pipeline; each distinct sentence is encoded once.
        prompts: P of them.
        device: to encode on.
        clip_skip: as in image pipelines.
        num_frames: F.
        loop: whether videos are loops.
    """
    plain = [each for each in prompts if not isinstance(each, PromptSchedule)]
    if len(plain) == len(prompts):
        return encoders.encode(plain, device, clip_skip)
    listed: list[str | None] = []
    for each in prompts:
        listed += each.sentences if isinstance(each, PromptSchedule) else [each]
    distinct = list(dict.fromkeys(listed))
    known = dict(zip(distinct, encoders.encode(distinct, device, clip_skip).split(1), strict=True))
    return TextCondition.cat(
        [
            _of_schedule(TextCondition.cat([known[sentence] for sentence in each.sentences]), each, num_frames, loop)
            if isinstance(each, PromptSchedule)
            else known[each].with_frames(num_frames)
            for each in prompts
        ]
    )


def _of_schedule(text: TextCondition, schedule: PromptSchedule, num_frames: int, loop: bool) -> TextCondition:
    """(1, F, L, D) and (1, F, W) from those of K sentences."""
    weights = frame_weights(schedule.frames, num_frames, loop=loop).to(text.tokens)
    tokens = torch.einsum("fk,kld->fld", weights, text.tokens)
    pooled = None if text.pooled is None else (weights.to(text.pooled) @ text.pooled)[None]
    return TextCondition(tokens[None], pooled)

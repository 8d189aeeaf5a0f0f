"""A picture of its own for each frame through an IP-Adapter.

A stock pipeline gives all pictures of ``ip_adapter_image`` to every image of a call, and repeats embeddings for every
prompt. Here ``prepare_ip_adapter_image_embeds`` of the pipeline answers for one call with what belongs to each frame.

Legend of shapes: N frames of a call, A adapters, k blocks of guidance.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from latentshift.models.adapters.ip_adapter import EMBEDDINGS, PICTURES, check_rows

_METHOD = "prepare_ip_adapter_image_embeds"


@contextmanager
def pictures_of_frames(pipe: Any, name: str, frames: Sequence[list[Any]]) -> Iterator[dict[str, Any]]:
    """Inside, a call of the pipeline gives each of its N frames its own pictures.

    Args:
        pipe: the image pipeline.
        name: ``"ip_adapter_image"`` or ``"ip_adapter_image_embeds"``.
        frames: N lists of A pictures or embeddings.

    Yields:
        The argument that makes the pipeline ask for embeddings at all.
    """
    original = getattr(pipe, _METHOD)
    signature = inspect.signature(original)

    def of_frames(*args: Any, **kwargs: Any) -> list[Tensor]:
        bound = signature.bind(*args, **kwargs)
        if name == EMBEDDINGS:
            for embeds in chain.from_iterable(frames):
                check_rows(embeds, bool(bound.arguments.get("do_classifier_free_guidance")))
        made: dict[tuple[int, ...], list[Tensor]] = {}  # a picture that many frames share is encoded once
        for pictures in frames:
            key = tuple(map(id, pictures))
            if key not in made:
                # A picture in a list of its own is one picture of the adapter; embeddings are the tensor itself.
                each = [[picture] for picture in pictures] if name == PICTURES else list(pictures)
                bound.arguments.update({PICTURES: None, EMBEDDINGS: None, name: each, "num_images_per_prompt": 1})
                made[key] = original(*bound.args, **bound.kwargs)
        of_each_frame = [made[tuple(map(id, pictures))] for pictures in frames]
        # For each adapter k rows a frame, of which the pipeline wants one block of N rows after the other.
        return [torch.stack(rows, dim=1).flatten(0, 1) for rows in zip(*of_each_frame, strict=True)]

    setattr(pipe, _METHOD, of_frames)
    try:
        yield {name: frames[0]}
    finally:
        delattr(pipe, _METHOD)

"""A picture of its own for each frame through an IP-Adapter.

A stock pipeline gives all pictures of ``ip_adapter_image`` to every image of a call, and repeats embeddings for every
prompt. Here ``prepare_ip_adapter_image_embeds`` of the pipeline answers for one call with what belongs to each frame.

Legend of shapes: P prompts, F frames, N frames of a call, A adapters, k blocks of guidance, n pictures, D width.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from latentshift.image_pipelines.pictures import Kind, clips_for_prompts

PICTURES, EMBEDDINGS = "ip_adapter_image", "ip_adapter_image_embeds"
_METHOD = "prepare_ip_adapter_image_embeds"


def read_adapter_pictures(
    pipe: Any, given: Mapping[str, Any], num_prompts: int, num_frames: int
) -> tuple[str, list[list[Any]]] | None:
    """What the IP-Adapters are given for each frame of each prompt's videos.

    Args:
        pipe: the image pipeline.
        given: the arguments of a call. ``ip_adapter_image``: one picture, a clip or P of either, or with several
            adapters a list of that for each; ``ip_adapter_image_embeds``: likewise of tensors (k, n, D), always in a
            list with one entry for each adapter, as diffusers takes them.
        num_prompts: P.
        num_frames: F.

    Returns:
        The name of the argument, and P lists of F lists of A pictures; None if there is none.

    Raises:
        ValueError: if no adapter is loaded, or for another number of pictures.
    """
    names = [name for name in (PICTURES, EMBEDDINGS) if given.get(name) is not None]
    if not names:
        return None
    if len(names) > 1:
        raise ValueError(f"give {PICTURES} or {EMBEDDINGS}, not both")
    name = names[0]
    layers = getattr(getattr(pipe.unet, "encoder_hid_proj", None), "image_projection_layers", None)
    if layers is None:
        raise ValueError(f"{name} was given and no IP-Adapter is loaded: call load_ip_adapter of the pipeline first")
    count, value = len(layers), given[name]
    listed = isinstance(value, (list, tuple))
    if name == PICTURES and count == 1:
        value = [value]
    elif not listed or len(value) != count:
        found = f"{len(value)} entries" if listed else f"a {type(value).__name__}"
        raise ValueError(f"{name} has {found}: give a list with one for each of {count} loaded IP-Adapters")
    kind: Kind = "reference" if name == PICTURES else "latents"
    of_adapters = [clips_for_prompts(each, name, num_prompts, num_frames, kind) for each in value]
    prompts = range(num_prompts)
    return name, [
        [[clips[prompt][frame] for clips in of_adapters] for frame in range(num_frames)] for prompt in prompts
    ]


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

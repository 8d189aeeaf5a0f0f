"""A call of a video pipeline as calls of its image pipeline, in the one form that keeps frames side by side.

That form has a prompt, a generator and a picture for each frame, and ``num_images_per_prompt=1``: text is then repeated
frame by frame, pictures are neither tiled nor interleaved by the pipeline, and guidance concatenates whole videos.
With ``num_images_per_prompt=F`` each kind of argument has an order of its own.

Legend of shapes: P prompts, B = P · videos per prompt, F frames, L tokens, D width, C channels, h × w latent pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentshift.diffusion.sampling import video_generators
from latentshift.frame_context import check_count, uncompiled
from latentshift.image_pipelines.stock import (
    accepted_arguments,
    check_clip_skip,
    check_guess_mode,
    check_pictures_given,
    check_steps_left,
    is_modular,
)
from latentshift.models.adapters.ip_adapter import read_adapter_pictures
from latentshift.models.call.pictures import Kind, as_tensor, by, clips_for_prompts, is_latents, join, size_of
from latentshift.models.conditioning.prompts import check_sentences, one_for_each
from latentshift.settings import check_guidance, check_strength

TEXT = ("prompt", "prompt_2", "negative_prompt", "negative_prompt_2")
EMBEDDINGS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
PICTURES: dict[str, Kind] = {
    "image": "start",
    "control_image": "condition",
    "mask_image": "mask",
    "masked_image_latents": "latents",
}
# The same for all frames, as the image pipeline takes it.
UNCHANGED = frozenset(
    {
        *("height", "width", "num_inference_steps", "timesteps", "sigmas", "eta", "guidance_scale", "strength"),
        *("denoising_start", "denoising_end", "original_inference_steps", "cross_attention_kwargs", "clip_skip"),
        *("original_size", "crops_coords_top_left", "target_size", "aesthetic_score"),
        *("negative_original_size", "negative_crops_coords_top_left", "negative_target_size"),
        *("negative_aesthetic_score", "controlnet_conditioning_scale", "control_guidance_start"),
        *("control_guidance_end", "guess_mode", "control_mode", "adapter_conditioning_scale"),
        *("adapter_conditioning_factor", "pag_scale", "pag_adaptive_scale", "image_guidance_scale"),
        *("callback_on_step_end", "callback_on_step_end_tensor_inputs", "callback", "callback_steps"),
    }
)
_IP_ADAPTER = ("ip_adapter_image", "ip_adapter_image_embeds")
_REFUSED = {
    "num_images_per_prompt": "pass num_videos_per_prompt",
    "padding_mask_crop": "it crops one picture, and frames may need different crops; crop the clip first",
}
_OfPrompts = tuple[list[Any], Callable[[list[Any]], Any]]  # for each of P prompts, and how those of some are joined


@dataclass
class Argument:
    """What each of B videos has of one argument, and how those of some videos make the image pipeline's."""

    of_videos: list[Any]
    join: Callable[[list[Any]], Any]


@dataclass
class VideoCall:
    """A call for B videos, not yet folded into frames.

    Attributes:
        num_frames: F.
        num_videos: B.
        unchanged: arguments for all videos alike.
        arguments: those that each video has its own of.
        ip_adapter: which argument the IP-Adapters get, and B lists of F lists of a picture for each; or None.
    """

    num_frames: int
    num_videos: int
    unchanged: dict[str, Any]
    arguments: dict[str, Argument]
    ip_adapter: tuple[str, list[list[Any]]] | None

    def of(self, which: slice) -> dict[str, Any]:
        """Arguments of the image pipeline for these videos, without the IP-Adapters'."""
        joined = {name: each.join(each.of_videos[which]) for name, each in self.arguments.items()}
        return {**self.unchanged, **joined}


def read_call(pipe: Any, given: Mapping[str, Any], num_frames: int, num_videos_per_prompt: int) -> VideoCall:
    """Check and sort the arguments of a call.

    Args:
        pipe: the image pipeline.
        given: what the user passed, by the image pipeline's names; None is what was not.
        num_frames: F.
        num_videos_per_prompt: B / P.

    Raises:
        ValueError: for an argument that this pipeline does not have or that has no meaning for a video, or that holds
            something for another number of prompts or frames; the message names it.
    """
    accepted = accepted_arguments(pipe)
    given = {name: value for name, value in given.items() if value is not None}
    _check_names(type(pipe).__name__, given, accepted, num_frames)
    _check_ranges(given)
    check_pictures_given(pipe, given, num_frames)
    check_steps_left(pipe, given)
    check_guess_mode(pipe, given)
    if "clip_skip" in given:
        check_clip_skip(pipe, given["clip_skip"])
    num_prompts = _count_prompts(given)
    check_count(num_videos_per_prompt, "num_videos_per_prompt")
    num_videos = num_prompts * num_videos_per_prompt

    def for_frames(of_videos: list[Any]) -> list[Any]:
        return [each for each in of_videos for _ in range(num_frames)]

    def for_frames_as_tensor(of_videos: list[Tensor]) -> Tensor:
        return torch.stack(of_videos).repeat_interleave(num_frames, dim=0)

    of_prompts, sizes = _pictures(pipe, given, accepted, num_prompts, num_frames)
    for name, value in given.items():
        if name in TEXT:
            sentences = _sentences(pipe, value, name, num_prompts)
            if sentences is not None:
                of_prompts[name] = sentences, for_frames
        elif name in EMBEDDINGS:
            of_prompts[name] = _embedding_for_each(value, name, num_prompts), for_frames_as_tensor
    arguments = {
        name: Argument([each for each in values for _ in range(num_videos_per_prompt)], joined)
        for name, (values, joined) in of_prompts.items()
    }
    arguments["generator"] = Argument(video_generators(given.get("generator"), num_videos), for_frames)
    if "latents" in given:
        arguments["latents"] = Argument(_latents(given["latents"], num_videos, num_frames), torch.cat)
    unchanged = {name: value for name, value in given.items() if name in UNCHANGED or name == "guidance_rescale"}
    unchanged |= _size(given, accepted, sizes)
    if isinstance(scale := unchanged.get("controlnet_conditioning_scale"), int):
        unchanged["controlnet_conditioning_scale"] = float(scale)  # diffusers refuses a 1
    if "num_images_per_prompt" in accepted:
        unchanged["num_images_per_prompt"] = 1
    if is_modular(pipe) and any(name in given for name in _IP_ADAPTER):
        raise ValueError("a modular pipeline's IP-Adapter gives all frames one picture: take StableDiffusionXLPipeline")
    adapters = read_adapter_pictures(pipe, given, num_prompts, num_frames)
    if adapters is not None:
        adapters = adapters[0], [each for each in adapters[1] for _ in range(num_videos_per_prompt)]
    return VideoCall(num_frames, num_videos, unchanged, arguments, adapters)


def _pictures(
    pipe: Any, given: Mapping[str, Any], accepted: frozenset[str], num_prompts: int, num_frames: int
) -> tuple[dict[str, _OfPrompts], dict[str, tuple[int, int]]]:
    """The arguments that are pictures, clips or masks: for each of P prompts, and the size of each in pixels."""
    of_prompts: dict[str, _OfPrompts] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name, value in given.items():
        if name not in PICTURES:
            continue
        conditions = _Conditions.of(pipe, name, accepted, given)
        if conditions is None:
            clips = clips_for_prompts(value, name, num_prompts, num_frames, PICTURES[name])
            of_prompts[name] = clips, lambda videos: join([frame for clip in videos for frame in clip])
            sizes[name] = _pixels(clips[0][0], PICTURES[name], pipe)
        else:
            of_conditions = conditions.read(value, name, num_prompts, num_frames)
            of_prompts[name] = of_conditions, conditions.join
            for number, clip in enumerate(of_conditions[0]):
                sizes[name if conditions.count is None else f"{name}[{number}]"] = size_of(clip[0])
    return of_prompts, sizes


@dataclass
class _Conditions:
    """How a pipeline takes the pictures of its ControlNets or T2I-Adapters."""

    count: int | None  # None: one, which is not in a list
    as_tensors: bool  # a list of PIL images would mean something else, or an array is not taken

    @classmethod
    def of(cls, pipe: Any, name: str, accepted: frozenset[str], given: Mapping[str, Any]) -> _Conditions | None:
        """None if that argument is no condition."""
        part = getattr(pipe, "controlnet", None) or getattr(pipe, "adapter", None)
        if part is None or name != ("control_image" if "control_image" in accepted else "image"):
            return None
        part = uncompiled(part)
        several = getattr(part, "nets", None) or getattr(part, "adapters", None)
        if is_union := type(part).__name__ == "ControlNetUnionModel":
            modes = given.get("control_mode")
            several = modes if isinstance(modes, (list, tuple)) else None
        is_adapter = getattr(pipe, "adapter", None) is not None
        return cls(None if several is None else len(several), is_union or (several is not None and not is_adapter))

    def read(self, value: Any, name: str, num_prompts: int, num_frames: int) -> list[list[list[Any]]]:
        """For each prompt a clip for each condition."""
        if self.count is None:
            values = [value]
        elif not isinstance(value, (list, tuple)) or len(value) != self.count:
            count = len(value) if isinstance(value, (list, tuple)) else 1
            raise ValueError(
                f"{name} is for {self.count} ControlNets or adapters and has {count} of them: give a list with one "
                "picture, or one clip, for each"
            )
        else:
            values = list(value)
        clips = [clips_for_prompts(each, name, num_prompts, num_frames, "condition") for each in values]
        return [[of_prompts[prompt] for of_prompts in clips] for prompt in range(num_prompts)]

    def join(self, videos: list[list[list[Any]]]) -> Any:
        """As the pipeline takes them: for each condition the pictures of all frames."""
        each = [[frame for clip in clips for frame in clip] for clips in zip(*videos, strict=True)]
        if self.count is None:
            return self._pictures(each[0])
        return [self._pictures(frames) for frames in each]

    def _pictures(self, frames: list[Any]) -> Any:
        if self.as_tensors or isinstance(frames[0], np.ndarray):
            # What a pipeline does with PIL images, and not with tensors
            colour = [frame.convert("RGB") if isinstance(frame, Image.Image) else frame for frame in frames]
            return torch.stack([as_tensor(frame) for frame in colour])
        return join(frames)


def _check_names(kind: str, given: Mapping[str, Any], accepted: frozenset[str], num_frames: int) -> None:
    known = {*TEXT, *EMBEDDINGS, *PICTURES, *UNCHANGED, "generator", "latents", *_IP_ADAPTER, "guidance_rescale"}
    for name in given:
        if name in _REFUSED:
            raise ValueError(f"{name} is not for videos: {_REFUSED[name]}")
        if name not in accepted:
            raise ValueError(f"{kind} has no argument {name}")
        if name not in known:
            raise ValueError(f"what {name} of {kind} means for the frames of a video is not known: leave it out")
    if given.get("guidance_rescale", 0) > 0 and num_frames > 1:
        raise ValueError(
            "guidance_rescale is not for videos: an image pipeline would rescale each frame by itself; leave it at 0"
        )


def _check_ranges(given: Mapping[str, Any]) -> None:
    """What not all image pipelines check: some take any number, and nothing shows it."""
    for name in ("num_inference_steps", "original_inference_steps"):
        if name in given:
            check_count(given[name], name)
    for name in ("guidance_scale", "image_guidance_scale", "pag_scale", "pag_adaptive_scale"):
        if name in given:
            check_guidance(given[name], name)
    for name in ("strength", "eta", "guidance_rescale", "denoising_start", "denoising_end"):
        if name in given:
            check_strength(given[name], name)


def _count_prompts(given: Mapping[str, Any]) -> int:
    if "prompt" in given and "prompt_embeds" in given:
        raise ValueError("give prompt or prompt_embeds, not both")
    if "prompt_embeds" in given:
        return len(given["prompt_embeds"])
    prompt = given.get("prompt")
    prompts = [prompt] if isinstance(prompt, str) else prompt
    prompts = prompts if isinstance(prompts, (list, tuple)) else []
    check_sentences(prompts)
    return len(prompts)


def _sentences(pipe: Any, value: Any, name: str, num_prompts: int) -> list[str] | None:
    """One for each prompt; None where the pipeline is to get none at all."""
    given = one_for_each(value, name, num_prompts)
    sentences = [each or "" for each in given]
    if None not in given:
        return sentences
    if name != "negative_prompt":
        raise ValueError(f"{name} has a None: give a sentence for each prompt")
    if given == [None] * num_prompts:
        return None
    if pipe.config.get("force_zeros_for_empty_prompt"):  # zeros for all prompts of a call or for none
        raise ValueError(
            f"negative_prompt has a None beside a sentence, and {type(pipe).__name__} takes both in no one call: give "
            '"" for it, or call for each prompt'
        )
    return sentences


def _embedding_for_each(value: Any, name: str, num_prompts: int) -> list[Tensor]:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}: give a tensor with one row a prompt")
    if len(value) != num_prompts:
        raise ValueError(f"{name} has {len(value)} rows for {num_prompts} prompts: give one a prompt, not one a frame")
    return list(value)


def _latents(value: Any, num_videos: int, num_frames: int) -> list[Tensor]:
    """For each video (F, C, h, w)."""
    if isinstance(value, Tensor):
        if value.ndim == 5 and value.shape[:2] == (num_videos, num_frames):
            return list(value)
        if value.ndim == 4 and len(value) == num_videos * num_frames:
            return list(value.unflatten(0, (num_videos, num_frames)))
    shape = tuple(value.shape) if isinstance(value, Tensor) else f"of a {type(value).__name__}"
    raise ValueError(f"latents must have the shape ({num_videos}, {num_frames}, C, h, w), not {shape}")


def _pixels(picture: Any, kind: Kind, pipe: Any) -> tuple[int, int]:
    """Size in pixels of a frame that a picture is for."""
    height, width = size_of(picture)
    scale = pipe.vae_scale_factor if kind == "latents" or (kind == "start" and is_latents(picture)) else 1
    return height * scale, width * scale


def _size(given: Mapping[str, Any], accepted: frozenset[str], sizes: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Height and width where the pipeline would not take them from its pictures, which are to agree with each other."""
    if not sizes:
        return {}
    first, size = next(iter(sizes.items()))
    for name, other in sizes.items():
        if other != size:
            raise ValueError(f"{first} is {by(size)} pixels and {name} {by(other)}: resize one of them")
    for axis, side, own in (("height", given.get("height"), size[0]), ("width", given.get("width"), size[1])):
        if side is not None and side != own:
            raise ValueError(f"{first} is {by(size)} pixels and {axis} is {side}: resize it, or leave {axis} out")
    if "mask_image" in accepted and "height" in accepted:  # inpainting stretches pictures to the model's own size
        return {"height": size[0] // 8 * 8, "width": size[1] // 8 * 8}
    return {}

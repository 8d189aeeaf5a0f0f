"""Keyframes of a call: which pictures or latents which frames of each prompt's videos are to show.

Legend of shapes: P prompts, B videos, n = B / P of each prompt, F frames, C latent channels, h × w latent pixels,
H × W pixels.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from latentshift.diffusion.known_frames import KnownFrames, check_known
from latentshift.models.autoencoder import encode_pictures
from latentshift.models.call.pictures import Kind, as_tensor, by, clips_for_prompts, size_of
from latentshift.settings import KEYFRAME_INPUTS, check_strength, frame_position
from latentshift.user_input.argument_types import is_whole

_NAME = "keyframes"


@dataclass(frozen=True)
class Keyframes:
    """Keyframes that were checked.

    Attributes:
        pictures: number of a frame, 0 … F - 1 -> for each of B videos a picture as
            :mod:`latentshift.models.call.pictures` has them, or latents.
        strengths: of F frames, 0 where there is no keyframe.
        latent_shape: (C, h, w) of a frame.
        clean: whether the U-Net sees them without noise.
    """

    pictures: Mapping[int, list[Any]]
    strengths: tuple[float, ...]
    latent_shape: tuple[int, int, int]
    clean: bool

    def encode(self, autoencoder: AutoencoderKL, device: torch.device) -> KnownFrames:
        """The clean latents of B videos.

        Args:
            autoencoder: of the pipeline; a picture is encoded once, to the posterior's mean, in float32.
            device: of the latents.
        """
        encoded: dict[int, Tensor] = {}
        videos = len(next(iter(self.pictures.values())))
        latents = torch.zeros(videos, len(self.strengths), *self.latent_shape, device=device)
        for frame, of_videos in self.pictures.items():
            for video, picture in enumerate(of_videos):
                if id(picture) not in encoded:
                    encoded[id(picture)] = self._latents_of(picture, autoencoder, device)
                latents[video, frame] = encoded[id(picture)]
        return KnownFrames(latents, self.strengths, self.clean)

    def _latents_of(self, picture: Any, autoencoder: AutoencoderKL, device: torch.device) -> Tensor:
        if _are_latents(picture, self.latent_shape):
            return picture.to(device, torch.float32)
        pixels = as_tensor(picture).to(device).expand(3, -1, -1)
        return encode_pictures(autoencoder, pixels[None] * 2 - 1)[0]


def read_keyframes(
    pipe: Any,
    keyframes: Mapping[int, Any] | None,
    strength: float | Mapping[int, float],
    seen: str,
    num_prompts: int,
    videos_per_prompt: int,
    num_frames: int,
    height: int,
    width: int,
) -> Keyframes | None:
    """Check the keyframes of a call.

    Args:
        pipe: the video pipeline.
        keyframes: frame, -F … F - 1 -> a picture of H × W pixels or latents (C, h, w), or P or B of either.
        strength: of all, or of each frame that is named; those that are not have 1.
        seen: one of ``KEYFRAME_INPUTS``: how the U-Net sees them.
        num_prompts: P.
        videos_per_prompt: n.
        num_frames: F.
        height: H.
        width: W.

    Returns:
        None without keyframes.

    Raises:
        ValueError: for a frame outside of the video or named twice, a picture of another size or that no pipeline
            takes, a strength that is no share or of no keyframe, an unknown input, a scheduler that clips, or frames
            that do not see each other.
    """
    if seen not in KEYFRAME_INPUTS:
        raise ValueError(f"keyframe_input must be one of {', '.join(KEYFRAME_INPUTS)}, not {seen!r}")
    if keyframes is None or (isinstance(keyframes, Mapping) and not keyframes):
        if isinstance(strength, bool) or strength not in (1.0, {}):
            raise ValueError(f"keyframe_strength is of {_NAME}, and there are none: give some, or leave it out")
        if seen != "clean":
            raise ValueError(f"keyframe_input is of {_NAME}, and there are none: give some, or leave it out")
        return None
    if not isinstance(keyframes, Mapping):
        raise ValueError(f"{_NAME} is a {type(keyframes).__name__}: give a dict, as {{0: first, -1: last}}")
    check_known_frames(pipe)
    scale = pipe.vae_scale_factor
    latent_shape = (int(pipe.unet.config.in_channels), height // scale, width // scale)
    pictures: dict[int, list[Any]] = {}
    named: dict[int, int] = {}
    for frame, value in keyframes.items():
        position = _position(frame, num_frames, named)
        name = f"{_NAME}[{frame}]"
        kind: Kind = "latents" if _are_latents(value, latent_shape) else "start"
        one_a_video = isinstance(value, (list, tuple)) and len(value) == num_prompts * videos_per_prompt
        clips = clips_for_prompts(value, name, len(value) if one_a_video else num_prompts, 1, kind)
        repeats = 1 if one_a_video else videos_per_prompt
        pictures[position] = [picture for (picture,) in clips for _ in range(repeats)]
        for picture in pictures[position]:
            _check_shape(picture, name, height, width, latent_shape)
    strengths = dict.fromkeys(pictures, 1.0)
    if isinstance(strength, Mapping):
        named = {}
        for frame, value in strength.items():
            if (position := _position(frame, num_frames, named, "keyframe_strength")) not in pictures:
                raise ValueError(f"keyframe_strength names frame {frame}, which has no keyframe")
            strengths[position] = value
    else:
        strengths = dict.fromkeys(pictures, strength)
    for value in strengths.values():
        check_strength(value)
    of_frames = tuple(float(strengths.get(frame, 0.0)) for frame in range(num_frames))
    return Keyframes(pictures, of_frames, latent_shape, clean=seen == "clean")


def check_known_frames(pipe: Any) -> None:
    """Refuse a video pipeline that can't be given frames beforehand.

    Raises:
        ValueError: if frames do not see each other, or the scheduler clips.
    """
    if pipe.method == "none":
        raise ValueError(
            "known frames act on others through the temporal shift or attention, and this pipeline has neither"
        )
    check_known(pipe.scheduler)


def _position(frame: Any, num_frames: int, named: dict[int, int], name: str = _NAME) -> int:
    """0 … F - 1, which is added to those that were named."""
    if not is_whole(frame):
        raise ValueError(f"{name} has the key {frame!r}: it must be the number of a frame, as 0 or -1")
    number = operator.index(frame)
    position = frame_position(number, num_frames, name)
    if position in named:
        raise ValueError(f"{name} names one frame of the {num_frames} twice, as {named[position]} and as {number}")
    named[position] = number
    return position


def _are_latents(value: Any, latent_shape: tuple[int, int, int]) -> bool:
    """Whether tensors are latents: by their channels, which are not those of a picture."""
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    channels = latent_shape[0]
    return isinstance(value, Tensor) and value.ndim >= 3 and value.shape[-3] == channels and channels not in (1, 3)


def _check_shape(picture: Any, name: str, height: int, width: int, latent_shape: tuple[int, int, int]) -> None:
    if _are_latents(picture, latent_shape):
        if tuple(picture.shape) != latent_shape:
            raise ValueError(
                f"{name} has latents of the shape {tuple(picture.shape)}, and a frame's are {latent_shape}"
            )
        return
    if size_of(picture) != (height, width):
        raise ValueError(
            f"{name} is {by(size_of(picture))} pixels, and the video's frames are {by((height, width))}: resize it"
        )
    if (channels := as_tensor(picture).shape[0]) not in (1, 3):
        raise ValueError(
            f"{name} has {channels} channels: a picture has 1 or 3, and a frame's latents {latent_shape[0]}"
        )

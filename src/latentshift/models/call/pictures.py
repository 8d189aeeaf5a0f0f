"""What a user gives as pictures, as a list of frames for each prompt.

A *picture* is a PIL image, an array (H, W, C) in [0, 1] or a tensor (C, H, W) as diffusers' pipelines take them; a mask
may lack its channel. Legend of shapes: P prompts, F frames, H × W pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from latentshift.video.picture import RGB_LIKE_MODES, has_alpha

Clip = list[Any]  # F pictures
_ORIENTATION = 0x0112  # of EXIF
Kind = Literal["start", "condition", "mask", "latents", "reference"]


def clips_for_prompts(value: Any, name: str, num_prompts: int, num_frames: int, kind: Kind = "start") -> list[Clip]:
    """One clip of F pictures for each prompt.

    Args:
        value: one picture, a clip of F pictures, or P of either; a clip may be a list, an array (F, H, W, C) or a
            tensor (F, C, H, W), and P clips one of one more dimension.
        name: the argument's, for messages.
        num_prompts: P.
        num_frames: F.
        kind: ``"start"``: what a video starts from; ``"condition"``: of a ControlNet or adapter, may be grey;
            ``"mask"``: has one channel, or no dimension for it; ``"latents"``: tensors (C, h, w) of any numbers;
            ``"reference"``: of an IP-Adapter, PIL images of any sizes.

    Returns:
        P lists of F pictures, all of one type and size. Tensors to start from that are in [-1, 1] are in [0, 1] then,
        since pipelines take those without a negative number for such anyway.

    Raises:
        ValueError: if there is another number of pictures, or one that no pipeline should be given: with an alpha
            channel, of another size or type than the others, or with numbers out of range.
    """
    entries = _entries(value, name, kind)
    if isinstance(entries, _Picture):
        clips = [[entries.value] * num_frames] * num_prompts
    elif all(isinstance(entry, _Picture) for entry in entries):
        clips = _of_flat_list([entry.value for entry in entries], name, num_prompts, num_frames)
    else:
        clips = _of_nested_list(entries, name, num_prompts, num_frames)
    unique = {id(picture): picture for clip in clips for picture in clip}
    checked = {key: check_picture(picture, name, kind) for key, picture in unique.items()}
    types = {_type_of(picture) for picture in checked.values()}
    if len(types) > 1:
        raise ValueError(f"{name} mixes {' and '.join(sorted(types))}: give all of its pictures as one of them")
    sizes = sorted({size_of(picture) for picture in checked.values()})
    if len(sizes) > 1 and kind != "reference":
        raise ValueError(
            f"the pictures of {name} differ in size ({by(sizes[0])} and {by(sizes[1])}): resize them to one"
        )
    if kind == "start" and any(_is_signed(picture) for picture in checked.values()):
        checked = {key: picture if is_latents(picture) else (picture + 1) / 2 for key, picture in checked.items()}
    return [[checked[id(picture)] for picture in clip] for clip in clips]


def join(frames: Sequence[Any]) -> Any:
    """Pictures of one type as a pipeline takes them: a list of PIL images, an array or a tensor with one dimension
    more."""
    if isinstance(frames[0], Image.Image):
        return list(frames)
    return torch.stack(list(frames)) if isinstance(frames[0], torch.Tensor) else np.stack(frames)


def size_of(picture: Any) -> tuple[int, int]:
    """(height, width) of a picture; of latents, in latent pixels."""
    if isinstance(picture, Image.Image):
        return picture.height, picture.width
    if isinstance(picture, torch.Tensor):
        return int(picture.shape[-2]), int(picture.shape[-1])
    height, width = picture.shape[:2]
    return int(height), int(width)


def is_latents(picture: Any) -> bool:
    """Whether pipelines take a picture for latents: a tensor of four channels."""
    return isinstance(picture, torch.Tensor) and picture.ndim == 3 and picture.shape[0] == 4


def as_tensor(picture: Any) -> torch.Tensor:
    """A picture (C, H, W); of a PIL image or an array, in [0, 1]."""
    if isinstance(picture, torch.Tensor):
        return picture
    if isinstance(picture, Image.Image):
        picture = np.asarray(picture, dtype=np.float32) / 255
    pixels = torch.from_numpy(np.ascontiguousarray(picture))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def check_picture(picture: Any, name: str, kind: Kind = "start") -> Any:
    """The picture; a PIL image upright, as its EXIF data say, and in RGB if it is one to start from.

    Raises:
        ValueError: see :func:`clips_for_prompts`.
    """
    if isinstance(picture, Image.Image):
        return _check_image(picture, name, kind)
    if kind == "reference":
        raise ValueError(f"{name} is a {type(picture).__name__}: give PIL images, or embeddings")
    tensor = torch.as_tensor(picture).detach()
    channels = 1 if tensor.ndim == 2 else int(picture.shape[0 if isinstance(picture, torch.Tensor) else -1])
    if isinstance(picture, np.ndarray) and channels in (2, 4):
        raise ValueError(f"{name} has a picture with an alpha channel: drop it with picture[..., :{channels - 1}]")
    if kind in ("start", "condition") and not is_latents(picture) and _are_other_channels(picture, channels):
        raise ValueError(
            f"{name} has pictures of {channels} channels: arrays are (F, H, W, 3), tensors (F, 3, H, W), or of "
            "one picture without F"
        )
    if kind == "mask" and not tensor.is_floating_point() and int(tensor.max()) <= 1:
        return tensor.float() if isinstance(picture, torch.Tensor) else picture.astype(np.float32)
    if not tensor.is_floating_point():
        raise ValueError(
            f"{name} has pictures of {str(picture.dtype).removeprefix('torch.')} numbers: divide them by 255, since "
            "arrays and tensors are in [0, 1], or give PIL images"
        )
    least, most = float(tensor.min()), float(tensor.max())
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ValueError(f"{name} has a picture with numbers that are not finite")
    # Conditions too: ControlNets for inpainting have -1 where there is nothing to see.
    signed = isinstance(picture, torch.Tensor) and kind in ("start", "condition")
    if not (kind == "latents" or is_latents(picture)) and (most > 1 or least < (-1 if signed else 0)):
        bounds = "[0, 1] or [-1, 1]" if signed else "[0, 1]"
        raise ValueError(f"{name} has a picture with numbers from {least:g} to {most:g}: they are to be in {bounds}")
    return picture


def _are_other_channels(picture: Any, channels: int) -> bool:
    """Whether it is no picture: a tensor of other channels may be latents, unless its last dimension is a colour's."""
    return channels not in (1, 3) and (isinstance(picture, np.ndarray) or picture.shape[-1] in (1, 3))


def _is_signed(picture: Any) -> bool:
    return isinstance(picture, torch.Tensor) and not is_latents(picture) and float(picture.min()) < 0


def by(size: tuple[int, int]) -> str:
    """(height, width) in words."""
    height, width = size
    return f"{width}×{height}"


def _check_image(picture: Image.Image, name: str, kind: Kind) -> Image.Image:
    if kind == "latents":
        raise ValueError(f"{name} has a PIL image: it takes tensors")
    if (count := getattr(picture, "n_frames", 1)) > 1:  # its first frame alone would be taken
        raise ValueError(
            f"{name} has an animation of {count} frames: give its frames, "
            '[frame.convert("RGB") for frame in PIL.ImageSequence.Iterator(picture)]'
        )
    if has_alpha(picture):
        if kind == "mask":  # pipelines would look at its colours alone
            raise ValueError(
                f"{name} has a picture with an alpha channel: give the channel that is meant, picture."
                'convert("RGBA").getchannel("A") or picture.convert("RGBA").convert("L")'
            )
        # Where a picture has four channels, pipelines take it for latents.
        raise ValueError(
            f'{name} has a picture with an alpha channel: drop it with picture.convert("RGBA").convert("RGB")'
        )
    if (
        picture.mode != "RGB" and picture.mode not in RGB_LIKE_MODES
    ):  # 16 bits would become 8 by cutting off what is above
        raise ValueError(f'{name} has a picture of mode {picture.mode}: convert it to "RGB" or "L" first')
    if picture.getexif().get(_ORIENTATION, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    return picture if kind == "mask" or (kind == "condition" and picture.mode == "L") else picture.convert("RGB")


class _Picture:
    """One picture, told apart from the list that it is in."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _entries(value: Any, name: str, kind: Kind) -> _Picture | list[Any]:
    """A picture; or a list of pictures and of lists of pictures."""
    if isinstance(value, Image.Image):
        return _Picture(value)
    if isinstance(value, (np.ndarray, torch.Tensor)):
        own = _dimensions(value, kind)
        if value.ndim < own or value.ndim > own + 2:
            raise ValueError(
                f"{name} has the shape {tuple(value.shape)}: a picture is (H, W, C) as an array and (C, H, W) as a "
                "tensor, a clip (F, …), and clips (P, F, …)"
            )
        if value.ndim == own:
            return _Picture(value)
        return [_entries(each, name, kind) for each in value]
    if isinstance(value, (list, tuple)):
        if not value:
            raise ValueError(f"{name} is an empty list: leave it out, or give a picture")
        return [_entries(each, name, kind) for each in value]
    raise ValueError(f"{name} is a {type(value).__name__}: give PIL images, arrays or tensors")


def _dimensions(value: Any, kind: Kind) -> int:
    """Of one picture in this array or tensor; a mask may lack its channel."""
    if kind != "mask":
        return 3
    axis = -3 if isinstance(value, torch.Tensor) else -1
    return 3 if value.ndim >= 3 and value.shape[axis] == 1 else 2


def _of_flat_list(pictures: list[Any], name: str, num_prompts: int, num_frames: int) -> list[Clip]:
    count = len(pictures)
    if count == 1:
        return [pictures * num_frames] * num_prompts
    if count == num_frames == num_prompts:
        raise ValueError(
            f"{name} has {count} pictures, which may be a clip or one for each of {num_prompts} prompts: give "
            f"[clip] * {num_prompts} for a clip, or [[picture], [picture], …] for one a prompt"
        )
    if count == num_frames:
        return [pictures] * num_prompts
    if count == num_prompts:
        return [[picture] * num_frames for picture in pictures]
    raise ValueError(_wrong_count(f"{name} has {count} pictures", num_prompts, num_frames))


def _of_nested_list(entries: list[Any], name: str, num_prompts: int, num_frames: int) -> list[Clip]:
    if len(entries) not in (1, num_prompts):
        raise ValueError(_wrong_count(f"{name} has {len(entries)} clips", num_prompts, num_frames))
    clips = []
    for number, entry in enumerate(entries):
        members = [entry] if isinstance(entry, _Picture) else entry
        if not all(isinstance(member, _Picture) for member in members):
            raise ValueError(f"{name} is nested too deeply: give clips as lists of pictures, and no lists in these")
        if len(members) not in (1, num_frames):
            raise ValueError(_wrong_count(f"clip {number} of {name} has {len(members)} pictures", 1, num_frames))
        clips.append([member.value for member in members] * (num_frames // len(members)))
    return clips * (num_prompts // len(clips))


def _wrong_count(found: str, num_prompts: int, num_frames: int) -> str:
    clip = f"one, or a clip of {num_frames}" if num_frames > 1 else "one"
    each = f"; or that for each of {num_prompts} prompts" if num_prompts > 1 else ""
    return f"{found}: give {clip}{each}"


def _type_of(picture: Any) -> str:
    if isinstance(picture, Image.Image):
        return "PIL images"
    return "tensors" if isinstance(picture, torch.Tensor) else "arrays"

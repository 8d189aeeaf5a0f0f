"""What is done to frames before each network: once here, with its source.

Legend of shapes: N frames, F frames of a clip, H and W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from latentshift.evaluation.extractors.sprites.networks import SIZE as SPRITES_SIZE
from latentshift.video import to_unit

INCEPTION_SIZE = 299
CLIP_SIZE = 224
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of OpenAI's CLIP, R, G, B in 0 … 1
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def for_inception(frames: Tensor) -> Tensor:
    """Frames as the Inception of 2015 reads them: float32 (N, 3, 299, 299) in [-1, 1).

    The graph behind the published FID resizes bilinearly and takes (x - 128) / 128 (torch-fidelity,
    ``feature_extractor_inceptionv3.py``).

    Args:
        frames: uint8 (N, H, W, 3).
    """
    pixels = frames.permute(0, 3, 1, 2).float()
    return (resize_as_tensorflow_1(pixels, INCEPTION_SIZE, INCEPTION_SIZE) - 128) / 128


def resize_as_tensorflow_1(pixels: Tensor, height: int, width: int) -> Tensor:
    """Bilinear resizing with neither antialiasing nor half-pixel centres, as TensorFlow 1's ``ResizeBilinear``.

    Output pixel i lies at i * (input size / output size) of the input (``image_resizer_state.h``), so the picture moves
    by up to half a pixel: torch's ``interpolate`` gives other numbers.

    Args:
        pixels: float (N, C, H, W).
        height: of the result.
        width: likewise.
    """
    low, high, share = _neighbours(pixels.shape[3], width, pixels)
    left, right = pixels.index_select(3, low), pixels.index_select(3, high)
    rows = left + (right - left) * share
    low, high, share = _neighbours(pixels.shape[2], height, pixels)
    top, bottom = rows.index_select(2, low), rows.index_select(2, high)
    return top + (bottom - top) * share[:, None]


def _neighbours(size: int, new_size: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two input pixels of each output pixel, and the share of the second."""
    scale = torch.tensor(size / new_size, dtype=torch.float32, device=like.device)
    place = torch.arange(new_size, dtype=torch.float32, device=like.device) * scale
    low = place.long().clamp_max(size - 1)
    return low, (low + 1).clamp_max(size - 1), (place - low).to(like.dtype)


def for_torchscript(video: Tensor) -> Tensor:
    """A clip as StyleGAN-V's I3D and C3D files take it: uint8 (1, 3, F, H, W), RGB in 0 … 255, at its own size.

    Everything else is inside the files (StyleGAN-V, ``metric_utils.py``). I3D, with ``rescale=True, resize=True``:
    x / 255 * 2 - 1, stretched to 224x224. C3D is said to reproduce TGANv2's ``c3d_ucf101.py``: RGB in [-1, 1] times 128
    to BGR, stretched to 112x112, plus 128, minus the centre 112x112 of the mean of 128x128 clips (16 frames of it): it
    is the mean that is cropped from 128 to 112, not the frames.

    Args:
        video: uint8 (F, H, W, 3).
    """
    return video.permute(3, 0, 1, 2).contiguous()[None]


def for_clip(frames: Tensor, size: int = CLIP_SIZE) -> Tensor:
    """Frames as CLIP reads them: float32 (N, 3, size, size), normalized.

    OpenAI's ``clip.load`` preprocessing: Pillow's bicubic with antialiasing, on uint8, to a short side of ``size``; the
    centre of size x size; / 255, minus mean, by deviation. Where a row or column is left over, the crop starts at the
    floor of half of what goes (as transformers; torchvision rounds to even).

    Args:
        frames: uint8 (N, H, W, 3).
        size: the model's image size.
    """
    height, width = frames.shape[1:3]
    short = min(height, width)
    new_height, new_width = int(size * height / short), int(size * width / short)
    top, left = (new_height - size) // 2, (new_width - size) // 2
    made = np.stack(
        [
            np.asarray(Image.fromarray(frame).resize((new_width, new_height), Image.Resampling.BICUBIC))
            for frame in frames.cpu().numpy()
        ]
    )[:, top : top + size, left : left + size]
    pixels = torch.from_numpy(made).to(frames.device).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (pixels.new_tensor(each)[:, None, None] for each in (CLIP_MEAN, CLIP_DEVIATION))
    return (pixels - mean) / deviation


def for_sprites(frames: Tensor) -> Tensor:
    """Frames as the shipped extractors read them: float32 (N, 3, 64, 64) in [-1, 1].

    Frames of another size are stretched, bilinearly with antialiasing.

    Args:
        frames: uint8 (N, H, W, 3).
    """
    pixels = to_unit(frames).permute(0, 3, 1, 2)
    if pixels.shape[2:] == (SPRITES_SIZE, SPRITES_SIZE):
        return pixels
    return interpolate(pixels, (SPRITES_SIZE, SPRITES_SIZE), mode="bilinear", antialias=True)

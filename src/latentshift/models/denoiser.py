"""One forward signature for every video denoiser: latents in frames, a timestep and a text a video.

Folding the frames into the U-Net's batch, and out again, happens here and nowhere else.
Legend of shapes: B videos, F frames, C channels, H × W latent pixels, L tokens, D width of the text encoder.
"""

from __future__ import annotations

from torch import Tensor, nn

from latentshift.shift import clip_context


def denoise(unet: nn.Module, latents: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
    """What the U-Net predicts (noise, or velocity) for noisy videos.

    Without the shift installed the frames are images that know nothing of each other.

    Args:
        latents: (B, F, C, H, W), scaled and noisy.
        timesteps: (B,) or a scalar, 0 … T-1: one a video.
        text: (B, L, D): one a video.

    Returns:
        (B, F, C, H, W).
    """
    batch, num_frames = latents.shape[:2]
    frames = latents.flatten(0, 1)
    steps = timesteps.expand(batch).repeat_interleave(num_frames)
    context = text.repeat_interleave(num_frames, dim=0)
    shape = {} if clip_context(unet) is None else {"num_frames": num_frames}
    predicted = unet(frames, steps, encoder_hidden_states=context, return_dict=False, **shape)[0]
    return predicted.unflatten(0, (batch, num_frames))

"""The losses of the stages, each a module from a batch to a loss, so that accelerate can wrap all of it.

All randomness is in the batch. Knows nothing of optimizers, files or where a batch comes from.
Legend of shapes: B clips, F frames, C latent channels, h × w latent pixels, L tokens, S side of a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, DDPMScheduler
from torch import Tensor, nn

from latentshift.diffusion.condition import TextCondition
from latentshift.diffusion.noise import add_noise, timestep_weight
from latentshift.diffusion.shared_noise import mix_noise
from latentshift.models.conditioning.text import TextEncoders
from latentshift.models.controlnet import control
from latentshift.models.denoiser import denoise
from latentshift.settings import Weighting


@dataclass(frozen=True)
class FrameBatch:
    """Frames for the autoencoder."""

    frames: Tensor  # (B, 3, S, S) in [-1, 1]
    noise: Tensor  # (B, C, h, w) standard normal: the sample of the posterior
    names: Callable[[], list[str]] = list  # of the frames


@dataclass(frozen=True)
class LatentBatch:
    """Clips (F frames) or images (F = 1) for the U-Net."""

    latents: Tensor  # (B, F, C, h, w), scaled
    noise: Tensor  # the same shape, independent standard normal
    timesteps: Tensor  # (B,) 0 … T-1
    token_ids: Tensor | None  # (B, encoders, L), or
    text: TextCondition | None = None  # encoded once
    condition: Tensor | None = None  # (B, F, 3, S, S) in [0, 1]: a ControlNet's pictures
    names: Callable[[], list[str]] = list  # of the clips
    known: Tensor | None = None  # (B, F) bool: frames that are seen clean; None: none


class AutoencoderLoss(nn.Module):
    """L1 and squared error of frames, L1 of their edges, and a small KL divergence (Rombach et al. 2022, App. G)."""

    def __init__(
        self, autoencoder: AutoencoderKL, kl_weight: float, edge_weight: float, mse_weight: float = 0.0
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.kl_weight = kl_weight
        self.edge_weight = edge_weight
        self.mse_weight = mse_weight

    def forward(self, batch: FrameBatch) -> dict[str, Tensor]:
        """Scalars: the ``loss``; ``kl``, the divergence for each latent value; and ``psnr`` in dB."""
        posterior = self.autoencoder.encode(batch.frames).latent_dist
        restored = self.autoencoder.decode(posterior.mean + posterior.std * batch.noise).sample.float()
        difference = restored - batch.frames
        reconstruction = difference.abs().mean()
        squared = difference.square().mean()
        edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
        divergence = posterior.kl().float().mean() / batch.noise[0].numel()
        return {
            "loss": reconstruction + self.mse_weight * squared + self.edge_weight * edges + self.kl_weight * divergence,
            "kl": divergence,
            "psnr": -10 * torch.log10(squared / 4),  # the range [-1, 1] is 2 wide
        }


class DenoisingLoss(nn.Module):
    """Eq. 2 on images and Eq. 5 on clips: the squared error of the predicted noise (or velocity)."""

    def __init__(
        self,
        unet: nn.Module,
        text_encoders: TextEncoders | None,
        scheduler: DDPMScheduler,
        weighting: Weighting = "uniform",
        min_snr_gamma: float = 5.0,
        sigma_data: float = 1.0,
        temporal: nn.Module | None = None,
        pixels: int = 8,
        noise_share: float = 0.0,
        controlnet: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.unet = unet
        self.controlnet = controlnet  # trained in place of the U-Net
        self.pixels = pixels  # to a latent pixel, on each side
        self.sentences = text_encoders  # None where batches bring encoded text; the name is that in checkpoints
        self.temporal = temporal  # works from within the U-Net; here so that it is trained
        self.scheduler = scheduler
        self.weighting = weighting
        self.min_snr_gamma = min_snr_gamma
        self.sigma_data = sigma_data
        self.noise_share = noise_share  # of the frames of a clip; without effect on images

    def train(self, mode: bool = True) -> DenoisingLoss:
        """As ever, but what is frozen stays as it is at inference: no dropout in a frozen text encoder."""
        super().train(mode)
        for part in self.children():
            part.train(mode and any(parameter.requires_grad for parameter in part.parameters()))
        return self

    def forward(self, batch: LatentBatch) -> dict[str, Tensor]:
        """Scalars: the ``loss``, and ``error``, without the weights of timesteps; known frames count in neither."""
        noise = mix_noise(batch.noise, self.noise_share)
        noisy, target = add_noise(self.scheduler, batch.latents, noise, batch.timesteps)
        text = batch.text
        if text is None:
            assert batch.token_ids is not None and self.sentences is not None
            text = self.sentences(batch.token_ids)
        height, width = (side * self.pixels for side in noisy.shape[-2:])
        # SDXL's sizes: frames that are not cropped, and as large as they are to be.
        text = text.with_sizes((height, width, 0, 0, height, width))
        timesteps, known = batch.timesteps, batch.known
        if known is not None:
            noisy = torch.where(known[..., None, None, None], batch.latents, noisy)
            timesteps = torch.where(known, 0, timesteps[:, None])
        controls = None
        if self.controlnet is not None:
            assert batch.condition is not None
            controls = control(self.controlnet, noisy, timesteps, text, batch.condition)
        predicted = denoise(self.unet, noisy, timesteps, text, controls=controls).float()
        squared = (predicted - target).square()
        error = squared.flatten(1).mean(dim=1) if known is None else _mean_of_others(squared, known)
        weight = timestep_weight(self.scheduler, batch.timesteps, self.weighting, self.min_snr_gamma, self.sigma_data)
        return {"loss": (error * weight).mean(), "error": error.mean().detach()}


def _mean_of_others(squared: Tensor, known: Tensor) -> Tensor:
    """The mean (B,) over the frames that are not known, of which every clip has one or more."""
    free = ~known
    return (squared.flatten(2).mean(dim=2) * free).sum(dim=1) / free.sum(dim=1)

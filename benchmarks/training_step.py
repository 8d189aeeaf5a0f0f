"""How long a training step of the bundled model takes, and what shared text and compilation save.

Forward and backward of 8 clips of 16 frames in bf16 autocast, channels-last, math attention, no optimizer. The last
column is the ratio to the U-Net with stock attention, its text repeated for each frame, in the same run:

    python benchmarks/training_step.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch.nn.attention import SDPBackend, sdpa_kernel

from latentshift import LatentShiftPipeline
from latentshift.model_paths import bundled_model
from latentshift.models.denoiser import compile_for_training, denoise, share_text

CLIPS, FRAMES, STEPS = 8, 16, 8


def main() -> None:
    unet = LatentShiftPipeline.from_pretrained(bundled_model()).unet.to(memory_format=torch.channels_last).train()
    side, channels = unet.config.sample_size, unet.config.in_channels
    latents = torch.randn(CLIPS, FRAMES, channels, side, side)
    timesteps = torch.randint(1000, (CLIPS,))
    text = torch.randn(CLIPS, 77, unet.config.cross_attention_dim)

    def step() -> None:
        with sdpa_kernel(SDPBackend.MATH):
            with torch.autocast("cpu", torch.bfloat16):
                predicted = denoise(unet, latents, timesteps, text)
            predicted.float().square().mean().backward()
        unet.zero_grad(set_to_none=True)

    variants: dict[str, Callable[[], None]] = {
        "text repeated for each frame": lambda: unet.set_attn_processor(AttnProcessor2_0()),
        "text shared": lambda: share_text(unet),
        "text shared, compiled": lambda: compile_for_training(unet),
    }
    stock = 0.0
    for name, prepare in variants.items():
        prepare()
        step()
        step()
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        seconds = (time.perf_counter() - start) / STEPS
        stock = stock or seconds
        print(f"{name:32} {seconds:6.3f} s  {CLIPS / seconds:5.1f} clips/s  {seconds / stock:5.2f}")


if __name__ == "__main__":
    main()

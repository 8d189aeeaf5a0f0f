"""How long a forward and backward pass of the bundled model takes, and what shared text and compilation save.

8 clips of 16 frames, channels-last, math attention, no optimizer, on the CPU. The ratio is to the U-Net with stock
attention, its text repeated for each frame, in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch.nn.attention import SDPBackend, sdpa_kernel

from latentshift.benchmarks.report import Result
from latentshift.diffusion.condition import TextCondition
from latentshift.models.denoiser import compile_for_training, denoise, share_text
from latentshift.models.storage.model_paths import bundled_model
from latentshift.pipeline import LatentShiftPipeline
from latentshift.training.precision import is_slow_in_bf16

CLIPS, FRAMES, STEPS = 8, 16, 8
_COMPILED = "text shared, compiled"


def bench_training_step(quick: bool = False) -> Iterator[Result]:
    """One row for each variant; in bf16 where the CPU has instructions for it. Quick: one step, nothing compiled."""
    unet = LatentShiftPipeline.from_pretrained(bundled_model()).unet.to(memory_format=torch.channels_last).train()
    side, channels = unet.config.sample_size, unet.config.in_channels
    latents = torch.randn(CLIPS, FRAMES, channels, side, side)
    timesteps = torch.randint(1000, (CLIPS,))
    text = TextCondition(torch.randn(CLIPS, 77, unet.config.cross_attention_dim))
    bf16 = not is_slow_in_bf16(torch.device("cpu"))

    def step() -> None:
        with sdpa_kernel(SDPBackend.MATH):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                predicted = denoise(unet, latents, timesteps, text)
            predicted.float().square().mean().backward()
        unet.zero_grad(set_to_none=True)

    variants: dict[str, Callable[[], None]] = {
        "text repeated for each frame": lambda: unet.set_attn_processor(AttnProcessor2_0()),
        "text shared": lambda: share_text(unet),
        _COMPILED: lambda: compile_for_training(unet),
    }
    if quick:
        del variants[_COMPILED]
    steps = 1 if quick else STEPS
    stock = 0.0
    for name, prepare in variants.items():
        prepare()
        for _ in range(min(2, steps)):  # warm-up, and compilation
            step()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        seconds = (time.perf_counter() - start) / steps
        stock = stock or seconds
        yield {
            "what": name,
            "precision": "bf16" if bf16 else "fp32",
            "seconds_a_step": seconds,
            "clips_a_second": CLIPS / seconds,
            "ratio": seconds / stock,
        }

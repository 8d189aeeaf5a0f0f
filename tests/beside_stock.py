"""One frame of ``LatentShiftPipeline`` beside the image of the stock pipeline of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from latentshift import LatentShiftPipeline
from tiny_models import base_scheduler

FEW: dict[str, Any] = {"num_inference_steps": 2, "output_type": "np", "guidance_scale": 5.0}
FAMILIES = ("sd1", "sdxl")


def load_ours(folder: Path) -> LatentShiftPipeline:
    """With replicate padding, where one frame is the image model's."""
    ours = LatentShiftPipeline.from_pretrained(folder, shift={"padding": "replicate"})
    ours.scheduler = type(base_scheduler()).from_pretrained(folder, subfolder="scheduler")
    ours.set_progress_bar_config(disable=True)
    return ours


def load_stock(folder: Path) -> Any:
    stock = DiffusionPipeline.from_pretrained(folder)
    stock.set_progress_bar_config(disable=True)
    return stock


def frame_of(ours: LatentShiftPipeline, prompt: str = "red star", **options: Any) -> np.ndarray:
    made = ours(prompt, num_frames=1, generator=torch.Generator().manual_seed(1), **{**FEW, **options})
    return made.frames[0, 0]


def image_of(stock: Any, prompt: str = "red star", **options: Any) -> np.ndarray:
    return stock(prompt, generator=torch.Generator().manual_seed(1), **{**FEW, **options}).images[0]


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.allclose(one, other, atol=1e-5, rtol=0))

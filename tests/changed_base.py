"""Bases with other settings, and one frame of ours beside the stock pipeline's image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline

from latentshift import LatentShiftPipeline
from latentshift.training.recipe_file import load_recipe

NOISE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
QUAD = {"beta_start": 8.5e-4, "beta_end": 1.2e-2, "beta_schedule": "scaled_linear"}
UNCLIPPED = {**QUAD, "clip_sample": False}
ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}


def changed(base: Path, folder: Path, part: str, **settings: object) -> Path:
    """A copy of a saved base with settings of one part written over."""
    shutil.copytree(base, folder)
    file = folder / "model_index.json" if part == "model_index" else folder / part / "config.json"
    if part == "scheduler":
        file = folder / part / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return folder


def with_scheduler(base: Path, folder: Path, kind: str, **settings: object) -> Path:
    """A copy of a saved base with another scheduler."""
    shutil.copytree(base, folder)
    shutil.rmtree(folder / "scheduler")
    getattr(diffusers, kind)(**settings).save_pretrained(folder / "scheduler")
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "scheduler": ["diffusers", kind]}))
    return folder


def both(folder: Path) -> tuple[LatentShiftPipeline, DiffusionPipeline]:
    """Ours without the shift, and the stock pipeline."""
    pipelines = LatentShiftPipeline.from_pretrained(folder, shift=None), DiffusionPipeline.from_pretrained(folder)
    for each in pipelines:
        each.set_progress_bar_config(disable=True)
    return pipelines


def assert_same_image(ours: LatentShiftPipeline, stock: DiffusionPipeline, output: str = "latent", **options) -> None:
    common = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": output, **options}
    seeds = [torch.Generator().manual_seed(1) for _ in range(2)]
    image = stock("red star", latents=NOISE.clone(), height=16, width=16, generator=seeds[0], **common).images
    frame = ours("red star", latents=NOISE[:, None].clone(), num_frames=1, generator=seeds[1], **common).frames
    assert np.isfinite(np.asarray(image)).all()
    np.testing.assert_allclose(np.asarray(frame)[:, 0], np.asarray(image), atol=2e-5, rtol=1e-4)


def both_saved(folder: Path) -> LatentShiftPipeline:
    ours = LatentShiftPipeline.from_pretrained(folder)
    ours.set_progress_bar_config(disable=True)
    return ours


def video_recipe(folder: Path, output: Path | None = None):
    recipe = Path(__file__).parent.parent / "recipes" / "finetune-folder.yaml"
    words = [f"model={folder}", "data={source: sprites, options: {clips: 4}}", "batch_size=1", "compute={device: cpu}"]
    return load_recipe(recipe, [*words, *([] if output is None else [f"output={output}"])])

"""A Stable Diffusion 1.x folder of latentshift in ComfyUI, by its own loaders: at full size, for they know no other."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from transformers import CLIPTokenizer

from comfyui_process import CHECKOUT, WHY_NOT, import_pack
from latentshift import LatentShiftPipeline
from latentshift.diffusion.noise import paper_scheduler
from latentshift.models.storage.families import random_weights

pytestmark = [pytest.mark.skipif(CHECKOUT is None, reason=WHY_NOT), pytest.mark.slow]

FRAMES, STEPS, SCALE, PROMPT = 2, 2, 3.0, "a red star circling"
PADDING = "replicate"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In a folder where ComfyUI looks for diffusers models, in half precision: 2 GB."""
    import_pack()
    import folder_paths

    root = tmp_path_factory.mktemp("diffusers")
    parts = random_weights("sd1")
    parts["tokenizer"] = CLIPTokenizer.from_pretrained(f"{CHECKOUT}/comfy/sd1_tokenizer")
    parts["scheduler"] = paper_scheduler("v_prediction")  # ComfyUI would take it for noise
    pipe = LatentShiftPipeline(**parts, shift={"padding": PADDING})
    pipe.to(dtype=torch.float16).save_pretrained(root / "clips" / "mine")
    folder_paths.add_model_folder_path("diffusers", str(root))
    return root / "clips" / "mine"


def comfys_frames(start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents in the U-Net's scale, and frames (F, H, W, 3)."""
    import comfy.sample
    from latentshift_nodes.load_model import load_model, model_names
    from latentshift_nodes.shift_patch import shift_of

    assert model_names() == ["bundled", "clips/mine"]
    model, clip, vae = load_model("clips/mine")
    assert shift_of(model).padding == PADDING
    text, empty = (clip.encode_from_tokens_scheduled(clip.tokenize(each)) for each in (PROMPT, ""))
    sampling: dict[str, Any] = {"disable_pbar": True}
    latents = comfy.sample.sample(
        model, start, STEPS, SCALE, "euler", "simple", text, empty, torch.zeros_like(start), **sampling
    )
    return latents * model.model.latent_format.scale_factor, vae.decode(latents)


@torch.no_grad()
def test_a_folder_makes_what_our_pipeline_makes(folder: Path) -> None:
    start = torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    latents, frames = comfys_frames(start.clone())
    gc.collect()
    pipe = LatentShiftPipeline.from_pretrained(folder)
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    highest = float(((1 - pipe.scheduler.alphas_cumprod[-1]) / pipe.scheduler.alphas_cumprod[-1]).sqrt())
    # ComfyUI starts from noise of variance 1 + σ², diffusers' Euler sampler from σ².
    options: dict[str, Any] = {"num_frames": FRAMES, "num_inference_steps": STEPS, "guidance_scale": SCALE}
    options |= {"height": 64, "width": 64, "latents": start[None] * (1 + highest**-2) ** 0.5}
    expected = pipe(PROMPT, output_type="latent", **options).frames[0]
    difference = float((latents - expected).abs().max() / expected.abs().max())
    print(f"latents differ by {difference:.1e} of the largest")
    assert difference < 1e-3
    decoded = pipe.decode(expected[None])[0].movedim(1, -1) / 2 + 0.5
    assert (frames - decoded.clamp(0, 1)).abs().max() < 0.01
    shown = float((frames[0] - frames[1]).abs().mean())
    assert shown > 1e-3  # something to see

"""What ``latentshift.video`` refuses that image pipelines meet far inside, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, PNDMScheduler

import latentshift
from latentshift.models.decoded_frames import NotFiniteError
from tiny_models import TEXT_WIDTH
from tiny_pipelines import clip, mask, picture, tiny_pipeline, with_ip_adapter

F = 2
FEW: dict[str, Any] = {"num_inference_steps": 2, "output_type": "np"}
IMAGE = "StableDiffusionImg2ImgPipeline"


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("StableDiffusionControlNetPipeline", {}, r"needs image: give one picture, or a clip of 2"),
        ("StableDiffusionInpaintPipeline", {"image": picture(1)}, r"InpaintPipeline needs mask_image"),
        ("StableDiffusionControlNetImg2ImgPipeline", {"image": picture(1)}, "needs control_image"),
        (IMAGE, {"image": picture(1), "strength": 0.0}, "strength 0 leaves none of 2 steps: give 0.5 or more"),
        (IMAGE, {"image": picture(1), "strength": 0.3}, r"strength 0\.3 leaves none of 2 steps: give 0\.5 or more"),
        ("StableDiffusionXLImg2ImgPipeline", {"image": picture(1)}, r"strength 0\.3 leaves none of 2 steps"),  # its own
        ("StableDiffusionInpaintPipeline", {"image": picture(1), "mask_image": mask(), "strength": 0.1}, "none of 2"),
        ("StableDiffusionXLModularPipeline", {"image": picture(1), "strength": 0.1}, "leaves none of 2 steps"),
        (
            "StableDiffusionControlNetPAGPipeline",
            {"image": picture(1), "guess_mode": True},
            "guess_mode does not work with guidance in StableDiffusionControlNetPAGPipeline",
        ),
        ("StableDiffusionPipeline", {"latents": torch.full((1, F, 4, 8, 8), torch.nan)}, "latents must be a tensor of"),
        (
            "StableDiffusionPipeline",
            {"prompt": None, "prompt_embeds": torch.full((1, 12, TEXT_WIDTH), torch.inf)},
            "prompt_embeds must be a tensor of finite numbers, not one with NaN or infinity",
        ),
    ],
)
def test_a_mistake_is_one_sentence(kind: str, given: dict[str, Any], words: str) -> None:
    video = latentshift.video(tiny_pipeline(kind), F)
    with pytest.raises(ValueError, match=words):
        video(**{"prompt": "red star", **FEW, **given})


def test_too_few_steps_for_pndm() -> None:
    stock = tiny_pipeline("StableDiffusionPipeline")
    stock.scheduler = PNDMScheduler.from_config(stock.scheduler.config, skip_prk_steps=False)
    for pipe in (latentshift.video(stock, F), latentshift.LatentShiftPipeline.from_pipe(stock, num_frames=F)):
        with pytest.raises(ValueError, match="PNDMScheduler takes 4 steps or more with its Runge-Kutta steps, not 2"):
            pipe("red star", **FEW)
    stock.scheduler = DDPMScheduler.from_config(stock.scheduler.config, clip_sample=False)  # which keeps the setting
    assert stock.scheduler.config.skip_prk_steps is False
    assert len(latentshift.video(stock, F)("red star", **FEW).frames[0]) == F


def test_a_strength_that_leaves_a_step_by_a_schedule_of_ones_own() -> None:
    pipe = tiny_pipeline(IMAGE)
    pipe.scheduler = DDPMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    video = latentshift.video(pipe, F)
    given = {"image": clip(1, F), "timesteps": [900, 500, 100], "strength": 0.4}
    assert video("red star", **{**FEW, "num_inference_steps": None, **given}).frames.shape == (1, F, 16, 16, 3)


@pytest.mark.parametrize("output_type", ["pil", "latent"])
def test_what_is_not_finite_is_no_black_video(output_type: str) -> None:
    pipe = tiny_pipeline("StableDiffusionControlNetPipeline")
    video = latentshift.video(pipe, F)
    options: dict[str, Any] = {"image": picture(1), **FEW, "output_type": output_type}
    with_ip_adapter(pipe)
    pipe.set_ip_adapter_scale(float("nan"))  # of the image pipeline, which takes it
    with pytest.raises(NotFiniteError, match="the U-Net made values that are not finite"):
        video("red star", ip_adapter_image=picture(2), **options)
    pipe.unload_ip_adapter()
    video("red star", **options)
    torch.nn.init.constant_(pipe.vae.decoder.conv_out.bias, torch.inf)
    if output_type == "latent":
        video("red star", **options)
        return
    with pytest.raises(NotFiniteError, match="the autoencoder made values that are not finite"):
        video("red star", **options)
    assert not pipe.vae.decoder._forward_hooks and not pipe.vae.decoder._forward_pre_hooks

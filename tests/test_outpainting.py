"""Outpainting with ``latentshift.video``: a clip on a larger canvas stays, and what is around it is painted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

import latentshift
from tiny_pipelines import SIDE, clip, tiny_pipeline

F = 3
WIDE = SIDE + 8
LEFT = 4


@pytest.mark.parametrize("kind", ["StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline"])
def test_the_clip_stays_and_what_is_around_it_is_painted(kind: str) -> None:
    pipe = tiny_pipeline(kind)
    with torch.no_grad():  # the autoencoder does not draw
        pipe.vae.quant_conv.weight[4:].zero_()
        pipe.vae.quant_conv.bias[4:].fill_(-30.0)
    mask = Image.new("L", (WIDE, SIDE), 255)
    mask.paste(0, (LEFT, 0, LEFT + SIDE, SIDE))
    wide = []
    for frame in clip(1, F):
        wide.append(Image.new("RGB", mask.size))
        wide[-1].paste(frame, (LEFT, 0))
    video = latentshift.video(pipe, F)
    options: dict[str, Any] = {"image": wide, "mask_image": mask, "strength": 1.0, "num_inference_steps": 2}

    def make(seed: int) -> torch.Tensor:
        made = video("red star", generator=torch.Generator().manual_seed(seed), output_type="latent", **options)
        return made.frames[0]

    one, other = make(1), make(2)
    assert one.shape == (F, 4, SIDE // 2, WIDE // 2)
    kept = slice(LEFT // 2, (LEFT + SIDE) // 2)  # in latent pixels
    pixels = pipe.image_processor.preprocess(wide)
    clean = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor
    torch.testing.assert_close(one[..., kept], clean[..., kept], atol=1e-4, rtol=1e-4)
    around = torch.ones(WIDE // 2, dtype=torch.bool)
    around[kept] = False
    assert not torch.isclose(one[..., around], clean[..., around], atol=1e-2).all(dim=-1).any()
    assert (one - other).abs()[..., around].mean() > 0.1

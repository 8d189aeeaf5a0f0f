"""The families at full size, counted without filling a single weight."""

from __future__ import annotations

import pytest
import torch

from latentshift import LatentShiftPipeline
from latentshift.models.storage.families import family_of, random_weights

# U-Net, autoencoder, text encoder. LDM: Latent-Shift, Tab. 4 (0.87 B, 0.08 B, 0.58 B); the others as published.
COUNTS = {
    "ldm": (872_300_484, 83_653_863, 581_994_042),
    "sd1": (859_520_964, 83_653_863, 123_060_480),
    "sd2": (865_910_724, 83_653_863, 340_387_840),
    "sd2-base": (865_910_724, 83_653_863, 340_387_840),
    "sdxl": (2_567_463_684, 83_653_863, 123_060_480 + 694_659_840),
}


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_full_size_families_have_their_published_parameters(name: str) -> None:
    with torch.device("meta"):
        pipeline = LatentShiftPipeline(**random_weights(name), shift={"fold": 3})
    assert (count(pipeline.unet), count(pipeline.vae), count(pipeline.text_encoders)) == COUNTS[name]
    assert family_of(pipeline.text_encoders.encoders, pipeline.scheduler.config.prediction_type) == name
    assert pipeline.scheduler.config.prediction_type == ("v_prediction" if name == "sd2" else "epsilon")
    assert pipeline.sample_size == {"ldm": 256, "sd1": 512, "sd2": 768, "sd2-base": 512, "sdxl": 1024}[name]


@pytest.mark.slow
def test_the_full_size_ldm_makes_a_video(tmp_path) -> None:
    """One step of two frames at 64² through 1.5 billion parameters in bfloat16."""
    pipeline = LatentShiftPipeline(**random_weights("ldm"), shift={"fold": 3}).to(torch.bfloat16)
    frames = pipeline("anything", num_frames=2, height=64, width=64, num_inference_steps=2, output_type="pt").frames
    assert frames.shape == (1, 2, 3, 64, 64) and torch.isfinite(frames).all()

"""The samplers of distilled LoRAs (LCM, TCD): those of diffusers, in Python and by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from latentshift.diffusion.sampler_names import DISTILLED_SAMPLERS, default_guidance, default_steps
from latentshift.diffusion.samplers import make_sampler
from latentshift.video import read_metadata
from test_loaders import frame_of, image_of, load_ours, load_stock, same
from tiny_loras import add_to_all, write_lora


@pytest.mark.parametrize("name", DISTILLED_SAMPLERS)
def test_it_is_the_stock_pipelines(name: str, cli: Any, sd1_folder: Path, tmp_path: Path) -> None:
    stock, ours = load_stock(sd1_folder), load_ours(sd1_folder)
    add_to_all(stock)
    file = write_lora(stock, tmp_path, "diffusers")
    kind = getattr(diffusers, DISTILLED_SAMPLERS[name])
    stock.scheduler = kind.from_config(stock.scheduler.config)
    ours.load_lora_weights(file)
    ours.scheduler = make_sampler(name, ours.scheduler)
    assert type(ours.scheduler) is kind
    few = {"num_inference_steps": default_steps(name, 50), "guidance_scale": default_guidance(name, 7.5)}
    assert few == {"num_inference_steps": 4, "guidance_scale": 1.0}
    image = image_of(stock, **few)
    assert same(frame_of(ours, **few), image)

    words = ("generate", "red star", "--model", sd1_folder, "--sampler", name, "--frames", 1, "--seed", 1)
    code, _, errors = cli(*words, "--lora", file, "-o", "a.png", "--dtype", "float32")
    assert code == 0, errors
    made, settings = np.asarray(Image.open("a.png")) / 255, read_metadata(Path("a.png"))
    assert (settings["steps"], settings["guidance"], settings["sampler"]) == (4, 1.0, DISTILLED_SAMPLERS[name])
    ours.set_shift({"padding": "zeros"})  # as the folder has it
    wanted = frame_of(ours, **few)
    np.testing.assert_allclose(made, wanted, atol=0.51 / 255)
    for more, message in (
        ((), f"--sampler {name} is for weights that were distilled for it: give their LoRA by --lora"),
        (("--lora", file, "--steps", 51), f"--steps must be 1 to 50 with --sampler {name}, not 51"),
        (("--lora", file, "--negative", "black"), f"--sampler {name} needs --guidance for it"),
    ):
        code, _, errors = cli(*words, *more, "-o", "b.png")
        assert code == 1 and message in errors and not Path("b.png").exists()


def test_one_step_is_enough(sd1_folder: Path) -> None:
    ours = load_ours(sd1_folder)
    ours.scheduler = make_sampler("lcm", ours.scheduler)
    options = {"num_frames": 3, "num_inference_steps": 1, "guidance_scale": 1.0, "output_type": "latent"}
    made = ours("red star", generator=torch.Generator().manual_seed(1), **options).frames
    assert made.shape == (1, 3, 4, 8, 8)
    with pytest.raises(ValueError, match=r"'lcmx': choose from ddpm, .*, lcm, tcd"):
        make_sampler("lcmx", ours.scheduler)

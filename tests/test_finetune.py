"""The bundled model, fine-tuned on three real clips with captions in everyday words, gives each of them back."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from latentshift import LatentShiftPipeline
from latentshift.data.footage.decode import read_clip
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Row
from latentshift.models.autoencoder import decode_latents, encode_moments
from latentshift.training.recipe_file import load_recipe
from latentshift.training.run import run
from latentshift.video import to_unit
from test_real_footage import clip

RECIPES = Path(__file__).parent.parent / "recipes"
WINDOWS = {
    "a white rabbit in a meadow": ("bigbuckbunny", 2.0),
    "people ride bicycles through the city": ("bikes", 5.48),
    "a man talks in a car": ("carphone_pristine", 0.0),
}
SAMPLES = 4


@pytest.mark.slow
def test_each_caption_gives_its_own_clip_back(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    with (folder / "metadata.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "text", "start", "end"])
        for caption, (name, start) in WINDOWS.items():
            (folder / f"{name}.mp4").symlink_to(clip(name))
            rows.writerow([f"{name}.mp4", caption, start, start + 2])
    words = [f"data={folder}", "model=bundled", f"output={tmp_path}/run", "compute.device=cpu"]
    words += ["compute.precision=fp32"]  # faster on CPUs that have no instructions for bf16
    run(load_recipe(RECIPES / "finetune-folder.yaml", words), quiet=True)

    pipeline = LatentShiftPipeline.from_pretrained(tmp_path / "run" / "model")
    pipeline.set_progress_bar_config(disable=True)
    restored = {}
    for caption, (name, start) in WINDOWS.items():
        row = Row(str(clip(name)), (caption,), "test", start=start, end=start + 2)
        frames = read_clip(row, Window(), Framing(64, 64), np.random.default_rng(0)).frames
        with torch.no_grad():
            moments = encode_moments(pipeline.vae, to_unit(torch.from_numpy(frames.copy()).permute(0, 3, 1, 2)))
            latents = moments.chunk(2, dim=1)[0] * pipeline.vae.config.scaling_factor
            decoded = decode_latents(pipeline.vae, latents)
        restored[caption] = (decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    for caption in WINDOWS:
        generators = [torch.Generator().manual_seed(seed) for seed in range(SAMPLES)]
        samples = pipeline([caption] * SAMPLES, num_inference_steps=50, generator=generators, output_type="np").frames
        mean = samples.mean(axis=0)
        errors = {other: float(((mean - frames) ** 2).mean()) for other, frames in restored.items()}
        assert min(errors, key=errors.__getitem__) == caption, errors
        for sample in samples:
            assert min(restored, key=lambda other: float(((sample - restored[other]) ** 2).mean())) == caption
        assert -10 * np.log10(errors[caption]) >= 20, caption

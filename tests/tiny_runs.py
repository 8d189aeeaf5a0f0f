"""The three shipped recipes, scaled down: what the tests of training share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from latentshift.training.checkpoints.paths import list_checkpoints
from latentshift.training.losses import FrameBatch, LatentBatch
from latentshift.training.recipe_file import load_recipe
from latentshift.training.stages.autoencoder import AutoencoderStage
from latentshift.training.stages.image import ImageStage
from latentshift.training.stages.video import VideoStage

RECIPES = Path(__file__).parent.parent / "recipes"
TINY_RUN = [
    "steps=4",
    "batch_size=2",
    "save_every=2",
    "sample_every=1000",
    "log_every=1",
    "trackers=[]",
    "compute.precision=fp32",
    "optimizer={learning_rate: 1e-3, warmup_steps: 1}",  # a rate that does not depend on the length of the run
]
TINY_VAE = "model={channels: [8, 8, 8], layers_per_block: 1, latent_channels: 4, norm_groups: 4}"
TINY_IMAGE = ["unet.channels=[8, 8, 16]", "unet.layers_per_block=1", "unet.heads=2", "unet.norm_groups=4"]
TINY_TEXT = ["text={width: 16, layers: 1, heads: 2, tokens: 16}"]
CPU = torch.device("cpu")


def tiny(stage: str, folder: Path, *overrides: str):
    """A stage's recipe of four steps: without trackers, and one sample of four frames, at the end."""
    places = {
        "autoencoder": [f"output={folder}/autoencoder", TINY_VAE, "data.size=32"],
        "image": [f"output={folder}/image", f"autoencoder={folder}/autoencoder", *TINY_IMAGE, *TINY_TEXT],
        "video": [
            f"output={folder}/video",
            f"model={folder}/image",
            "num_frames=4",
            "image_share=0",
            "frame_curriculum={}",
            "noise_share=null",
            "train_text_encoder=false",
        ],
        "controlnet": [f"output={folder}/controlnet", f"model={folder}/video", "num_frames=4"],
    }
    data = ["data.options.clips=6", "data.frames=4"]
    data += [f"data.latents={folder}/latents"] * (stage != "controlnet")
    shared = [] if stage == "autoencoder" else [*data, "sample_steps=2", "sample_prompts=[a red star]"]
    return load_recipe(RECIPES / f"sprites-{stage}.yaml", [*TINY_RUN, *places[stage], *shared, *overrides])


def batch_of(stage: ImageStage | VideoStage, step: int) -> LatentBatch:
    return next(stage.batches(step))


def same_weights(one: Path, other: Path) -> None:
    """That the newest checkpoints of two runs are the same, bit for bit."""
    newest = [list_checkpoints(output / "checkpoints")[-1] for output in (one, other)]
    assert newest[0].name == newest[1].name
    for name in ("weights", "average", "optimizer"):
        this, that = (load_file(path / f"{name}.safetensors") for path in newest)
        assert this.keys() == that.keys()
        assert all(torch.equal(this[key], that[key]) for key in this), name


def change_batches(patch: pytest.MonkeyPatch, change: Callable[[int, FrameBatch], FrameBatch]) -> None:
    """Let stage (a) learn from ``change(step, batch)`` in place of its batches."""
    unchanged = AutoencoderStage.batches

    def batches(stage: AutoencoderStage, step: int) -> Iterator[FrameBatch]:
        with closing(unchanged(stage, step)) as stream:
            for number, batch in enumerate(stream, step):
                yield change(number, batch)

    patch.setattr(AutoencoderStage, "batches", batches)

"""Every recipe that is shipped runs, on a model and data of its kind that are small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.training_utils import EMAModel

from latentshift import LatentShiftPipeline, ShiftConfig
from latentshift.models.storage.families import random_weights
from latentshift.training.models.build import prepare_video_model
from latentshift.training.recipe import VideoRecipe
from latentshift.training.recipe_file import load_recipe
from latentshift.training.run import run
from timed_video import write_video_at

RECIPES = Path(__file__).parent.parent / "recipes"
VIDEO = sorted(
    path.stem
    for path in RECIPES.glob("*.yaml")
    if not path.stem.startswith("sprites") and load_recipe(path).stage == "video"  # the others: test_own_stages.py
)
SPRITES = "data={source: sprites, options: {clips: 4}}"
SCALED_DOWN = [
    "steps=2",
    "batch_size=2",
    "sample_steps=2",
    "sample_prompts=[a red star]",
    "trackers=[]",
    "ema_decay=0.5",
    "optimizer.warmup_steps=0",
    "optimizer.decay_steps=0",
    "loading.workers=1",
    "compute.device=cpu",
    "compute.precision=fp32",
]


def footage(folder: Path, words: list[str]) -> None:
    """A clip of two seconds at each of these places."""
    times = np.arange(52) / 25
    for word in words:
        path = folder / word
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video_at(path, times, [np.full((48, 64, 3), 20 + 3 * number, np.uint8) for number in range(len(times))])


def data_of(whole: VideoRecipe, folder: Path) -> list[str]:
    """The recipe's own data, options and all, where it names a data set; that of others is the user's."""
    kind = whole.data[0].source.partition(":")[0]
    if kind == "webvid":
        footage(folder, ["page/1.mp4", "page/2.mp4"])
        (folder / "list.csv").write_text("videoid,page_dir,name\n1,page,A gray wall\n2,page,A grayer wall\n")
        return [f"data.source=webvid:{folder}/list.csv", f"data.options.root={folder}"]
    if kind == "ucf101":
        footage(folder, ["UCF-101/Archery/v_Archery_g01_c01.avi", "UCF-101/Diving/v_Diving_g01_c01.avi"])
        lists = folder / "ucfTrainTestlist"
        lists.mkdir()
        (lists / "trainlist01.txt").write_text("Archery/v_Archery_g01_c01.avi 1\n")
        (lists / "testlist01.txt").write_text("Diving/v_Diving_g01_c01.avi\n")
        return [f"data.source=ucf101:{folder}/UCF-101"]
    return [SPRITES]


@pytest.mark.parametrize("name", VIDEO)
def test_a_shipped_recipe_runs(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    base = {"sd21": "sd2_folder", "sdxl": "sdxl_folder", "one-gpu-lora": "sd1_folder", "sd15": "sd1_folder"}.get(name)
    base = base or {"latent-shift-webvid": "ldm_folder", "latent-vdm-webvid": "ldm_folder"}.get(name, "model")
    words = [*SCALED_DOWN, f"output={tmp_path}/run", f"model={request.getfixturevalue(base)}"]
    whole = load_recipe(RECIPES / f"{name}.yaml")
    assert isinstance(whole, VideoRecipe)
    words += data_of(whole, tmp_path)
    if whole.image_share:
        words.append("image_share=0.5")  # one step of each kind
    if whole.frame_curriculum:
        words.append("frame_curriculum={2: 1}")
    if whole.micro_batch_size is not None:
        words.append("micro_batch_size=1")
    if whole.size is not None:
        words.append("size=32")
    if whole.lora is not None:
        words.append("lora.rank=2")
    run(load_recipe(RECIPES / f"{name}.yaml", words), quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 2 and lines[-1]["dropped_steps"] == 0
    if whole.lora is not None:
        assert (tmp_path / "run" / "lora.safetensors").exists()
        return
    made = LatentShiftPipeline.from_pretrained(tmp_path / "run" / "model")
    assert made.method == (whole.method or "latent-shift")
    if whole.size is not None:
        assert made.sample_size == 32


def test_the_papers_recipe_is_table_6(tmp_path: Path) -> None:
    for name, method in (("latent-shift-webvid", "latent-shift"), ("latent-vdm-webvid", "latent-vdm")):
        recipe: Any = load_recipe(RECIPES / f"{name}.yaml")
        assert (recipe.method, recipe.batch_size, recipe.micro_batch_size) == (method, 256, 4)
        assert (recipe.optimizer.learning_rate, recipe.optimizer.weight_decay) == (1e-5, 0.0)
        assert (recipe.ema_decay, recipe.guidance_scale, recipe.sample_steps) == (0.9999, 7.5, 100)
        assert recipe.data[0].seconds == 2.0 and not recipe.train_text_encoder and recipe.image_share == 0
        assert recipe.prediction_type is None and recipe.loss_weight == "uniform"  # the base's: epsilon
        assert (
            recipe.optimizer.betas == (0.9, 0.999)
            and recipe.optimizer.decay_steps == recipe.optimizer.warmup_steps == 0
        )
        average = EMAModel([], decay=recipe.ema_decay, use_ema_warmup=recipe.ema_warmup)
        assert average.get_decay(recipe.steps) == 0.9999  # reached within the run
        with torch.device("meta"):
            pipeline = LatentShiftPipeline(**random_weights("ldm"))
        prepare_video_model(recipe, pipeline)
        assert pipeline.method == method and (pipeline.config.num_frames, pipeline.config.fps) == (16, 8)
        assert pipeline.sample_size == 256 and pipeline.unet.config.sample_size == 32
        schedule = pipeline.scheduler.config
        assert (schedule.num_train_timesteps, schedule.beta_schedule) == (1000, "scaled_linear")
        assert (schedule.beta_start, schedule.beta_end, schedule.prediction_type) == (8.5e-4, 1.2e-2, "epsilon")
        if method == "latent-shift":
            assert pipeline.config.shift == ShiftConfig(fold=3).to_dict() and pipeline.temporal_parameters == 0


def test_frames_of_another_shape(model: Path, tmp_path: Path) -> None:
    shape = ["size=32", "num_frames=5", "fps=3"]
    words = [*SCALED_DOWN, SPRITES, f"output={tmp_path}/run", f"model={model}", *shape]
    run(load_recipe(RECIPES / "finetune-folder.yaml", words), quiet=True)
    made = LatentShiftPipeline.from_pretrained(tmp_path / "run" / "model")
    assert (made.sample_size, made.config.num_frames, made.config.fps) == (32, 5, 3)
    with pytest.raises(ValueError, match="size must be a multiple of 4"):
        run(load_recipe(RECIPES / "finetune-folder.yaml", [*words, f"output={tmp_path}/odd", "size=30"]), quiet=True)

"""The model that comes with the package: whole, small enough, stock to diffusers, and at work."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from latentshift import LatentShiftPipeline
from latentshift.data.sprites import words
from latentshift.evaluation.sprites.reader import read_clip
from latentshift.models.conditioning.text import unknown_words
from latentshift.models.storage.model_paths import bundled_model


@pytest.fixture(scope="module")
def pipeline() -> LatentShiftPipeline:
    pipeline = LatentShiftPipeline.from_pretrained(bundled_model())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_it_is_small_and_names_no_place_it_came_from() -> None:
    files = [path for path in bundled_model().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 48e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ".md", ".png"}
    for path in files:
        if path.suffix == ".json":
            assert '"_name_or_path": "/' not in path.read_text(encoding="utf-8")


def test_its_unet_is_stock() -> None:
    unet, loading = UNet2DConditionModel.from_pretrained(bundled_model() / "unet", output_loading_info=True)
    assert not any(loading.values())
    assert not any("temporal" in name or "shift" in name for name, _ in unet.named_parameters())


def test_it_knows_every_word_of_its_world(pipeline: LatentShiftPipeline) -> None:
    assert unknown_words(pipeline.tokenizer, " ".join(words())) == []


def test_a_sentence_becomes_a_video_that_shows_it(pipeline: LatentShiftPipeline) -> None:
    prompts = ["a red star moving left on a navy background", "a green circle moving down on a gray background"]
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    videos = pipeline(prompts, generator=seeds, num_inference_steps=10).frames
    readings = [read_clip(np.stack([np.asarray(frame) for frame in video])) for video in videos]
    assert [reading.background for reading in readings] == ["navy", "gray"]
    assert [reading.colour for reading in readings] == ["red", "green"]

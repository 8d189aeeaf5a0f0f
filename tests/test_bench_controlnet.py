"""``bench controlnet``: what it measures of a clip whose truth is known, its rows, and mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentshift import LatentShiftPipeline
from latentshift.benchmarks.controlnet import FOLLOWS, bench_controlnet, draw_tasks, measure
from latentshift.benchmarks.controlnet_settings import ControlNetSettings
from latentshift.benchmarks.report import Estimate
from latentshift.data.sprites import Sprites, render
from latentshift.models.controlnet import SHIFT_KEY, new_controlnet


def test_a_clip_that_is_the_edges_own_follows_them_and_one_that_moves_otherwise_does_not() -> None:
    first, second = draw_tasks(1, 2, 64, 16)
    original, _, texture = Sprites(seed=1).describe(0)
    assert (first.wanted.thing, first.wanted.motion) == (original.thing, original.motion)
    assert first.wanted.colour != original.colour and first.wanted.background != original.background
    true = measure(first, render(first.wanted, first.track, texture))
    assert true["distance"] < FOLLOWS / 5
    assert [true[name] for name in ("follows_edges", "motion", "thing", "colour", "background")] == [1] * 5
    other = measure(first, render(first.wanted, second.track, texture))
    assert other["distance"] > FOLLOWS and other["follows_edges"] == 0 and other["colour"] == 1
    nothing = measure(first, np.zeros_like(first.edges))
    assert nothing["follows_edges"] == 0 and not {"distance", "colour_drift", "frame_flicker"} & set(nothing)


@pytest.fixture(scope="module")
def controlnets(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One that works frame by frame, and one that was trained with the shift."""
    pipeline = LatentShiftPipeline.from_pretrained(runs / "video" / "model")
    torch.manual_seed(0)
    net = new_controlnet(pipeline.unet, pipeline.vae_scale_factor)
    for end in (*net.controlnet_down_blocks, net.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(end.weight, std=0.5)
    folder = tmp_path_factory.mktemp("controlnets")
    net.save_pretrained(folder / "plain")
    net.register_to_config(**{SHIFT_KEY: pipeline.config.shift})
    net.save_pretrained(folder / "shifted")
    return [folder / "plain", folder / "shifted"]


def test_a_row_for_each_way_from_the_same_noise(runs: Path, controlnets: list[Path], tmp_path: Path) -> None:
    settings = ControlNetSettings(
        controlnets=tuple(controlnets),
        model=str(runs / "video"),
        videos=2,
        steps=2,
        guidance_scale=1.0,
        scale=1.0,
        seed=1,
        device="cpu",
        dtype="float32",
        output=tmp_path,
    )
    rows = list(bench_controlnet(settings))
    assert [row.get("way") for row in rows] == ["without", "frame by frame", "shifted", "shifted", None, None]
    assert [row.get("videos") for row in rows[:4]] == [2] * 4
    assert all(isinstance(row["follows_edges"], Estimate) for row in rows[:4])
    assert list(bench_controlnet(settings)) == rows  # from what was kept
    with pytest.raises(ValueError, match="scale"):
        next(bench_controlnet(replace(settings, scale=0.5)))
    longer = LatentShiftPipeline.from_pretrained(runs / "video" / "model", num_frames=5)
    longer.save_pretrained(tmp_path / "longer")  # of the same weights
    with pytest.raises(ValueError, match="frames was 4 and is now 5"):
        next(bench_controlnet(replace(settings, model=str(tmp_path / "longer"))))
    with Image.open(tmp_path / "videos.png") as sheet:
        assert sheet.height > 2 * 5 * 32  # of two videos the edges and four ways


def test_what_is_no_controlnet_is_refused(runs: Path, controlnets: list[Path], cli) -> None:
    for words, message in (
        ([runs / "video" / "model" / "unet"], "is a UNet2DConditionModel, and no ControlNetModel"),
        ([runs / "video"], "is a run that made no ControlNet yet"),
        ([controlnets[0], "--steps", "2", "--model", "bundled"], "the ControlNet is of another base"),
    ):
        code, _, complaint = cli("bench", "controlnet", *words)
        assert code == 1 and message in complaint, complaint

"""The model of a video run that has made none yet: that of its newest checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from latentshift import LatentShiftPipeline
from latentshift.training.models.video_model import open_checkpoint
from latentshift.training.recipe_file import load_recipe
from latentshift.training.run import run
from tiny_runs import tiny


@pytest.fixture
def unfinished(runs: Path, tmp_path: Path) -> Path:
    """A copy of a run as it was before its model was written."""
    return Path(shutil.copytree(runs / "video", tmp_path / "begun", ignore=shutil.ignore_patterns("model")))


def test_it_is_the_model_that_the_run_makes_at_that_step(runs: Path, unfinished: Path) -> None:
    made = LatentShiftPipeline.from_pretrained(runs / "video" / "model")
    opened, step = open_checkpoint(unfinished)
    assert step == 4 and opened.config.num_frames == made.config.num_frames and opened.config.shift == made.config.shift
    assert opened.config.noise_share == made.config.noise_share
    saved = getattr(torch, load_recipe(unfinished / "recipe.yaml").weights)
    for name in ("unet", "text_encoder"):
        ours, exported = (getattr(each, name).state_dict() for each in (opened, made))
        assert ours.keys() == exported.keys()
        assert all(torch.equal(value.to(saved), exported[key].to(saved)) for key, value in ours.items())


def test_an_adapter_is_merged(runs: Path, tmp_path: Path) -> None:
    words = ("video", runs, "lora.rank=2", "exports=[model]", "weights=float32", "steps=2")
    run(tiny(*words, f"output={tmp_path}/run"), quiet=True)
    opened, step = open_checkpoint(tmp_path / "run")
    made = LatentShiftPipeline.from_pretrained(tmp_path / "run" / "model").unet.state_dict()
    ours = opened.unet.state_dict()
    assert step == 2 and ours.keys() == made.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, made[name], atol=1e-6, rtol=0)


def test_what_has_no_video_model_is_refused(runs: Path, unfinished: Path) -> None:
    with pytest.raises(ValueError, match="is a run of stage image, whose checkpoints hold no video model"):
        open_checkpoint(runs / "image")
    newest = max((unfinished / "checkpoints").iterdir())
    (newest / "state.json").write_text("{}")
    for other in (unfinished / "checkpoints").iterdir():
        if other != newest:
            shutil.rmtree(other)
    with pytest.raises(ValueError, match=r"state.json is not what was written\), and none is intact"):
        open_checkpoint(unfinished)


def test_bench_captions_measures_it(unfinished: Path, cli: Any) -> None:
    code, out, err = cli("bench", "captions", unfinished, "--clips", 2)
    assert code == 0 and "gap" in out, err
    assert f"measuring the averaged weights of step 4 of {unfinished}, its newest checkpoint" in err
    shutil.rmtree(unfinished / "checkpoints")
    code, _, err = cli("bench", "captions", unfinished, "--clips", 2)
    assert code == 1 and "is a run without a model yet: run it to its end" in err

"""A run that is interrupted and resumed ends as one that never was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from latentshift import LatentShiftPipeline
from latentshift.training.checkpoints.paths import checkpoint_step, list_checkpoints
from latentshift.training.losses import FrameBatch
from latentshift.training.monitoring.run_log import read_jsonl
from latentshift.training.run import run
from tiny_runs import change_batches, same_weights, tiny


@pytest.mark.parametrize("stage", ["autoencoder", "image", "video"])
def test_a_run_that_is_taken_up_again_ends_in_the_same_bits(stage: str, runs: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    run(tiny(stage, runs, f"output={broken}", "steps=2"), quiet=True)
    run(tiny(stage, runs, f"output={broken}"), quiet=True)
    assert list_checkpoints(broken / "checkpoints")[-1].name == "step-00000004"
    same_weights(runs / stage, broken)
    shutil.rmtree(broken / "model")  # as if killed after the last step
    run(tiny(stage, runs, f"output={broken}"), quiet=True)
    whole = runs / stage / "model"
    files = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    assert [name for name in files if (whole / name).read_bytes() != (broken / "model" / name).read_bytes()] == []


def test_a_run_that_is_broken_off_on_few_frames_ends_in_the_same_bits(runs: Path, tmp_path: Path) -> None:
    words = ["frame_curriculum={2: 2, 3: 3}", "steps=7", "save_every=3", "keep_checkpoints=9", "micro_batch_size=1"]
    words += ["method=latent-vdm", "image_share=0.3", "known_share=0.5"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(tiny("video", runs, *words, f"output={whole}"), quiet=True)
    shutil.copytree(whole, broken)
    kept = list_checkpoints(broken / "checkpoints")
    assert checkpoint_step(kept[0]) == 3  # the first of three steps on three frames
    for later in kept[1:]:
        shutil.rmtree(later)
    run(tiny("video", runs, *words, f"output={broken}"), quiet=True)
    same_weights(whole, broken)


def test_a_run_may_be_calmed_and_says_from_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("autoencoder", tmp_path)
    run(tiny(*words, "steps=2"), quiet=True)
    assert "learning_rate" not in capsys.readouterr().err
    calmed = tiny(*words, "optimizer.learning_rate=1e-4")
    for _ in range(2):
        run(calmed, quiet=True)
    said = f"optimizer.learning_rate was 0.001 up to step 2 of {tmp_path}/autoencoder, and is 0.0001 from there on"
    assert capsys.readouterr().err.count(f"warning: {said}\n") == 1
    assert checkpoint_step(list_checkpoints(tmp_path / "autoencoder" / "checkpoints")[-1]) == 4


def test_resuming_makes_missing_samples_and_validation(runs: Path, tmp_path: Path) -> None:
    words = ["video", runs, f"output={tmp_path}/run", "validation={every: 2, clips: 1, bands: 1}", "sample_every=2"]
    run(tiny(*words, "steps=2"), quiet=True)
    picture = tmp_path / "run" / "samples" / "step-00000002.png"
    picture.unlink()
    log = tmp_path / "run" / "validation.jsonl"
    before = log.read_text()
    log.write_text("")
    run(tiny(*words), quiet=True)
    assert picture.exists() and log.read_text().startswith(before)


def test_moments_of_eight_bits_survive(runs: Path, tmp_path: Path) -> None:
    base = LatentShiftPipeline.from_pretrained(runs / "image" / "model")
    config = {**base.unet.config, "block_out_channels": (16, 16, 32)}  # what has less than 4096 weights keeps 32 bits
    wider = type(base.unet).from_config(config)
    LatentShiftPipeline(**{**base.components, "unet": wider}).save_pretrained(tmp_path / "base")
    words = ["video", runs, "optimizer.kind=adamw_8bit", f"model={tmp_path}/base"]
    with pytest.raises(ValueError, match="adamw_8bit does not go with"):
        tiny(*words)
    words.append("compute.channels_last=false")
    run(tiny(*words, f"output={tmp_path}/whole"), quiet=True)
    run(tiny(*words, f"output={tmp_path}/broken", "steps=2"), quiet=True)
    kept = load_file(tmp_path / "broken" / "checkpoints" / "step-00000002" / "optimizer.safetensors")
    assert any(value.dtype == torch.uint8 for value in kept.values())
    run(tiny(*words, f"output={tmp_path}/broken"), quiet=True)
    for group in ("weights", "optimizer"):
        whole, broken = (
            load_file(tmp_path / name / "checkpoints" / "step-00000004" / f"{group}.safetensors")
            for name in ("whole", "broken")
        )
        assert whole.keys() == broken.keys() and all(torch.equal(whole[name], broken[name]) for name in whole)


def test_dropout_is_a_function_of_the_step(runs: Path, tmp_path: Path) -> None:
    words = ["video", runs, "lora={rank: 2, dropout: 0.5}", "exports=[model]"]
    run(tiny(*words, f"output={tmp_path}/whole"), quiet=True)
    run(tiny(*words, f"output={tmp_path}/broken", "steps=2"), quiet=True)
    run(tiny(*words, f"output={tmp_path}/broken"), quiet=True)
    whole, broken = (
        load_file(tmp_path / name / "checkpoints" / "step-00000004" / "weights.safetensors")
        for name in ("whole", "broken")
    )
    assert whole.keys() == broken.keys() and all(torch.equal(whole[name], broken[name]) for name in whole)


def test_a_run_whose_rate_was_falling_is_not_made_longer(tmp_path: Path) -> None:
    rate = ("optimizer={learning_rate: 1e-3, warmup_steps: 1, decay_steps: 2}", "sample_every=3")
    run(tiny("autoencoder", tmp_path, *rate), quiet=True)
    kept = list_checkpoints(tmp_path / "autoencoder" / "checkpoints")
    assert [checkpoint_step(path) for path in kept] == [2, 3, 4]  # the last one before the fall is always kept
    with pytest.raises(ValueError, match="falling already towards its 4 steps"):
        run(tiny("autoencoder", tmp_path, *rate, "steps=6"), quiet=True)
    for later in kept[1:]:
        shutil.rmtree(later)
    with pytest.raises(ValueError, match="is at step 2, where with 3 steps the learning rate would be falling already"):
        run(tiny("autoencoder", tmp_path, *rate, "steps=3"), quiet=True)
    with pytest.raises(ValueError, match=r"optimizer\.decay_steps was"):
        run(tiny("autoencoder", tmp_path, *rate, "optimizer.decay_steps=3"), quiet=True)
    run(tiny("autoencoder", tmp_path, *rate, "steps=6"), quiet=True)


def test_how_long_the_rate_falls_may_change_until_it_does(tmp_path: Path) -> None:
    def words(name: str, decay_steps: int, steps: int) -> tuple[str, ...]:
        rate = f"optimizer={{learning_rate: 1e-3, warmup_steps: 1, decay_steps: {decay_steps}}}"
        return f"output={tmp_path}/{name}", f"steps={steps}", rate

    run(tiny("autoencoder", tmp_path, *words("whole", 2, 5)), quiet=True)
    run(tiny("autoencoder", tmp_path, *words("changed", 0, 2)), quiet=True)
    run(tiny("autoencoder", tmp_path, *words("changed", 2, 5)), quiet=True)
    whole, changed = (
        load_file(tmp_path / name / "checkpoints" / "step-00000005" / "weights.safetensors")
        for name in ("whole", "changed")
    )
    assert all(torch.equal(whole[name], changed[name]) for name in whole)


def test_clips_that_are_encoded_stay_as_they_are_in_another_precision(runs: Path, tmp_path: Path) -> None:
    words = ("video", runs, f"output={tmp_path}/run", f"data.latents={tmp_path}/latents", "data.options.clips=2")
    run(tiny(*words, "steps=2"), quiet=True)
    before = (tmp_path / "latents" / "shard-00000.safetensors").stat().st_mtime_ns
    run(tiny(*words, "compute.precision=bf16"), quiet=True)
    assert (tmp_path / "latents" / "shard-00000.safetensors").stat().st_mtime_ns == before


def test_what_is_logged_is_the_same_wherever_a_run_was_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the means are of five steps, and the newest checkpoint is of the third of them."""
    words = ("steps=8", "save_every=2", "sample_every=3", "log_every=5")
    run(tiny("autoencoder", tmp_path, *words, f"output={tmp_path}/whole"), quiet=True)

    def broken_at_step_4(step: int, batch: FrameBatch) -> FrameBatch:
        if step == 4:
            raise KeyboardInterrupt
        return batch

    with monkeypatch.context() as patch:
        change_batches(patch, broken_at_step_4)
        with pytest.raises(KeyboardInterrupt):
            run(tiny("autoencoder", tmp_path, *words), quiet=True)
    assert checkpoint_step(list_checkpoints(tmp_path / "autoencoder" / "checkpoints")[-1]) == 3
    run(tiny("autoencoder", tmp_path, *words), quiet=True)
    whole, broken = (read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("whole", "autoencoder"))
    assert [line["step"] for line in whole] == [line["step"] for line in broken] == [5, 8]
    for one, other in zip(whole, broken, strict=True):
        timed = ("waiting_for_data", "samples_per_second")
        assert {**one, **dict.fromkeys(timed)} == {**other, **dict.fromkeys(timed)}

"""Full disks, losses that are not finite, samples that fail: what a run does then."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from latentshift.training.checkpoints import checkpoint as checkpoint_module
from latentshift.training.checkpoints.checkpoint import load_checkpoint
from latentshift.training.checkpoints.paths import checkpoint_step, list_checkpoints
from latentshift.training.data import report as data_report_module
from latentshift.training.losses import FrameBatch
from latentshift.training.run import run
from latentshift.training.stages.autoencoder import AutoencoderStage
from tiny_runs import change_batches, same_weights, tiny


def test_a_full_disk_is_reported_even_if_the_data_report_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    recipe = tiny("autoencoder", tmp_path, "save_every=3")

    def fill_the_disk_at_step_4(step: int, batch: FrameBatch) -> FrameBatch:
        if step == 4:
            monkeypatch.setattr(checkpoint_module, "save_file", full)
            monkeypatch.setattr(data_report_module, "atomic_write_text", full)
            monkeypatch.setattr(AutoencoderStage, "data_issues", lambda stage: {"replaced": ["news"]})
        return batch

    change_batches(monkeypatch, fill_the_disk_at_step_4)
    with pytest.raises(OSError, match=r"the checkpoint of step 4 can't be written .* resumes from .*step-00000003"):
        run(recipe, quiet=True)


def test_a_loss_that_is_never_finite_ends_the_run_and_moves_nothing(tmp_path: Path) -> None:
    words = ("kl_weight=1e39", "max_dropped_steps=2", "save_every=1")
    with pytest.raises(ValueError, match=r"not finite in 3 steps in a row, the last of them step 3 .* it starts over"):
        run(tiny("autoencoder", tmp_path, *words), quiet=True)
    folder = tmp_path / "autoencoder"
    lines = [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3] and lines[1]["samples"] == ["sprites 2", "sprites 3"]
    assert list_checkpoints(folder / "checkpoints") == []  # nothing was learned that could be lost


def test_a_run_that_diverges_keeps_the_checkpoints_from_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt_from_step_3(step: int, batch: FrameBatch) -> FrameBatch:
        return batch if step < 3 else replace(batch, frames=batch.frames * torch.nan)

    words = ("max_dropped_steps=2", "save_every=1", "keep_checkpoints=2", "steps=9")
    with monkeypatch.context() as patch:
        change_batches(patch, spoilt_from_step_3)
        with pytest.raises(ValueError, match=r"the last of them step 5 .* it resumes from step 2 in"):
            run(tiny("autoencoder", tmp_path, *words), quiet=True)
    kept = list_checkpoints(tmp_path / "autoencoder" / "checkpoints")
    assert [checkpoint_step(path) for path in kept] == [1, 2]
    run(tiny("autoencoder", tmp_path, *words), quiet=True)
    run(tiny("autoencoder", tmp_path, *words, f"output={tmp_path}/whole"), quiet=True)
    same_weights(tmp_path / "autoencoder", tmp_path / "whole")


def test_the_last_step_is_kept_though_it_was_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt_at_the_end(step: int, batch: FrameBatch) -> FrameBatch:
        return batch if step < 4 else replace(batch, frames=batch.frames * torch.nan)

    change_batches(monkeypatch, spoilt_at_the_end)
    run(tiny("autoencoder", tmp_path, "save_every=3"), quiet=True)
    three, four = (load_checkpoint(path) for path in list_checkpoints(tmp_path / "autoencoder" / "checkpoints"))
    assert (three.step, four.step, four.values["dropped_in_a_row"]) == (3, 4, 1)
    for name in ("weights", "average"):
        assert all(torch.equal(value, four.tensors[name][key]) for key, value in three.tensors[name].items())


def test_non_finite_samples_give_a_warning_and_training_continues(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "image", tmp_path / "image")
    file = tmp_path / "image" / "model" / "vqvae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["decoder.conv_out.bias"] += torch.inf  # training has no use for the decoder
    save_file(tensors, file, metadata={"format": "pt"})
    run(tiny("video", tmp_path, "data.options.clips=2", "sample_every=3"), quiet=True)
    err = capsys.readouterr().err
    assert err.count("warning: there are no samples of step") == 2  # steps 3 and 4
    assert "the autoencoder made values that are not finite" in err
    assert (tmp_path / "video" / "model").is_dir() and not list((tmp_path / "video" / "samples").glob("*"))

"""``latentshift train``, killed at random moments, in the middle of saves too, ends as if nothing had happened."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from latentshift.training.checkpoint import load_checkpoint
from latentshift.training.checkpoint_paths import checkpoint_step, list_checkpoints
from launch import RECIPES, finish, losses, train, weights


def saves_left(output: Path) -> set[Path]:
    """What saves that are under way, or were killed, have written so far."""
    return set((output / "checkpoints").glob(".*.part"))


@pytest.mark.parametrize(("kills", "steps"), [(4, 30), pytest.param(50, 240, marks=pytest.mark.slow)])
def test_killed_at_random_moments(kills: int, steps: int, model: Path, tmp_path: Path) -> None:
    """SIGKILL, in the middle of saves too: the same losses, errors and weights, bit for bit; no state that is broken.

    Of clips and single frames in turns, with validation and samples between, and the best step kept and exported.
    """
    words = [str(RECIPES / "finetune-folder.yaml"), f"model={model}", "data={source: sprites, options: {clips: 8}}"]
    words += [f"steps={steps}", "batch_size=2", "image_share=0.5", "save_every=3", "keep_checkpoints=2", "log_every=4"]
    words += ["validation={every: 5, clips: 1, bands: 2}", "export_from=best", "sample_every=40", "sample_steps=2"]
    words += ["optimizer={learning_rate: 1e-3, warmup_steps: 1}", "compute={device: cpu, precision: fp32, threads: 1}"]
    start = time.monotonic()
    finish(train(*words, f"output={tmp_path}/whole"))
    life = time.monotonic() - start
    output = tmp_path / "killed"
    rng = np.random.default_rng(0)
    at_work = in_saves = 0
    for number in range(kills):
        before = {path.name for path in (output / "checkpoints").glob("*")}
        left = saves_left(output)
        process = train(*words, f"output={output}")
        kind = ("in a save", "after a save", "anywhere")[number % 3]
        some = rng.uniform(0, 3 * life / kills)  # so that all of these together end no run
        deadline = time.monotonic() + (some if kind == "anywhere" else 60)
        while process.are_alive() and time.monotonic() < deadline:
            now = {path.name for path in (output / "checkpoints").glob("*")}
            if (kind == "in a save" and saves_left(output) - left) or (kind == "after a save" and now != before):
                break
            time.sleep(0.0005)
        if kind != "anywhere":
            time.sleep(float(rng.uniform(0, 0.004 if kind == "in a save" else 0.1)))
        at_work += process.are_alive()
        process.kill()
        in_saves += bool(saves_left(output) - left)
        for path in list_checkpoints(output / "checkpoints"):
            assert load_checkpoint(path).step == checkpoint_step(path)
    assert at_work >= kills // 2 and in_saves >= max(1, kills // 6)
    finish(train(*words, f"output={output}"))
    assert losses(output) == losses(tmp_path / "whole")
    for log in ("validation.jsonl", "model/unet/diffusion_pytorch_model.safetensors"):
        assert (output / log).read_bytes() == (tmp_path / "whole" / log).read_bytes()
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(value, expected[name]) for name, value in weights(output).items())

"""``latentshift train``, killed at random moments, in the middle of saves too, ends as if nothing had happened."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latentshift import files
from latentshift.training.checkpoints import checkpoint, checkpointer
from latentshift.training.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from latentshift.training.checkpoints.paths import checkpoint_step, list_checkpoints
from launch import RECIPES, Processes, command_line, finish, losses, train, wait_until, weights


def names(output: Path) -> set[str]:
    return {path.name for path in (output / "checkpoints").glob("*")}


def tensor_files(output: Path) -> list[Path]:
    """Files of tensors in the newest checkpoint."""
    return list(list_checkpoints(output / "checkpoints")[-1].glob("*.safetensors"))


def saves_left(output: Path) -> set[Path]:
    """What saves that are under way, or were killed, have written so far."""
    return set((output / "checkpoints").glob(".*.part"))


def train_held_in_a_save(sign: Path, step: int, place: int, *words: str) -> None:
    """``latentshift train``, held in its first save of this step or a later one.

    There it is before its ``place``-th call that writes a file or syncs one, or the folder: 2 n + 3 calls, with n files
    of tensors, until the folder gets its name.
    """
    places = itertools.count()

    def held(call: Callable[..., None]) -> Callable[..., None]:
        def call_or_wait(*arguments: Any) -> None:
            if next(places) == place:
                sign.touch()
                time.sleep(600)
            call(*arguments)

        return call_or_wait

    def save(folder: Path, at: int, *state: Any) -> Path:
        if at >= step:
            checkpoint.save_file, files._sync = held(checkpoint.save_file), held(files._sync)
        return save_checkpoint(folder, at, *state)

    checkpointer.save_checkpoint = save
    command_line("train", *words)


@pytest.mark.parametrize(("kills", "steps"), [(3, 18), pytest.param(50, 240, marks=pytest.mark.slow)])
def test_killed_at_random_moments(kills: int, steps: int, model: Path, tmp_path: Path) -> None:
    """SIGKILL, in the middle of saves too: the same losses, errors and weights, bit for bit; no state that is broken.

    Of clips and single frames in turns, with validation and samples between, and the best step kept and exported.
    """
    words = [str(RECIPES / "finetune-folder.yaml"), f"model={model}", "data={source: sprites, options: {clips: 8}}"]
    words += [f"steps={steps}", "batch_size=2", "image_share=0.5", "save_every=3", "keep_checkpoints=2", "log_every=4"]
    words += ["validation={every: 5, clips: 1, bands: 2}", "export_from=best", "sample_every=40", "sample_steps=2"]
    words += ["optimizer={learning_rate: 1e-3, warmup_steps: 1}", "compute={device: cpu, precision: fp32, threads: 1}"]
    finish(train("--help"))  # else the first life would begin with all imports
    start = time.monotonic()
    finish(train(*words, f"output={tmp_path}/whole"))
    life = time.monotonic() - start
    calls = 2 * len(tensor_files(tmp_path / "whole")) + 3
    output = tmp_path / "killed"
    rng = np.random.default_rng(0)
    for number in range(kills):
        kind = ("in a save", "after a save", "anywhere")[number % 3]
        before, left, sign = names(output), saves_left(output), tmp_path / f"held-{number}"
        # In any case it is held in its last save, so that it never ends by itself.
        held = (sign, 0 if kind == "in a save" else steps, int(rng.integers(calls)))
        with Processes(train_held_in_a_save, *held, *words, f"output={output}") as process:
            if kind == "in a save":
                wait_until(process, sign.exists)
                assert saves_left(output) - left
            elif kind == "after a save":
                wait_until(process, lambda before=before: names(output) != before)
                time.sleep(float(rng.uniform(0, 0.1)))
            else:
                time.sleep(float(rng.uniform(0, 3 * life / kills)))
            assert process.are_alive(), process.last_words()
            process.kill()
        for path in list_checkpoints(output / "checkpoints"):
            assert load_checkpoint(path).step == checkpoint_step(path)
    finish(train(*words, f"output={output}"))
    assert losses(output) == losses(tmp_path / "whole")
    for log in ("validation.jsonl", "model/unet/diffusion_pytorch_model.safetensors"):
        assert (output / log).read_bytes() == (tmp_path / "whole" / log).read_bytes()
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(value, expected[name]) for name, value in weights(output).items())

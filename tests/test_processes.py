"""One run on one process or on two: the same weights, and processes that differ are refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from latentshift import LatentShiftPipeline
from latentshift.training import run_folder as run_folder_module
from latentshift.training.checkpoints import checkpointer as checkpointer_module
from latentshift.training.distributed import make_accelerator
from latentshift.training.recipe_file import load_recipe
from latentshift.training.run import run
from latentshift.training.stages.autoencoder import AutoencoderStage
from latentshift.training.train_state import TrainState
from launch import AUTOENCODER, RECIPES, Processes, finish, losses, train, train_here, weights
from launch import TINY as TWO_LEVELS
from tiny_models import ONE_LEVEL, tiny_bert, tiny_unet

# The first step in shares takes torch a time that grows with the square of the number of tensors: they are few.
TINY = [*TWO_LEVELS, "model={channels: [8], layers_per_block: 1, latent_channels: 4, norm_groups: 4}"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process that nothing broke."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(load_recipe(AUTOENCODER, [*TINY, "steps=6", f"output={folder}"]), quiet=True)
    return folder


def test_gradients_are_gathered_over_parts_of_a_batch(whole: Path, tmp_path: Path) -> None:
    run(load_recipe(AUTOENCODER, [*TINY, "steps=6", f"output={tmp_path}/parts", "micro_batch_size=2"]), quiet=True)
    np.testing.assert_allclose(losses(tmp_path / "parts"), losses(whole), rtol=1e-4)
    with pytest.raises(ValueError, match="don't divide into batches of 3"):
        run(load_recipe(AUTOENCODER, [*TINY, "steps=6", f"output={tmp_path}/odd", "micro_batch_size=3"]), quiet=True)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_learns_and_a_run_moves_between_them(
    parallel: str, whole: Path, tmp_path: Path
) -> None:
    words = [str(AUTOENCODER), *TINY, f"output={tmp_path}/run", f"compute.parallel={parallel}"]
    finish(train(*words, "steps=2", processes=2))
    finish(train(*words, "steps=4", processes=1))
    finish(train(*words, "steps=6", processes=2))
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(whole), rtol=1e-4)
    expected = weights(whole)
    for name, value in weights(tmp_path / "run").items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=2e-4)
    assert json.loads((tmp_path / "run" / "versions.json").read_text())["processes"] == 2


VIDEO = [
    "steps=3",
    "num_frames=4",
    "batch_size=4",
    "micro_batch_size=1",
    "sample_every=2",
    "sample_prompts=[a red star]",
    "sample_steps=2",
    "save_every=2",
    "log_every=1",
    "trackers=[]",
    "optimizer={learning_rate: 1e-3, warmup_steps: 1}",
    "validation={every: 2, clips: 1, bands: 2}",
    "weights=float32",
    "compute={device: cpu, threads: 1, gradient_checkpointing: true}",
]
CASES = {
    "baseline-ddp": ["compute.parallel=ddp", "method=latent-vdm", "train_text_encoder=true", "export_from=best"],
    "baseline": ["compute.parallel=fsdp", "method=latent-vdm", "train_text_encoder=false"],
    "shift-and-text": ["compute.parallel=fsdp", "method=latent-shift", "train_text_encoder=true", "export_from=best"],
    "lora": [
        "compute.parallel=fsdp",
        "method=latent-shift",
        "train_text_encoder=false",
        "lora.rank=2",
        "exports=[model]",
    ],
}


def words_of(case: str, folder: Path) -> list[str]:
    recipe = str(RECIPES / "finetune-folder.yaml")
    data = f"data={{source: sprites, options: {{clips: 4}}, latents: {folder}/latents}}"  # encoded once for all cases
    return [recipe, f"model={folder}/base", data, *VIDEO, f"output={folder}/shares/{case}", *CASES[case]]


def train_all(folder: Path) -> None:
    for case in CASES:
        train_here(*words_of(case, folder))


@pytest.fixture(scope="module")
def shares(ldm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case on two processes, one after the other."""
    folder = tmp_path_factory.mktemp("shares")
    pipeline = LatentShiftPipeline.from_pretrained(ldm_folder, shift=None, num_frames=4)
    text_encoder = tiny_bert(encoder_layers=1, dropout=0.0)  # which would differ between one process and two
    unet = tiny_unet(**{**ONE_LEVEL, "up_block_types": ("UpBlock2D",), "mid_block_type": None})
    pipeline.register_modules(unet=unet, text_encoder=text_encoder)
    pipeline.save_pretrained(folder / "base")
    finish(Processes(train_all, folder, processes=2))
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_make_the_video_model_that_one_makes(case: str, shares: Path, tmp_path: Path) -> None:
    """Sampled, validated and exported in between: by the main process, of weights that it gathers from shares."""
    ours, whole = shares / "shares" / case, tmp_path / "whole"
    train_here(*words_of(case, shares), f"output={whole}", "compute.parallel=ddp")
    np.testing.assert_allclose(losses(ours), losses(whole), rtol=1e-4)
    errors = [
        [json.loads(line)["error"] for line in (output / "validation.jsonl").read_text().splitlines()]
        for output in (ours, whole)
    ]
    np.testing.assert_allclose(errors[0], errors[1], rtol=1e-3)
    assert (ours / "samples" / "step-00000002.mp4").exists()
    files = sorted(path.relative_to(whole) for path in (whole / "model").rglob("*.safetensors"))
    assert len(files) == (4 if "method=latent-vdm" in CASES[case] else 3)
    for file in files:
        made, expected = load_file(ours / file), load_file(whole / file)
        assert made.keys() == expected.keys()
        for name, value in made.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-3)


def keep_a_share(words: list[str]) -> None:
    recipe = load_recipe(AUTOENCODER, words)
    accelerator = make_accelerator(recipe.compute)
    objective = AutoencoderStage(recipe).objective
    state = TrainState(objective, accelerator, recipe.optimizer, recipe.compute, ema_decay=recipe.ema_decay)
    whole = sum(value.numel() for value in state.trained.values())
    for group in (state.trained.values(), state.average.shadow_params):
        part = sum(value.to_local().numel() for value in group)
        assert part < 0.75 * whole, (part, whole)
    accelerator.end_training()


def test_each_process_keeps_its_share_alone(tmp_path: Path) -> None:
    words = [*TINY, "steps=2", f"output={tmp_path}/run", "compute.parallel=fsdp"]
    finish(Processes(keep_a_share, words, processes=2))


def test_settings_that_do_not_go_with_shares_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"parallel=fsdp does not go with compute\.channels_last"):
        load_recipe(AUTOENCODER, [*TINY, "steps=2", "compute.parallel=fsdp", "compute.channels_last=true"])


def refused(processes: Processes, message: str) -> None:
    """That all of the processes end in an error, and one of them says this."""
    assert 0 not in processes.ended() and message in processes.errors()


def is_first() -> bool:
    return os.environ["RANK"] == "0"


def train_in_folders_of_their_own(folders: list[Path]) -> None:
    run_folder_module._LOCK_APPEARS_WITHIN = 1
    train_here(str(AUTOENCODER), *TINY, "steps=6", f"output={folders[0 if is_first() else 1]}")


def test_processes_that_see_other_folders_are_refused(whole: Path, tmp_path: Path) -> None:
    """As on machines that don't share a disk."""
    other = tmp_path / "other"
    refused(Processes(train_in_folders_of_their_own, [whole, other], processes=2), f"the processes don't share {other}")
    assert not other.exists()


def train_where_one_sees_no_checkpoints(output: Path) -> None:
    if not is_first():
        checkpointer_module.load_newest_checkpoint = lambda folder: (None, [])
    train_here(str(AUTOENCODER), *TINY, "steps=6", f"output={output}")


def test_processes_that_see_other_checkpoints_are_refused(whole: Path, tmp_path: Path) -> None:
    """As of a shared disk that shows what is new on it late."""
    shutil.copytree(whole, tmp_path / "run")
    processes = Processes(train_where_one_sees_no_checkpoints, tmp_path / "run", processes=2)
    refused(processes, "the processes don't see the same checkpoints")
    assert "the newest are of steps 6, 0" in processes.errors()


def train_from_a_base_of_their_own(output: Path) -> None:
    base = "of a machine" if is_first() else "of another"
    AutoencoderStage.fingerprint = property(lambda self: {"base": base})
    train_here(str(AUTOENCODER), *TINY, "steps=2", f"output={output}")


def test_processes_that_begin_from_other_weights_are_refused(tmp_path: Path) -> None:
    """In shares they would train halves of two models."""
    processes = Processes(train_from_a_base_of_their_own, tmp_path / "run", processes=2)
    refused(processes, "the processes don't see the same base")

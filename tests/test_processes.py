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

from latentshift.training import checkpointer as checkpointer_module
from latentshift.training import run_folder as run_folder_module
from latentshift.training.distributed import make_accelerator
from latentshift.training.recipe import load_recipe
from latentshift.training.run import run
from latentshift.training.stages.autoencoder import AutoencoderStage
from latentshift.training.train_state import TrainState
from launch import AUTOENCODER, RECIPES, TINY, Processes, finish, losses, train, train_here, weights


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


@pytest.mark.parametrize(
    ("parallel", "settings"),
    [
        ("ddp", ["method=latent-vdm", "train_text_encoder=true", "export_from=best"]),
        ("fsdp", ["method=latent-shift", "train_text_encoder=false"]),
        ("fsdp", ["method=latent-vdm", "train_text_encoder=false"]),
        ("fsdp", ["train_text_encoder=true", "export_from=best"]),
        ("fsdp", ["train_text_encoder=false", "lora.rank=2", "exports=[model]"]),
    ],
)
def test_two_processes_make_the_video_model_that_one_makes(
    parallel: str, settings: list[str], model: Path, tmp_path: Path
) -> None:
    """Sampled, validated and exported in between: by the main process, of weights that it gathers from shares."""
    base = shutil.copytree(model, tmp_path / "base")
    config = base / "text_encoder" / "config.json"  # its dropout would differ between one process and two
    config.write_text(json.dumps({**json.loads(config.read_text()), "dropout": 0.0}))
    words = [str(RECIPES / "finetune-folder.yaml"), f"model={base}", "data={source: sprites, options: {clips: 4}}"]
    words += ["steps=3", "batch_size=4", "micro_batch_size=1", "sample_every=2", "save_every=2", "log_every=1"]
    words += ["optimizer={learning_rate: 1e-3, warmup_steps: 1}", "validation={every: 2, clips: 1, bands: 2}"]
    words += ["sample_steps=2", "weights=float32", "compute={device: cpu, threads: 1}"]
    words += ["compute.gradient_checkpointing=true", *settings]
    run(load_recipe(Path(words[0]), [*words[1:], f"output={tmp_path}/whole"]), quiet=True)
    finish(train(*words, f"output={tmp_path}/shares", f"compute.parallel={parallel}", processes=2))
    np.testing.assert_allclose(losses(tmp_path / "shares"), losses(tmp_path / "whole"), rtol=1e-4)
    told = [
        [json.loads(line)["error"] for line in (tmp_path / name / "validation.jsonl").read_text().splitlines()]
        for name in ("shares", "whole")
    ]
    np.testing.assert_allclose(told[0], told[1], rtol=1e-3)
    assert (tmp_path / "shares" / "samples" / "step-00000002.mp4").exists()
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole/model").rglob("*.safetensors"))
    assert len(files) == (4 if "method=latent-vdm" in settings else 3)
    for file in files:
        made, expected = load_file(tmp_path / "shares" / file), load_file(tmp_path / "whole" / file)
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


def refused(processes: Processes, told: str) -> None:
    """That all of the processes end in an error, and one of them says this."""
    assert 0 not in processes.ended() and told in processes.errors()


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

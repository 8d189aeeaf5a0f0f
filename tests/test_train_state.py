"""Float16 with a scaler of gradients: on the CPU, where torch has both and accelerate alone says no."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator

from latentshift.training.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from latentshift.training.distributed import make_accelerator
from latentshift.training.recipe import AutoencoderRecipe
from latentshift.training.recipe_file import load_recipe
from latentshift.training.stages.autoencoder import AutoencoderStage
from latentshift.training.train_state import TrainState

RECIPE = Path(__file__).parent.parent / "recipes" / "sprites-autoencoder.yaml"
TINY = [
    "model={channels: [8, 8, 8], layers_per_block: 1, latent_channels: 4, norm_groups: 4}",
    "data.size=32",
    "batch_size=8",
    "steps=30",
    "optimizer={learning_rate: 1e-3, warmup_steps: 1}",
    "compute={device: cpu, precision: fp32, threads: 1}",
]
TOO_LARGE = 2.0**24  # times a gradient of about one: more than float16 can tell
RATE = 1e-3


def in_float16(recipe: AutoencoderRecipe, scale: float) -> Accelerator:
    accelerator = make_accelerator(recipe.compute)
    accelerator.state._mixed_precision = "fp16"
    accelerator.native_amp = True
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return accelerator


def state_of(recipe: AutoencoderRecipe, scale: float) -> tuple[TrainState, AutoencoderStage]:
    stage = AutoencoderStage(recipe)
    state = TrainState(
        stage.objective, in_float16(recipe, scale), recipe.optimizer, recipe.compute, ema_decay=recipe.ema_decay
    )
    state.objective.train()
    return state, stage


def test_gradients_that_a_scale_has_made_infinite_move_nothing_and_lower_it(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE, [*TINY, f"output={tmp_path}/run"])
    state, stage = state_of(recipe, TOO_LARGE)
    scaler = state.accelerator.scaler
    before = {name: value.clone() for name, value in state.trained.items()}
    results = []
    for batch in islice(stage.batches(1), 30):
        scale = scaler.get_scale()
        results.append(state.step([batch], RATE))
        assert scaler.get_scale() == (scale / 2 if results[-1].dropped else scale)
        if all(each.dropped for each in results):
            assert all(torch.equal(value, before[name]) for name, value in state.trained.items())
    dropped = [each.dropped for each in results]
    assert dropped[0] and not dropped[-1] and state.dropped == sum(dropped)
    assert state.average.optimization_step == dropped.count(False)
    kept = [each.values["loss"] for each in results if not each.dropped]
    assert len(kept) > 10 and sum(kept[-3:]) < 0.9 * sum(kept[:3])


def test_a_loss_that_is_not_finite_moves_nothing_though_its_gradient_is(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE, [*TINY, f"output={tmp_path}/run"])
    state, stage = state_of(recipe, 2.0)
    batches = stage.batches(1)
    assert not state.step([next(batches)], RATE).dropped
    before = {name: value.clone() for name, value in state.trained.items()}
    forward = state.objective.forward
    state.objective.forward = lambda batch: forward(batch) | {"loss": forward(batch)["loss"] + torch.inf}
    results = state.step([next(batches)], RATE)
    assert results.dropped and math.isfinite(results.values["gradient_norm"])
    assert all(torch.equal(value, before[name]) for name, value in state.trained.items())


def test_the_scale_goes_through_a_checkpoint(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE, [*TINY, f"output={tmp_path}/run"])
    state, stage = state_of(recipe, TOO_LARGE)
    batches = stage.batches(1)
    for batch in islice(batches, 12):
        state.step([batch], RATE)
    kept = save_checkpoint(tmp_path, 12, state.tensors(), state.values())
    following = next(batches)
    expected = state.step([following], RATE)

    again, _ = state_of(recipe, 2.0)
    again.restore(load_checkpoint(kept))
    assert again.accelerator.scaler.get_scale() == state.accelerator.scaler.get_scale() < TOO_LARGE
    assert again.step([following], RATE) == expected

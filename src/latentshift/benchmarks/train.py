"""How fast the sprites video stage trains, beside the loop that one would write first.

The peer is a plain diffusers U-Net in float32 with default attention, the text repeated for each frame, a shift that
assigns to slices in front of each first convolution, and torch's default AdamW. Both take the same batch through the
bundled model's U-Net and text encoder, and step their optimizers; ours keeps the averaged weights as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import nn

from latentshift.benchmarks.naive_shift import install_naive_shift
from latentshift.benchmarks.report import Result
from latentshift.benchmarks.timing import comparison, interleaved_timing
from latentshift.models.storage.model_paths import BUNDLED, bundled_model
from latentshift.pipeline import LatentShiftPipeline, open_pipeline
from latentshift.training.distributed import make_accelerator, split_batch
from latentshift.training.losses import LatentBatch
from latentshift.training.models.build import build_objective, prepare_video_model
from latentshift.training.precision import attention_backend, is_slow_in_bf16
from latentshift.training.recipe import VideoRecipe
from latentshift.training.recipes.settings import ComputeSettings
from latentshift.training.train_state import TrainState

_CLIPS, _FRAMES = 8, 16
_RATE = 1e-5
_ROUNDS = 5


def bench_train(quick: bool = False) -> Iterator[Result]:
    """Optimizer steps a second, of 8 clips of 16 frames, on the CPU; in bf16 where it has instructions for that."""
    precision: Literal["fp32", "bf16"] = "fp32" if is_slow_in_bf16(torch.device("cpu")) else "bf16"
    compute = ComputeSettings(device="cpu", precision=precision, channels_last=True, attention="math")
    recipe = VideoRecipe(
        stage="video",
        output=Path("unused"),
        model=BUNDLED,
        data="sprites",
        steps=200,
        batch_size=_CLIPS,
        compute=compute,
    )
    ours, batch = training_step(recipe)
    rounds = 1 if quick else _ROUNDS
    rate, plain = interleaved_timing([ours, _peer(batch)], rounds, clock=time.perf_counter)
    yield comparison(f"sprites video stage in {precision}", "steps/s", rate, plain)


def training_step(recipe: VideoRecipe) -> tuple[Callable[[int], None], LatentBatch]:
    """One step of a recipe's model as the loop takes it, and the batch that it takes: noise in the shape of latents."""
    accelerator = make_accelerator(recipe.compute)
    pipeline = open_pipeline(recipe.model, variant=recipe.variant)
    prepare_video_model(recipe, pipeline)
    objective = build_objective(
        pipeline,
        text_encoded=False,
        gradient_checkpointing=recipe.compute.gradient_checkpointing,
        compiled=recipe.compile,
    )
    state = TrainState(objective, accelerator, recipe.optimizer, recipe.compute, ema_decay=recipe.ema_decay)
    state.objective.train()
    generator = torch.Generator().manual_seed(0)
    side, channels = pipeline.unet.config.sample_size, pipeline.unet.config.in_channels
    shape = (recipe.batch_size, pipeline.config.num_frames, channels, side, side)
    batch = LatentBatch(
        latents=torch.randn(shape, generator=generator) / 4,
        noise=torch.randn(shape, generator=generator),
        timesteps=torch.randint(1000, shape[:1], generator=generator),
        token_ids=pipeline.text_encoders.tokenize(["a red star circling on a navy background"] * recipe.batch_size),
    )
    parts = split_batch(batch, recipe.micro_batches(1), accelerator.device)

    def step(number: int) -> None:
        with attention_backend(recipe.compute.attention, accelerator.device):
            state.step(parts, recipe.optimizer.learning_rate)
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()  # or the rest of it would be the next one's

    return step, batch


def _peer(batch: LatentBatch) -> Callable[[int], None]:
    stock = LatentShiftPipeline.from_pretrained(bundled_model())
    text_encoder = stock.text_encoder.eval()
    unet = UNet2DConditionModel.from_pretrained(bundled_model() / "unet", torch_dtype=torch.float32).train()
    install_naive_shift(unet, _FRAMES)
    scheduler = DDPMScheduler.from_config(stock.scheduler.config)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=_RATE)
    assert batch.token_ids is not None
    ids = batch.token_ids[:, 0]

    def step(number: int) -> None:
        noisy = scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
        target = scheduler.get_velocity(batch.latents, batch.noise, batch.timesteps)
        with torch.no_grad():
            text = text_encoder(ids)[0]
        steps, texts = (each.repeat_interleave(_FRAMES, dim=0) for each in (batch.timesteps, text))
        predicted = unet(noisy.flatten(0, 1), steps, encoder_hidden_states=texts).sample
        nn.functional.mse_loss(predicted, target.flatten(0, 1)).backward()
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step

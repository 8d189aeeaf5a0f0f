"""Train the shipped extractors from nothing: repeatable from the recipe's seed, resumed by calling it again.

Samples, noise and order are functions of (seed, step) alone, so that a run that was stopped ends as an unbroken one.

Legend of shapes: N samples of a batch, D features.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from latentshift.data.sprites import Sprites
from latentshift.evaluation.extractors.preprocess import for_sprites
from latentshift.evaluation.extractors.sprites.networks import SIZE, NetworkConfig, SpritesNetwork
from latentshift.evaluation.extractors.sprites.samples import (
    CLIP_CLASSES,
    CLIP_READINGS,
    FRAME_CLASSES,
    FRAME_READINGS,
    UNKNOWN,
    draw_clip,
    draw_frame,
)
from latentshift.evaluation.extractors.sprites.training_state import load_state, save_state, write_bytes
from latentshift.progress import progress_bar

SEED = 20_261_126  # of the samples; the study's prompts and every recipe have others
SAVE_EVERY = 20  # steps
_WEIGHT_DECAY = 0.02
_WARMUP = 0.05  # of the steps
_SHRINKAGE = 0.05  # of the whitening

Draw = Callable[[int, int], tuple[np.ndarray, dict[str, int], np.ndarray]]


@dataclass(frozen=True)
class ExtractorRecipe:
    """How one extractor is trained.

    Attributes:
        config: of the network.
        draw: (seed, index) -> sample.
        steps: of AdamW.
        batch: N.
        rate: the highest learning rate; it rises for a twentieth of the steps and falls to nothing along a cosine.
        readings_weight: of the readings' squared errors in the loss.
        clean: samples that the features are whitened on.
        start_from: name of the extractor whose frame encoder it starts from.
    """

    config: NetworkConfig
    draw: Draw
    steps: int
    batch: int
    rate: float
    readings_weight: float
    clean: int
    start_from: str | None = None


_FRAMES = NetworkConfig(
    channels=(24, 48, 80, 96),
    place_channels=32,
    frame_width=96,
    clip_channels=(),
    features=64,
    classes=FRAME_CLASSES,
    readings=FRAME_READINGS,
)
RECIPES = {
    "sprites-frames": ExtractorRecipe(
        _FRAMES, draw_frame, steps=2400, batch=128, rate=2e-3, readings_weight=2, clean=4096
    ),
    "sprites-clips": ExtractorRecipe(
        replace(_FRAMES, clip_channels=(128, 128, 128), features=32, classes=CLIP_CLASSES, readings=CLIP_READINGS),
        draw_clip,
        steps=2000,
        batch=16,
        rate=2e-3,
        readings_weight=8,
        clean=1536,
        start_from="sprites-frames",
    ),
}


def train_extractor(name: str, recipe: ExtractorRecipe, folder: Path) -> None:
    """Train, or go on with, one extractor; its weights and configuration are written into ``folder`` at the end.

    Does nothing if they are there. The state of an unfinished run lies beside them.

    Args:
        name: of the extractor and its files.
        recipe: its recipe.
        folder: also holds the extractor that it starts from.

    Raises:
        ValueError: if the extractor that it starts from is missing, or the state of an unfinished run does not fit.
    """
    weights, state = folder / f"{name}.safetensors", folder / f"{name}.state.safetensors"
    if weights.exists():
        return
    torch.manual_seed(SEED)
    network = SpritesNetwork(recipe.config)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.start_from is not None:
        _take_frame_encoder(network, folder / f"{recipe.start_from}.safetensors")
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=_WEIGHT_DECAY)
    done = load_state(state, network, optimizer) if state.exists() else 0
    with progress_bar(total=recipe.steps, initial=done, text=name, unit="step") as bar:
        for step in range(done, recipe.steps):
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * _schedule(step / recipe.steps)
            loss = training_loss(
                network, *_batch(recipe.draw, recipe.batch, recipe.config, step), recipe.readings_weight
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}")
            if (step + 1) % SAVE_EVERY == 0:
                save_state(state, network, optimizer, step + 1)
    whiten_features(network, recipe.clean, recipe.batch)
    write_bytes(folder / f"{name}.json", json.dumps(asdict(recipe.config), indent=1).encode() + b"\n")
    write_bytes(weights, save({key: value.contiguous() for key, value in network.state_dict().items()}))
    state.unlink(missing_ok=True)


def training_loss(
    network: SpritesNetwork,
    x: Tensor,
    classes: dict[str, Tensor],
    readings: Tensor,
    noise: Tensor,
    readings_weight: float,
) -> Tensor:
    """Cross-entropy of each class, and squared errors of the readings.

    Args:
        network: in training.
        x: frames or clips, as the network takes them.
        classes: indices (N,) by name, ``UNKNOWN`` where there is none.
        readings: (N, R).
        noise: (N, D), standard normal.
        readings_weight: see :class:`ExtractorRecipe`.
    """
    logits, read = network(x, noise)
    loss = readings_weight * mse_loss(read, readings) * readings.shape[1]
    for name, index in classes.items():
        loss = loss + cross_entropy(logits[name], index, ignore_index=UNKNOWN)
    return loss


def _batch(draw: Draw, size: int, config: NetworkConfig, step: int) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
    drawn = [draw(SEED, index) for index in range(step * size, (step + 1) * size)]
    pixels, classes, readings = zip(*drawn, strict=True)
    generator = torch.Generator().manual_seed(SEED + step)
    return (
        batch_input(pixels),
        {name: torch.tensor([each[name] for each in classes]) for name in config.classes},
        torch.from_numpy(np.stack(readings)),
        torch.randn(size, config.features, generator=generator),
    )


def batch_input(pixels: Sequence[np.ndarray]) -> Tensor:
    """Frames (S, S, 3) or clips (F, S, S, 3), uint8, as a network takes them."""
    stacked = torch.from_numpy(np.stack(pixels))
    return for_sprites(stacked.flatten(0, -4)).unflatten(0, stacked.shape[:-3])


@torch.no_grad()
def whiten_features(network: SpritesNetwork, samples: int, batch: int) -> None:
    """Fix the map from the hidden state to features, from clean samples of the world's seen triples, in batches.

    With the covariance Σ = U diag(λ) Uᵀ of their hidden states it is U diag(λ + ε)^-½, where ε is ``_SHRINKAGE`` times
    the mean of λ: directions in which clean samples hardly differ are enlarged, but no noise without bounds.
    """
    network.eval()
    world = Sprites(size=SIZE, seed=SEED)
    hidden = []
    for first in range(0, samples, batch):
        indices = range(first, min(first + batch, samples))
        pick = world.__getitem__ if network.config.clip_channels else world.frame
        hidden.append(network.hidden(batch_input([pick(index)[0] for index in indices])).double())
    rows = torch.cat(hidden)
    values, vectors = torch.linalg.eigh(torch.cov(rows.T))
    network.centre.copy_(rows.mean(0))
    network.whiten.copy_(vectors / (values + _SHRINKAGE * values.mean()).sqrt())


def _schedule(done: float) -> float:
    return min(done / _WARMUP + 0.01, 0.5 * (1 + float(np.cos(np.pi * done))))


def _take_frame_encoder(network: SpritesNetwork, path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"there is no {path}, whose encoder of frames the training starts from: train that first")
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if name.startswith("frame.")]  # noqa: SIM118, it is no dict
        network.load_state_dict({name: file.get_tensor(name) for name in names}, strict=False)

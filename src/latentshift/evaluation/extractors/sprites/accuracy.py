"""How often a trained extractor's single classes are right, on clean clips that it has not seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from latentshift.data.sprites import BACKGROUNDS, COLOURS, MOTIONS, THINGS, Sprite, Sprites
from latentshift.evaluation.extractors.preprocess import for_sprites
from latentshift.evaluation.extractors.sprites.networks import SIZE, NetworkConfig, SpritesNetwork

UNSEEN_SEED = 20_261_127
CLIPS = 512
_WORDS = {"colour": tuple(COLOURS), "thing": THINGS, "background": tuple(BACKGROUNDS), "motion": MOTIONS}


def unseen_accuracy(folder: Path, name: str, *, held_out: bool, clips: int = CLIPS) -> dict[str, float]:
    """Share of right answers by class, 0 … 1: of every frame, or of every clip if the extractor takes clips.

    Args:
        folder: with the extractor's two files.
        name: of the extractor.
        held_out: clips of the held-out triples.
        clips: how many.
    """
    network = load_network(folder, name)
    world = Sprites(size=SIZE, seed=UNSEEN_SEED, held_out=held_out)
    right = [_right(network, *world[index]) for index in range(clips)]
    return {each: float(np.concatenate([one[each] for one in right]).mean()) for each in network.config.classes}


def load_network(folder: Path, name: str) -> SpritesNetwork:
    """A network that was trained into a folder, for evaluation."""
    network = SpritesNetwork(NetworkConfig(**json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))))
    network.load_state_dict(load_file(folder / f"{name}.safetensors"))
    return network.eval()


@torch.inference_mode()
def _right(network: SpritesNetwork, clip: np.ndarray, sprite: Sprite) -> dict[str, np.ndarray]:
    x = for_sprites(torch.from_numpy(clip))
    logits = network.logits(network.hidden(x[None] if network.config.clip_channels else x))
    return {name: each.argmax(1).numpy() == _WORDS[name].index(getattr(sprite, name)) for name, each in logits.items()}

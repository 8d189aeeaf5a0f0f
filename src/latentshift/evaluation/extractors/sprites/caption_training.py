"""Train the captions' side of ``sprites-text`` on the finished network of ``sprites-frames``, repeatable from its seed.

It takes less than two minutes, and a run that was stopped begins anew.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from latentshift.data.sprites import BACKGROUNDS, COLOURS, MOTIONS, SYMMETRY, THINGS, Sprite, words
from latentshift.evaluation.extractors.sprites.accuracy import load_network
from latentshift.evaluation.extractors.sprites.captions import CaptionConfig, CaptionNetwork
from latentshift.evaluation.extractors.sprites.samples import draw_frame
from latentshift.evaluation.extractors.sprites.training import SEED, batch_input
from latentshift.evaluation.extractors.sprites.training_state import write_bytes
from latentshift.progress import progress_bar

NAME, FRAMES = "sprites-text", "sprites-frames"
STEPS, BATCH, RATE, WIDTH = 500, 128, 3e-3, 64
_KINDS = list(itertools.product(COLOURS, THINGS, BACKGROUNDS))  # what a frame may show
_FIRST = 2**24  # index of the first sample; those below may have been seen by sprites-frames


def train_captions(folder: Path, *, steps: int = STEPS, batch: int = BATCH) -> None:
    """Write the weights and configuration of ``sprites-text`` into the folder; does nothing if they are there.

    Args:
        folder: has the two files of ``sprites-frames``.
        steps: of AdamW; its rate falls to nothing along a line.
        batch: frames of a step.
    """
    weights = folder / f"{NAME}.safetensors"
    if weights.exists():
        return
    frames = load_network(folder, FRAMES)
    digest = hashlib.sha256((folder / f"{FRAMES}.safetensors").read_bytes()).hexdigest()
    config = CaptionConfig(words(), frames.config.features, WIDTH, digest)
    torch.manual_seed(SEED)
    network = CaptionNetwork(config)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    for step in progress_bar(range(steps), text=NAME, unit="step"):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / steps)
        drawn = [draw_frame(SEED, _FIRST + index) for index in range(step * batch, (step + 1) * batch)]
        with torch.no_grad():
            hidden = frames.hidden(batch_input([pixels for pixels, _, _ in drawn]))
        right = [_kind(classes) for _, classes, _ in drawn]
        counts = network.count_words(all_captions(np.random.default_rng([SEED, step])))
        loss = network.loss(hidden, counts, torch.tensor(right))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    write_bytes(folder / f"{NAME}.json", json.dumps(asdict(config), indent=1).encode() + b"\n")
    write_bytes(weights, save(dict(network.state_dict())))


def all_captions(rng: np.random.Generator) -> list[str]:
    """A caption of each colour, thing and background, half of them with a motion."""
    captions = []
    for colour, thing, background in _KINDS:
        possible = [each for each in MOTIONS if each != "spinning" or SYMMETRY[thing]]
        motion = possible[rng.integers(len(possible))]
        captions.append(Sprite(colour, thing, motion, background).caption(with_motion=bool(rng.random() < 0.5)))
    return captions


def _kind(classes: dict[str, int]) -> int:
    return (classes["colour"] * len(THINGS) + classes["thing"]) * len(BACKGROUNDS) + classes["background"]

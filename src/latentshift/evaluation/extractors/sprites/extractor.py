"""Open a shipped extractor: features, class probabilities, or embeddings of frames and captions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from latentshift.evaluation.extractors.cache import CachedExtractor
from latentshift.evaluation.extractors.extractor import CachedNetwork, reproducible
from latentshift.evaluation.extractors.known import Output
from latentshift.evaluation.extractors.preprocess import for_sprites
from latentshift.evaluation.extractors.sprites.captions import CaptionConfig, CaptionNetwork
from latentshift.evaluation.extractors.sprites.networks import NetworkConfig, SpritesNetwork
from latentshift.evaluation.extractors.state_dict import load_state, read_state_dict
from latentshift.user_input.error_text import printable

# What a class of the inception score is. All four words would be 2,560 classes, more than most sets have clips.
_JOINT = {"frame": ("colour", "thing", "background"), "clip": ("thing", "motion")}


class Sprites(CachedNetwork):
    """Rows of features, or of the probabilities of joint classes, one a frame or one a clip of 16 frames.

    The joint classes of frames are colour, thing and background (256), those of clips thing and motion (80), the last
    named varying fastest. A joint probability is the product of the single ones.
    """

    def __init__(self, cached: CachedExtractor, device: torch.device, output: Output | None = None) -> None:
        super().__init__(cached, device, output)
        weights, config = (each.name for each in cached.known.files)
        self.network = _read_network(cached, weights, config).to(device)

    def rows(self, video: Tensor) -> Tensor:
        x = for_sprites(video)
        hidden = self.network.hidden(x if self.per == "frame" else x[None])
        if self.output == "features":
            return self.network.features(hidden)
        logits = self.network.logits(hidden)
        single = [logits[name].softmax(1) for name in _JOINT[self.per]]
        return reduce(lambda first, second: (first[:, :, None] * second[:, None]).flatten(1), single)


class SpritesText(CachedNetwork):
    """Embeddings of frames and of captions of the sprites world, not normalized; words of motion count for nothing."""

    def __init__(self, cached: CachedExtractor, device: torch.device, output: Output | None = None) -> None:
        super().__init__(cached, device, output)
        weights, config, frames, frames_config = (each.name for each in cached.known.files)
        with torch.device("meta"):
            captions = CaptionNetwork(CaptionConfig(**json.loads(cached.read(config))))
        self.captions = load_state(captions, read_state_dict(cached, weights), cached).to(device)
        if self.captions.config.frames_sha256 != cached.hashes[frames]:
            raise ValueError(f"{cached.folder / frames} is not the file that {self.name} was trained with")
        self.network = _read_network(cached, frames, frames_config).to(device)

    def rows(self, video: Tensor) -> Tensor:
        return self.captions.frame(self.network.hidden(for_sprites(video)))

    def text(self, prompts: Sequence[str]) -> np.ndarray:
        """Embeddings of prompts, float32 (P, D), not normalized.

        Raises:
            ValueError: if there are none, or one has no word of the sprites world.
        """
        if not prompts:
            raise ValueError("there are no prompts to embed")
        counts = self.captions.count_words(prompts)
        for prompt, known in zip(prompts, counts.any(1), strict=True):
            if not known:
                raise ValueError(
                    f"the prompt {printable(prompt)} has no word that the extractor {self.name} knows: it was trained "
                    "on captions of the sprites world alone"
                )
        with reproducible(self.device):
            made = [self.captions.text(each[None].to(self.device))[0].cpu().numpy() for each in counts]
        return np.stack(made)


def _read_network(cached: CachedExtractor, weights: str, config: str) -> SpritesNetwork:
    with torch.device("meta"):
        network = SpritesNetwork(NetworkConfig(**json.loads(cached.read(config))))
    return load_state(network, read_state_dict(cached, weights), cached)

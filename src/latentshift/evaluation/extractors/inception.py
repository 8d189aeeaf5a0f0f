"""The Inception of 2015: features of frames for FID and KID, class scores for the inception score."""

from __future__ import annotations

import torch
from torch import Tensor

from latentshift.evaluation.extractors.cache import CachedExtractor
from latentshift.evaluation.extractors.extractor import CachedNetwork
from latentshift.evaluation.extractors.inception_network import InceptionNetwork
from latentshift.evaluation.extractors.known import Output
from latentshift.evaluation.extractors.preprocess import for_inception
from latentshift.evaluation.extractors.state_dict import load_state, read_state_dict

_FRAMES = 16  # at a time


class Inception(CachedNetwork):
    """Rows of 2048 features, or of 1008 logits without bias (for a softmax, and the inception score)."""

    def __init__(self, cached: CachedExtractor, device: torch.device, output: Output | None = None) -> None:
        super().__init__(cached, device, output)
        with torch.device("meta"):
            network = InceptionNetwork()
        state = read_state_dict(cached, cached.known.weights.name)
        self.network = load_state(network, state, cached).to(device)

    def rows(self, video: Tensor) -> Tensor:
        features = torch.cat([self.network(for_inception(part)) for part in video.split(_FRAMES)])
        return self.network.logits(features) if self.output == "logits" else features

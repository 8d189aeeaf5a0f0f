"""CLIP from a folder of the hub: embeddings of frames, and of prompts in the same space.

Radford et al. 2021, arXiv 2103.00020. Legend of shapes: N frames, P prompts, L tokens, D width of the embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, CLIPVisionConfig

from latentshift.evaluation.extractors.cache import CachedExtractor
from latentshift.evaluation.extractors.extractor import CachedNetwork, reproducible
from latentshift.evaluation.extractors.known import Output
from latentshift.evaluation.extractors.preprocess import for_clip
from latentshift.evaluation.extractors.state_dict import check_state, read_state_dict
from latentshift.user_input.bounded_read import parse_json_bounded
from latentshift.user_input.error_text import one_line, printable

_FRAMES = 16  # at a time
_MOST = 2**20  # of any whole number in config.json
_LAYERS = 256
_WIDTHS, _SIDE = {768: "B", 1024: "L", 1280: "H"}, 224  # in names of networks
_COMPUTED = ".position_ids"  # in older files, and no weights


class Clip(CachedNetwork):
    """Embeddings of frames, not normalized; D is the model's.

    Attributes:
        tokens: L, with the start and the end; what is longer is cut.
        network_name: by its vision model, as OpenAI names them: ``ViT-B/32``, ``ViT-L/14@336``.
    """

    def __init__(self, cached: CachedExtractor, device: torch.device, output: Output | None = None) -> None:
        super().__init__(cached, device, output)
        config = _read_config(cached)
        state = read_state_dict(cached, next(iter(cached.hashes)))
        state = {name: value for name, value in state.items() if not name.endswith(_COMPUTED)}
        with torch.device("meta"):
            check_state(CLIPModel(config).state_dict(), state, cached)
        self.network = CLIPModel.from_pretrained(None, config=config, state_dict=state, dtype=torch.float32)
        self.network.eval().requires_grad_(False).to(device)
        self.width = config.projection_dim
        self.tokens = config.text_config.max_position_embeddings
        self.size = config.vision_config.image_size
        self.network_name = network_name(config.vision_config)
        self.tokenizer = _read_tokenizer(cached)

    def rows(self, video: Tensor) -> Tensor:
        made = []
        for part in video.split(_FRAMES):
            pooled = self.network.vision_model(for_clip(part, self.size)).pooler_output
            made.append(self.network.visual_projection(pooled))
        return torch.cat(made)

    def text(self, prompts: Sequence[str]) -> np.ndarray:
        """Embeddings of prompts, float32 (P, D), not normalized; each prompt's is its own, whatever stands beside it.

        A prompt goes in as it is: OpenAI's code also repairs broken Unicode and HTML entities first.

        Raises:
            ValueError: if there are none, or one gives numbers that are not finite.
        """
        if not prompts:
            raise ValueError("there are no prompts to embed")
        made = []
        with reproducible(self.device):
            for prompt in prompts:
                tokens = self.tokenizer(prompt, truncation=True, max_length=self.tokens, return_tensors="pt")
                pooled = self.network.text_model(**tokens.to(self.device)).pooler_output
                made.append(self.network.text_projection(pooled)[0].cpu().numpy())
        embeddings = np.stack(made)
        if not np.isfinite(embeddings).all():
            raise ValueError(f"the extractor {self.name} gave numbers that are not finite")
        return embeddings

    def is_cut(self, prompt: str) -> bool:
        """Whether a prompt has more tokens than the model reads."""
        return len(self.tokenizer(prompt, verbose=False)["input_ids"]) > self.tokens


def network_name(vision: CLIPVisionConfig) -> str:
    """``ViT-L/14@336``: the width's letter (a number where it has none), patches, and the side in pixels unless 224."""
    width = _WIDTHS.get(vision.hidden_size, str(vision.hidden_size))
    side = "" if vision.image_size == _SIDE else f"@{vision.image_size}"
    return f"ViT-{width}/{vision.patch_size}{side}"


def _read_config(cached: CachedExtractor) -> CLIPConfig:
    where = f"{cached.folder / 'config.json'}"
    values = parse_json_bounded(cached.read("config.json").decode("utf-8", "replace"), where)
    if not isinstance(values, dict) or values.get("model_type") != "clip" or not _small(values):
        raise ValueError(f"{where} does not describe a CLIP model of a usual size")
    try:
        return CLIPConfig.from_dict(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} does not describe a CLIP model ({printable(one_line(error))})") from None


def _small(values: Any, name: str = "") -> bool:
    """Whether no number makes a model that could not be in the file: its modules are built before it is read."""
    if isinstance(values, dict):
        return all(_small(value, key) for key, value in values.items())
    if isinstance(values, list):
        return all(_small(value, name) for value in values)
    most = _LAYERS if name.endswith("layers") else _MOST
    return not isinstance(values, int | float) or abs(values) <= most


def _read_tokenizer(cached: CachedExtractor) -> CLIPTokenizer:
    where = cached.folder / "vocab.json"
    vocabulary = parse_json_bounded(cached.read("vocab.json").decode("utf-8", "replace"), str(where))
    lines = cached.read("merges.txt").decode("utf-8", "replace").split("\n")
    merges = [tuple(line.split()) for line in lines if line.strip() and not line.startswith("#version")]
    try:
        return CLIPTokenizer(vocab=vocabulary, merges=merges)
    except Exception as error:  # the Rust code raises this very type
        raise ValueError(f"{where} and merges.txt are no tokenizer of CLIP ({printable(one_line(error))})") from None

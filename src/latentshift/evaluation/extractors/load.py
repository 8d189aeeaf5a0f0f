"""Open an extractor by its name."""

from __future__ import annotations

from importlib import import_module

import torch

from latentshift.evaluation.extractors.cache import require_extractor
from latentshift.evaluation.extractors.extractor import Extractor
from latentshift.evaluation.extractors.known import Output

# Name -> module beside this one and class: a class takes (CachedExtractor, device, output).
_CLASSES = {
    "inception-2015": ("inception", "Inception"),
    "i3d": ("torchscript", "I3D"),
    "c3d": ("torchscript", "C3D"),
    "clip": ("clip", "Clip"),
    "sprites-frames": ("sprites.extractor", "Sprites"),
    "sprites-clips": ("sprites.extractor", "Sprites"),
    "sprites-text": ("sprites.extractor", "SpritesText"),
}


def load_extractor(name: str, device: torch.device | str = "cpu", output: Output | None = None) -> Extractor:
    """Open an extractor, after comparing its files with their checksums.

    Args:
        name: as in ``latentshift evaluate extractors``.
        device: where its network goes.
        output: ``"logits"`` for Inception's classes; None: the extractor's first output.

    Raises:
        ValueError: for an unknown name or output; if it is missing (where its files come from, their checksum and
            licence, and how to add them); or if a file is damaged, changed, or another network's.
    """
    cached = require_extractor(name)
    module, kind = _CLASSES[name]
    extractor: Extractor = getattr(import_module(f"{__package__}.{module}"), kind)(cached, torch.device(device), output)
    return extractor

"""Fingerprints of weights and of models, recorded in files that depend on them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from torch import nn

_IGNORED_KEYS = {"transformers_version", "dtype", "torch_dtype"}  # how a model is stored, not what it computes


def weights_fingerprint(*modules: nn.Module) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of all names and values (as float32), on any device."""
    return _digest(*modules, configs=False)


def model_fingerprint(*parts: Any) -> str:
    """:func:`weights_fingerprint` with configurations: a different ``scaling_factor`` is a different model.

    Args:
        parts: models of diffusers or transformers; schedulers (their configuration); tokenizers (their vocabulary);
            None, a missing optional component, is ignored.
    """
    return _digest(*(part for part in parts if part is not None), configs=True)


def _digest(*parts: Any, configs: bool) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if configs:
            digest.update(_config(part).encode())
        if isinstance(part, nn.Module):
            for name, value in sorted(part.state_dict().items()):
                digest.update(name.encode() + value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _config(part: Any) -> str:
    if hasattr(part, "get_vocab"):
        return json.dumps(part.get_vocab(), sort_keys=True)
    config = part.config.to_dict() if hasattr(part.config, "to_dict") else dict(part.config)
    kept = {key: value for key, value in config.items() if key[0] != "_" and key not in _IGNORED_KEYS}
    return json.dumps(kept, sort_keys=True, default=str)

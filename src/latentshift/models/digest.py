"""A short name for a set of weights, by which what was made with them is told from what was not."""

from __future__ import annotations

import hashlib

from torch import nn


def weights_digest(*modules: nn.Module) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of all names and values (as float32), wherever the tensors lie."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode() + value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]

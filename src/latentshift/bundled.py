"""The model that comes with the package: where it lies."""

from __future__ import annotations

from pathlib import Path

BUNDLED = "bundled"


def bundled_model() -> Path:
    """The folder of the bundled sprites model, a saved ``LatentShiftPipeline``."""
    return Path(__file__).with_name("bundled_model")

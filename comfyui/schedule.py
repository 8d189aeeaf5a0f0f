"""What of a saved pipeline's noise schedule ComfyUI can't sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def check_schedule(schedule: Mapping[str, Any]) -> None:
    """Refuse a schedule that is not a formula's: neither of ComfyUI's ways to a MODEL here takes betas.

    Args:
        schedule: configuration of a diffusers scheduler.

    Raises:
        ValueError: for betas of its own.
    """
    if schedule.get("trained_betas") is not None:
        raise ValueError(
            "the scheduler has betas of its own (trained_betas), which ComfyUI would replace by a formula's; use "
            "latentshift generate"
        )

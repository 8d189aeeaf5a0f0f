"""Ways to sample with fewer operations, each at a price in what comes out; none is used unless it is asked for.

Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class FewerOperations:
    """What a call leaves out.

    Attributes:
        guidance_interval: (low, high): guidance only at timesteps low ≤ t ≤ high, 0 … T-1, and the prediction for the
            prompt alone at others (Kynkäänniemi et al. 2024); None: at all.
        deep_cache_interval: N ≥ 2: the whole U-Net only in every N-th step (:class:`latentshift.models.deep_cache`);
            None: in all.
        deep_cache_branch: b ≥ 0: its first b and last b + 1 layers in the others.

    Raises:
        ValueError: naming the first value that is wrong for every model.
    """

    guidance_interval: tuple[float, float] | None = None
    deep_cache_interval: int | None = None
    deep_cache_branch: int = 0

    def __post_init__(self) -> None:
        if self.guidance_interval is not None:
            low, high = _two_numbers(self.guidance_interval)
            object.__setattr__(self, "guidance_interval", (low, high))
        for name, least in (("deep_cache_interval", 2), ("deep_cache_branch", 0)):
            value = getattr(self, name)
            if value is None and least:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be a whole number of {least} or more, not {value!r}")
        if self.deep_cache_interval is None and self.deep_cache_branch:
            raise ValueError("deep_cache_branch has no effect without deep_cache_interval: give both")

    def arguments(self) -> dict[str, Any]:
        """Those that are not the defaults, as arguments of a pipeline's call."""
        default = asdict(FewerOperations())
        return {name: value for name, value in asdict(self).items() if value != default[name]}


def parse_guidance_interval(text: str) -> tuple[float, float]:
    """``LOW:HIGH`` as two numbers.

    Raises:
        ValueError: for anything else.
    """
    low, colon, high = text.partition(":")
    try:
        return _two_numbers((float(low), float(high))) if colon else _two_numbers(())
    except ValueError:
        raise ValueError(
            f"--guidance-interval must be two timesteps, from low to high, as 200:800, not {text!r}"
        ) from None


def check_guidance_interval(interval: tuple[float, float] | None, timesteps: Sequence[float]) -> None:
    """Refuse an interval in which a sampling has no step, since it then would have no guidance at all.

    Args:
        interval: of timesteps; None: all of them.
        timesteps: of the sampling.

    Raises:
        ValueError: with the timesteps that there are.
    """
    if interval is None:
        return
    low, high = interval
    if len(timesteps) and not any(low <= timestep <= high for timestep in timesteps):
        raise ValueError(
            f"no step of this sampling lies in guidance_interval ({low:g}, {high:g}): its timesteps run from "
            f"{max(timesteps):g} down to {min(timesteps):g}"
        )


def _two_numbers(interval: Any) -> tuple[float, float]:
    try:
        low, high = (math.nan if isinstance(value, bool) else float(value) for value in interval)
    except (TypeError, ValueError):
        low = high = math.nan
    if not low <= high or math.isinf(low) or math.isinf(high):
        raise ValueError(f"guidance_interval must be two timesteps, from low to high, as (200, 800), not {interval!r}")
    return low, high

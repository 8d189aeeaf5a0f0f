"""The options that leave operations out of a sampling: ``--guidance-interval``, ``--deep-cache`` and its branch."""

from __future__ import annotations

from typing import Any

import typer

from latentshift.diffusion.fewer_operations import FewerOperations, parse_guidance_interval

INTERVAL: Any = typer.Option(
    None,
    "--guidance-interval",
    metavar="LOW:HIGH",
    help="Guidance at these timesteps alone, 0 to 999 as a rule: fewer operations, other videos. Default: at all.",
)
DEEP_CACHE: Any = typer.Option(
    None,
    "--deep-cache",
    metavar="N",
    min=2,
    help="The whole U-Net in every N-th step alone, with deep features from there in the others: fewer operations, "
    "other videos. Default: in all steps.",
)
BRANCH: Any = typer.Option(
    0,
    "--deep-cache-branch",
    metavar="B",
    min=0,
    help="How many of the U-Net's first layers, and one more of its last, are called in the others.",
)


def read_fewer_operations(
    interval: str | None, deep_cache: int | None, branch: int, speed: str | None = None
) -> FewerOperations:
    """What the options leave out.

    Raises:
        ValueError: for an interval that is none, a branch without a cache, or any of them with the speed fast.
    """
    if speed == "fast" and (interval is not None or deep_cache is not None):
        raise ValueError(
            "--speed fast decides by itself what is left out: leave --guidance-interval and --deep-cache out, or take "
            "--speed exact"
        )
    if branch and deep_cache is None:
        raise ValueError("--deep-cache-branch has no effect without --deep-cache: give both")
    return FewerOperations(None if interval is None else parse_guidance_interval(interval), deep_cache, branch)


def metadata_of(fewer: FewerOperations) -> dict[str, Any]:
    """What a video's file says of it."""
    interval = fewer.guidance_interval
    return {
        "guidance_interval": None if interval is None else f"{interval[0]:g}:{interval[1]:g}",
        "deep_cache": fewer.deep_cache_interval,
        "deep_cache_branch": fewer.deep_cache_branch if fewer.deep_cache_interval else None,
    }

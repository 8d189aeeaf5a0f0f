"""Options that many commands have, with the same meaning in each."""

from __future__ import annotations

from typing import Any

import typer

DEVICE: Any = typer.Option("auto", "--device", help="auto, cpu, cuda, cuda:1, …")
DTYPE: Any = typer.Option("auto", "--dtype", help="auto, float32, bfloat16 or float16.")
RANK_TIMEOUT_SECONDS = 6 * 3600.0
RANK_TIMEOUT: Any = typer.Option(
    RANK_TIMEOUT_SECONDS,
    "--rank-timeout",
    help="Seconds that several processes wait for one that finishes nothing.",
)
GUIDANCE: Any = typer.Option(None, "--guidance", help="Guidance scale. Default: the model's.")

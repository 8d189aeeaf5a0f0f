"""Options that many commands have, with the same meaning in each."""

from __future__ import annotations

from typing import Any

import typer

DEVICE: Any = typer.Option("auto", "--device", help="auto, cpu, cuda, cuda:1, …")
DTYPE: Any = typer.Option("auto", "--dtype", help="auto, float32, bfloat16 or float16.")
GUIDANCE: Any = typer.Option(None, "--guidance", help="Guidance scale. Default: the model's.")

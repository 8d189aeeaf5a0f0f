"""The command line: one file a verb, heavy imports only where a verb needs them, all wiring here and nowhere else."""

from __future__ import annotations

from latentshift.cli.app import main

__all__ = ["main"]

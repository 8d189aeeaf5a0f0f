"""The command line: one file for each command, with heavy imports only where needed; all wiring is here."""

from __future__ import annotations

from latentshift.cli.app import main

__all__ = ["main"]

"""Commands that resume where they stopped: SIGTERM, Ctrl-C and a full disk end them with one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import typer

from latentshift.files import explain_full_disk
from latentshift.user_input.error_text import printable

_MAX_PATH = 4096


def ends_cleanly(kept: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """SIGTERM, Ctrl-C and a full disk end the command with one sentence; what is done must be on disk already.

    Args:
        kept: what the folder ``output`` of the command keeps, e.g. ``the encoded clips``.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**arguments: Any) -> None:
            from latentshift.preemption import SigtermHandler, Terminated  # imports nothing heavy

            folder = arguments["output"] or "the folder of the result"  # None: the command chooses it
            resumes = f"{folder} keeps {kept}, and the same command resumes from there"
            place = Path(arguments["output"] or ".")
            try:
                with SigtermHandler() as sigterm, sigterm.interruptible(), explain_full_disk(place, resumes):
                    command(**arguments)
            except Terminated:
                raise Terminated(f"stopped by SIGTERM; {resumes}") from None
            except KeyboardInterrupt:
                print(f"stopped; {printable(resumes, _MAX_PATH)}", file=sys.stderr)
                raise typer.Exit(130) from None

        return run

    return decorate

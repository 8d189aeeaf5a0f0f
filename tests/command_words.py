"""Whether words are a command that the command line understands."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from typer.core import TyperGroup

from latentshift.cli.app import app


def check_understood(words: Sequence[str]) -> None:
    """Parse the words after ``latentshift``; raises for what the command does not know or lacks."""
    command, rest = typer.main.get_command(app), list(words)
    while isinstance(command, TyperGroup) and rest and rest[0] in command.commands:
        command, rest = command.commands[rest[0]], rest[1:]
    if isinstance(command, TyperGroup):
        assert rest[:1] in (["COMMAND"], ["--help"], ["--version"], []), words
    elif rest and "--help" not in rest:
        command.make_context(words[0], rest)

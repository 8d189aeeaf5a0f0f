"""``latentshift data``: inspect, split and encode training data. One file for each command."""

from __future__ import annotations

import typer

from latentshift.cli.data import encode, inspect, split

data = typer.Typer(help="Inspect, split and encode training clips.", no_args_is_help=True)
data.command("inspect")(inspect.inspect)
data.command("split")(split.split)
data.command("encode")(encode.encode)

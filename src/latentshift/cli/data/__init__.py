"""``latentshift data``: what a folder of clips holds, before anything learns from it. One file a verb."""

from __future__ import annotations

import typer

from latentshift.cli.data import encode, inspect, split

data = typer.Typer(help="Look through, cut and encode clips to train on.", no_args_is_help=True)
data.command("inspect")(inspect.inspect)
data.command("split")(split.split)
data.command("encode")(encode.encode)

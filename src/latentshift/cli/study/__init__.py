"""``latentshift study``: people compare the videos of two or more systems. One file for each command."""

from __future__ import annotations

import typer

from latentshift.cli.study import invite, make, result, serve

study = typer.Typer(help="A user study: raters compare videos of two or more systems.", no_args_is_help=True)
study.command("make")(make.make)
study.command("serve")(serve.serve)
study.command("invite")(invite.invite)
study.command("result")(result.result)

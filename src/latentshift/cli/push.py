"""``latentshift push``: a model on the hub, with a card of what it is, how it was made and what it does."""

from __future__ import annotations

from pathlib import Path

import typer

from latentshift.progress import status
from latentshift.user_input.error_text import printable


def push(
    model: str = typer.Argument(..., help="The folder of a model, or of a run, whose recipe then stands in the card."),
    repo: str = typer.Argument(..., help="Of the hub: OWNER/NAME. It is made if there is none."),
    report: list[Path] | None = typer.Option(
        None, "--report", help="Folder of an evaluation, whose figures stand in the card. May be given several times."
    ),
    picture: list[Path] | None = typer.Option(
        None, "--picture", help="A .gif, .webp, .png or .jpg for the card. May be given several times."
    ),
    license: str | None = typer.Option(
        None, "--license", show_default="other", help="Of the weights, by the hub's name, as apache-2.0."
    ),
    private: bool = typer.Option(False, "--private", help="Make a new repository private."),
    message: str = typer.Option("Upload a Latent-Shift model", "--message", help="Of the commit."),
    dry_run: Path | None = typer.Option(
        None,
        "--dry-run",
        metavar="FOLDER",
        help="Send nothing: write all that would be sent, but the weights, to a new folder.",
    ),
) -> None:
    """Push a model to the hub, with a model card; needs `hf auth login`, or HF_TOKEN."""
    from latentshift.hub import prepare_upload

    upload = prepare_upload(model, repo, license=license, reports=report or [], pictures=picture or [])
    if upload.own_card is not None:
        print(f"the card is {printable(upload.own_card)}, and none is made")
    if dry_run is not None:
        upload.write(dry_run)
        for name in upload.names:
            print(printable(name))
        print(f"nothing is sent; see {printable(dry_run)}, which holds all of these but the weights")
        return
    with status(f"sending {printable(upload.folder)} to {repo}"):
        print(upload.send(private=private, message=message))

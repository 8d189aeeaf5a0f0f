"""``latentshift study invite``: links for one rater each."""

from __future__ import annotations

from pathlib import Path

import typer

from latentshift.cli.study.common import FOLDER, URL, base_url, link


def invite(
    folder: Path = FOLDER,
    raters: int = typer.Option(..., "--raters", min=1, max=100_000, help="Number of links."),
    url: str | None = URL,
    port: int = typer.Option(8000, "--port", min=1, max=65535, help="Port of study serve, for links to this machine."),
) -> None:
    """Print links for one rater each, who is the same one in every browser. They are stored nowhere: keep them."""
    base = base_url(url, "127.0.0.1", port)
    from latentshift.study.database import check_study

    check_study(folder)
    from latentshift.study.store import Store

    with Store(folder) as store:
        for token in store.add_raters(raters):
            print(link(base, token))

"""Shared by the commands of ``latentshift study``: options, and the links of raters."""

from __future__ import annotations

from urllib.parse import urlsplit

import typer

FOLDER = typer.Argument(..., help="The study's folder, from latentshift study make.")
URL = typer.Option(
    None, "--url", help="Where raters reach the study, for the links: e.g. https://study.example.org. Default: here."
)
MAX_PATH_LENGTH = 4096


def base_url(url: str | None, host: str, port: int) -> str:
    """The address that links begin with, ending in a slash.

    Raises:
        ValueError: unless ``url`` is one of http or https without a query.
    """
    if url is None:
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"--url must be an address such as https://study.example.org, not {url!r}")
    return url if url.endswith("/") else f"{url}/"


def link(base: str, token: str) -> str:
    """A link that a rater enters by; browsers send what follows the # nowhere, so that it is in no server's log."""
    return f"{base}#{token}"

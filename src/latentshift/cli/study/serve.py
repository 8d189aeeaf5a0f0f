"""``latentshift study serve``: the page that raters answer on."""

from __future__ import annotations

import socket
import sys
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from latentshift.cli.study.common import FOLDER, URL, base_url, link
from latentshift.user_input.error_text import printable

if TYPE_CHECKING:
    from latentshift.study.store import Store


def serve(
    folder: Path = FOLDER,
    host: str = typer.Option("127.0.0.1", "--host", help="Address to listen on; 0.0.0.0 for all of this machine's."),
    port: int = typer.Option(8000, "--port", min=0, max=65535, help="Port to listen on; 0 for any free one."),
    url: str | None = URL,
) -> None:
    """Serve a study until Ctrl-C; the same command goes on with it. Confirmed answers survive a kill."""
    base_url(url, host, port)
    from latentshift.study.database import check_study

    check_study(folder)
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ValueError(f"latentshift study serve needs {' and '.join(missing)}: pip install 'latentshift[study]'")
    from latentshift.study.invitation import read_invitation
    from latentshift.study.server.app import study_app
    from latentshift.study.server.run import listen
    from latentshift.study.server.run import serve as serve_app
    from latentshift.study.store import Store

    with Store(folder) as store:
        print(f"{printable(' and '.join(store.systems()))}: {_progress(store)}")
    invitation = read_invitation(folder)
    listening = listen(host, port)
    reached = socket.gethostname() if host in ("0.0.0.0", "::") else host
    base = base_url(url, reached, listening.getsockname()[1])
    if not _is_loopback(host) and not base.startswith("https:"):
        print(
            "warning: others on the network can read along what comes over http: put a proxy with https before it, "
            "and give its address as --url",
            file=sys.stderr,
        )

    def announce() -> None:
        print(f"raters enter by {link(base, invitation)}")
        print("Ctrl-C stops it, and the same command goes on", flush=True)

    serve_app(study_app(folder, invitation), listening, announce)
    with Store(folder) as store:
        print(f"stopped: {_progress(store)}")


def _progress(store: Store) -> str:
    given, wanted = store.progress()
    return f"{given:,} of {wanted:,} answers are there"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

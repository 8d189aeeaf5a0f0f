"""Listen on an address, and serve a study until SIGINT or SIGTERM comes."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from latentshift.preemption import SigtermHandler

_MAX_CONNECTIONS = 1000
_SECONDS_TO_FINISH = 10


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections from now on.

    Args:
        host: name or address of this machine.
        port: 0 for any free one.

    Raises:
        ValueError: if the host is none of this machine's, or the port is in use or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ValueError(f"--host {host} is no address of this machine: {error.strerror}") from None
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(256)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise ValueError(f"port {port} of {host} is in use: choose another with --port") from None
        raise ValueError(f"can't listen on port {port} of {host}: {error.strerror}") from None
    return listening


def serve(app: ASGIApp, listening: socket.socket, announce: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; requests that came before are finished. Nothing is logged of who asks.

    Args:
        app: to serve.
        listening: from :func:`listen`.
        announce: is called when requests are answered, and a signal ends it well.
    """
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        http="h11",
        ws="none",
        lifespan="on",
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
    )
    # uvicorn ends well on both signals, and raises them once more afterwards.
    with SigtermHandler(), suppress(KeyboardInterrupt):
        _AnnouncedServer(config, announce).run(sockets=[listening])


class _AnnouncedServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()

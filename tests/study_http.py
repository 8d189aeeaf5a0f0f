"""A study's server in a process of its own, and raters that ask it over HTTP."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from waiting import PATIENCE, wait_for

Reply = tuple[int, dict[str, str], bytes]


class StudyServer:
    """``latentshift study serve`` on a free port, which it keeps when it is started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.token = folder, 0, ""
        self._reserved: socket.socket | None = None
        self.start()

    def __enter__(self) -> StudyServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        if self._reserved is not None:
            self._reserved.close()

    def kill(self) -> None:
        """It may be started again."""
        self.process.kill()
        self.process.communicate()
        self._reserve()

    def start(self) -> None:
        command = [sys.executable, "-m", "latentshift", "study", "serve", self.folder, "--port", self.port]
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        self.printed = ""
        late = threading.Timer(PATIENCE, self.process.kill)  # which ends what it prints
        late.start()
        while "Ctrl-C" not in self.printed:
            line = self.process.stdout.readline()
            assert line, self.printed
            self.printed += line
        late.cancel()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/#(\S+)", self.printed)
        assert found is not None, self.printed
        self.port, self.token = int(found[1]), found[2]

    @property
    def link(self) -> str:
        return f"http://127.0.0.1:{self.port}/#{self.token}"

    def stop(self, by: signal.Signals) -> tuple[int, str]:
        """Its exit code and what it printed."""
        self.process.send_signal(by)
        rest, _ = self.process.communicate(timeout=PATIENCE)
        self._reserve()
        return self.process.returncode, self.printed + rest

    def _reserve(self) -> None:
        """Let nobody else have its port while it is gone."""
        if self._reserved is None:
            self._reserved = socket.socket()
            self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._reserved.bind(("127.0.0.1", self.port))  # the server, which sets this option too, may still listen


class Client:
    """A browser without a page: one connection and a cookie."""

    def __init__(self, server: StudyServer, token: str | None = None) -> None:
        self.server, self.cookie = server, ""
        self._connection: http.client.HTTPConnection | None = None
        if token is not None:
            self.enter(token)

    def enter(self, token: str) -> dict[str, str]:
        """Headers of the reply."""
        status, headers, body = self.request("POST", "/api/enter", {"token": token})
        assert status == 204, body
        self.cookie = headers["set-cookie"].partition(";")[0]
        return headers

    def request(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **({"Cookie": self.cookie} if self.cookie else {}), **headers}
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)
        try:
            self._connection.request(method, path, content, sent)
            response = self._connection.getresponse()
            return response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._connection = None
            raise

    def post(self, path: str, body: object = None, expected: int = 200) -> Any:
        status, _, content = self.request("POST", path, {} if body is None else body)
        assert status == expected, (status, content)
        return json.loads(content)

    def post_until_answered(self, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON, however often the server is gone in between."""
        replies: list[tuple[int, Any]] = []

        def is_answered() -> bool:
            try:
                status, _, content = self.request("POST", path, {} if body is None else body)
            except (OSError, http.client.HTTPException):
                return False
            if status < 500:
                replies.append((status, json.loads(content)))
            return status < 500

        wait_for(is_answered, lambda: f"no answer to {path}", pause=0.05)
        return replies[0]


def answer_until_done(client: Client, choose: Callable[[dict[str, Any]], str]) -> tuple[list[tuple[int, str]], int]:
    """All answers of a rater that were confirmed, and how many were refused because the pair was another's by then."""
    confirmed, refused = [], 0
    deadline = time.monotonic() + PATIENCE
    while True:
        status, reply = client.post_until_answered("/api/next")
        assert status == 200, reply
        pair = reply["pair"]
        if pair is None:
            if not reply["available"] + reply["waiting"]:
                return confirmed, refused
            assert time.monotonic() < deadline, reply
            time.sleep(0.05)
            continue
        deadline = time.monotonic() + PATIENCE
        side = choose(pair)
        body = {"pair": pair["id"], "sides": {each["name"]: side for each in reply["questions"]}, "seconds": 1.5}
        status, reply = client.post_until_answered("/api/answer", body)
        assert status in (200, 409), reply
        if status == 200:
            confirmed.append((pair["id"], side))
        else:
            refused += 1

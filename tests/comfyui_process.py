"""ComfyUI, from a checkout that the environment names: imported for its own classes, or started as a server."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

PACK = Path(__file__).parent.parent / "comfyui"
CHECKOUT = os.environ.get("LATENTSHIFT_COMFYUI")
WHY_NOT = "LATENTSHIFT_COMFYUI does not name a checkout of ComfyUI: docs/contributing.md, ComfyUI"


def import_pack() -> ModuleType:
    """The node pack, imported as ComfyUI does, beside ComfyUI's own modules, on the CPU."""
    assert CHECKOUT is not None
    if CHECKOUT not in sys.path:
        sys.path.insert(1, CHECKOUT)
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    if "latentshift_nodes" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "latentshift_nodes", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
        )
        assert spec is not None and spec.loader is not None
        module = sys.modules["latentshift_nodes"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["latentshift_nodes"]


class Server:
    """A running ComfyUI, spoken to over loopback."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.folder = folder

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.address}{path}", timeout=60) as answer:
            return json.load(answer)

    def post(self, workflow: dict[str, Any]) -> dict[str, Any]:
        """Queue a workflow in API format; the answer, also if it is a refusal."""
        body = json.dumps({"prompt": workflow}).encode()
        request = urllib.request.Request(f"{self.address}/prompt", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def run(self, workflow: dict[str, Any], timeout: float = 300) -> dict[str, Any]:
        """The history of a workflow that has run to its end, well or badly."""
        queued = self.post(workflow)
        assert "prompt_id" in queued, queued
        return self.history(queued, timeout)

    def history(self, queued: dict[str, Any], timeout: float = 300) -> dict[str, Any]:
        """Of a workflow that :meth:`post` has queued, when it has run to its end."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            history = self.get(f"/history/{queued['prompt_id']}")
            if history:
                return history[queued["prompt_id"]]
            time.sleep(0.2)
        raise TimeoutError("the workflow did not end")


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A ComfyUI with the node pack and no other, in a folder of its own."""
    assert CHECKOUT is not None
    (folder / "custom_nodes").mkdir(parents=True)
    (folder / "custom_nodes" / "latentshift").symlink_to(PACK)
    (folder / "page").mkdir()
    (folder / "page" / "index.html").write_text("<!doctype html>")  # its own is another package
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--base-directory", str(folder), "--front-end-root", str(folder / "page"), "--disable-api-nodes"]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=log)
    server = Server(f"http://127.0.0.1:{port}", folder)
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "log.txt").read_text()
            try:
                server.get("/system_stats")
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)

"""``latentshift push``: the card, and what is sent, to a stand-in of the hub's API."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml
from PIL import Image

from latentshift.evaluation.report.schema import Report

RECIPE = "stage: video\nmodel: someone/sd15\ndata: /home/me/films/boats\nsteps: 100\n"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """Files of the commits that a hub on this machine was sent."""
    files: dict[str, bytes] = {}

    class Hub(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["content-length"])).decode()
            path = self.path.partition("?")[0]
            answer: dict[str, Any] = {"errors": [], "warnings": []}
            if self.headers.get("authorization") != "Bearer hf_good":
                return self.answer(401, {"error": "who are you"})
            if path == "/api/repos/create":
                answer = {"url": "https://huggingface.co/me/boats", "name": json.loads(text)["name"]}
            elif path.endswith("/preupload/main"):
                asked = json.loads(text)["files"]
                answer = {"files": [{"path": e["path"], "uploadMode": "regular", "shouldIgnore": False} for e in asked]}
            elif path.endswith("/commit/main"):
                for line in map(json.loads, text.splitlines()):
                    if line["key"] == "file":
                        files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                answer = {
                    "commitUrl": "https://huggingface.co/me/boats/commit/" + "1" * 40,
                    "commitOid": "1" * 40,
                    "success": True,
                }
            self.answer(200, answer)

        def do_GET(self) -> None:
            self.answer(200, {"id": "me/boats", "sha": "0" * 40, "siblings": []})

        def answer(self, code: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    yield files
    server.shutdown()
    server.server_close()


@pytest.fixture
def run_folder(model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model").symlink_to(model)
    (folder / "recipe.yaml").write_text(RECIPE)
    Image.new("RGB", (4, 4)).save(tmp_path / "boat.webp")
    return folder


def test_a_model_is_sent_with_its_card(cli: Any, hub: dict[str, bytes], run_folder: Path, model: Path) -> None:
    words = ("push", run_folder, "me/boats", "--license", "apache-2.0", "--picture", run_folder.parent / "boat.webp")
    code, out, errors = cli(*words)
    assert code == 0, errors
    assert "commit" in out or "me/boats" in out
    own = {str(file.relative_to(model)) for file in model.rglob("*") if file.is_file()}
    assert set(hub) == own | {"README.md", "pictures/boat.webp"}
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert hub[weights] == (model / weights).read_bytes()
    _, metadata, card = hub["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(metadata) == {
        "license": "apache-2.0",
        "library_name": "diffusers",
        "pipeline_tag": "text-to-video",
        "tags": ["latent-shift", "text-to-video", "video"],
        "base_model": "someone/sd15",
    }
    for part in ('from_pretrained("me/boats")', "(pictures/boat.webp)", "steps: 100", "data: boats", "| frames | 4 |"):
        assert part in card
    assert "/home/me" not in card


def test_a_dry_run_sends_nothing_and_figures_stand_in_the_card(
    cli: Any, run_folder: Path, model: Path, tmp_path: Path
) -> None:
    metric = {"name": "FVD", "value": 123.4, "interval": [100.0, 150.0], "n": 32, "samples": 32}
    report = Report.model_validate(
        {
            "protocol": "folder",
            "command": "latentshift evaluate folder clips",
            "date": "2026-11-27T10:00:00",
            "latentshift": "0.1.0",
            "system": {"name": "boats", "kind": "video"},
            "settings": {},
            "metrics": [metric],
        }
    )
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "report.json").write_text(report.model_dump_json())
    code, out, errors = cli("push", model, "me/boats", "--report", "result", "--dry-run", "seen")
    assert code == 0 and "nothing is sent" in out, errors
    card = (tmp_path / "seen" / "README.md").read_text()
    assert "| FVD | 123.4 | 100.0 … 150.0 | 32 |" in card and "## Recipe" not in card
    assert (tmp_path / "seen" / "model_index.json").is_file() and not list(tmp_path.glob("seen/**/*.safetensors"))


def test_what_can_not_be_pushed(
    cli: Any, hub: dict[str, bytes], model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "clip.mp4").touch()
    for words, message in (
        ((model, "boats"), "is named OWNER/NAME, not 'boats'"),
        (("someone/boats", "me/boats"), "is no folder on this machine"),
        ((model, "me/boats", "--picture", "nothing.png"), "there is no file nothing.png"),
        ((model, "me/boats", "--report", "nothing"), "there is no folder nothing"),
        ((model, "me/boats", "--dry-run", "there"), "there exists already"),
        ((model, "me/boats", "--picture", "there/clip.mp4"), "--picture must be one of .gif, .jpg"),
    ):
        code, _, errors = cli("push", *words)
        assert code == 1 and message in errors, errors
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    code, _, errors = cli("push", model, "me/boats")
    assert code == 1 and "me/boats could not be pushed" in errors and "Traceback" not in errors
    assert not hub

"""``latentshift push``: the card, and what is sent, to a stand-in of the hub's API."""

from __future__ import annotations

import base64
import json
import shutil
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
from latentshift.hub import push_model
from latentshift.local_paths import cut_local_paths

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
                entries = [
                    {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for each in json.loads(text)["files"]
                ]
                answer = {"files": entries}
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
    assert out.strip() == "https://huggingface.co/me/boats/commit/" + "1" * 40
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
    assert "_name_or_path" in (model / "unet" / "config.json").read_text()
    for name in own:
        if name.endswith("config.json"):
            saved = json.loads((model / name).read_text())
            saved.pop("_name_or_path", None)
            assert json.loads(hub[name]) == saved
    assert not [name for name in hub if str(model.parent.parent).encode() in hub[name]]
    sent = dict(hub)
    hub.clear()
    made = push_model(run_folder, "me/boats", license="apache-2.0", pictures=[run_folder.parent / "boat.webp"])
    assert "commit" in made and hub == sent


@pytest.mark.parametrize(
    ("path", "cut"),
    [
        ("/home/Jane Doe/clips", "clips"),
        ("/home/jane/clips/", "clips"),
        ("file:///home/jane/clips", "clips"),
        (r"C:\Users\jane\clips", "clips"),
        ("~/films/boats", "boats"),
        ("../jane/clips", "clips"),
        ("--out=/home/jane/a.safetensors:0.5 more", "--out=a.safetensors:0.5 more"),
        ("runs/image", "runs/image"),
        ("someone/sd15", "someone/sd15"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("https://jane:pass@word@example.org:8/a", "https://example.org:8/a"),
        ("webdataset:s3://key@bucket/a.tar?X-Signature=00ff", "webdataset:s3://bucket/a.tar"),
        ("boats of https://a.org/b?sig=1#c and ftp://jane@b.org", "boats of https://a.org/b and ftp://b.org"),
        ("https://jane:p#w@example.org", "https://"),
        ("https://jane:p?w@example.org/a", "https://"),
        ("https://jane:p/w@example.org/a", "https://"),
        ("https://jane:12/w@example.org/a", "https://"),
        ("https://jane:p'w@example.org/a", "https://"),
        ("https://jane:p@w#x@example.org", "https://"),
        ("https://example.org/@jane/boat@2?sig=1", "https://example.org/@jane/boat@2"),
        (
            "https://[::1]:80/a?b, 'https://a.org?b' and https://b.org: boats",
            "https://[::1]:80/a 'https://a.org' and https://b.org: boats",
        ),
        ("a red car and/or a boat / ship", "a red car and/or a boat / ship"),
    ],
)
def test_paths_are_cut_to_their_last_name_and_urls_to_their_address(path: str, cut: str) -> None:
    assert cut_local_paths({"data": [path], "steps": 3}) == {"data": [cut], "steps": 3}


def test_data_settings_that_others_must_not_see_are_not_sent(cli: Any, run_folder: Path, model: Path) -> None:
    (run_folder / "model").unlink()  # a link to what other tests push, too
    shutil.copytree(model, run_folder / "model")
    (run_folder / "model" / "data_settings.json").write_text('{"data":[{"source":"https://me:pass@a.org/b"}]}\n')
    code, _, errors = cli("push", run_folder, "me/boats", "--dry-run", "seen")
    assert code == 1 and "data_settings.json is sent, and holds" in errors and "pass@" not in errors
    assert not (run_folder.parent / "seen").exists()


def test_a_base_that_is_a_folder_is_not_named_as_a_repository(cli: Any, run_folder: Path) -> None:
    (run_folder.parent / "runs" / "image").mkdir(parents=True)
    (run_folder / "recipe.yaml").write_text("model: runs/image\n")
    code, _, errors = cli("push", run_folder, "me/boats", "--dry-run", "seen")
    assert code == 0, errors
    card = (run_folder.parent / "seen" / "README.md").read_text()
    assert "model: runs/image" in card and "base_model" not in card


def test_a_folder_with_a_card_and_other_files(cli: Any, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(model, folder)
    (folder / "README.md").write_text("# Mine")
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = ["pipeline", index["_class_name"]]  # as export --to diffusers writes it
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "pipeline.py").touch()
    Image.new("RGB", (4, 4)).save(folder / "boat.png")
    for name in ("train.log", "optimizer.safetensors", "unet/optimizer.pt"):
        (folder / name).touch()
    code, out, errors = cli("push", folder, "me/boats", "--dry-run", "seen")
    assert code == 0, errors
    names = {str(file.relative_to(model)) for file in model.rglob("*") if file.is_file()}
    names |= {"README.md", "boat.png", "pipeline.py"}
    assert names == {line for line in out.splitlines() if (folder / line).is_file()}
    written = {str(file.relative_to(tmp_path / "seen")) for file in tmp_path.glob("seen/**/*") if file.is_file()}
    assert written == {name for name in names if not name.endswith(".safetensors")}
    assert (tmp_path / "seen" / "README.md").read_text() == "# Mine"
    code, _, errors = cli("push", folder, "me/boats", "--license", "mit", "--report", "result", "--dry-run", "second")
    assert code == 1 and "a license and a report would not stand in it" in errors
    (folder / "README.md").write_bytes(b"caf\xe9")
    code, _, errors = cli("push", folder, "me/boats", "--dry-run", "second")
    assert code == 1 and "it is not UTF-8 text" in errors and "README.md" in errors


@pytest.mark.parametrize(("text", "message"), [("- 1\n", "must hold settings"), ("a: [\n", "is not YAML")])
def test_a_recipe_that_is_none(cli: Any, run_folder: Path, text: str, message: str) -> None:
    (run_folder / "recipe.yaml").write_text(text)
    code, _, errors = cli("push", run_folder, "me/boats", "--dry-run", "seen")
    assert code == 1 and message in errors and "recipe.yaml" in errors and "Traceback" not in errors


def test_a_dry_run_sends_nothing_and_figures_stand_in_the_card(
    cli: Any, run_folder: Path, model: Path, tmp_path: Path
) -> None:
    metric = {"name": "FVD", "value": 123.4, "interval": [100.0, 150.0], "n": 32, "samples": 32, "repeats": 4}
    metric["warnings"] = ["32 samples are too few."]
    report = Report.model_validate(
        {
            "protocol": "folder",
            "command": "latentshift evaluate folder '/home/Jane Doe/clips' --model=/home/jane/boats --n 8",
            "date": "2026-11-27T10:00:00",
            "latentshift": "0.1.0",
            "system": {"name": "boats", "kind": "video"},
            "settings": {},
            "metrics": [metric],
            "notes": ["1 file in /home/jane/clips is passed over."],
            "rejected": [{"file": "/home/jane/clips/a.mp4", "reason": "it is damaged"}],
        }
    )
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "report.json").write_text(report.model_dump_json())
    code, out, errors = cli("push", model, "me/boats", "--report", "result", "--dry-run", "seen")
    assert code == 0 and "nothing is sent" in out, errors
    card = (tmp_path / "seen" / "README.md").read_text()
    assert "| FVD | 123.4 | 100.0 … 150.0 | 4 × 8 |" in card and "## Recipe" not in card
    assert "`latentshift evaluate folder clips --model=boats --n 8`" in card
    said = ["FVD: 32 samples are too few.", "1 file in clips is passed over.", "1 files or captions could not be used."]
    assert "To be read with these numbers:\n\n" + "\n".join(f"- {each}" for each in said) in card
    assert "jane" not in card
    assert "unet/diffusion_pytorch_model.safetensors" in out.splitlines()
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
        ((model, "me/boats", "--picture", "there/clip.mp4"), "a picture must be one of .gif, .jpg"),
    ):
        code, _, errors = cli("push", *words)
        assert code == 1 and message in errors, errors
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    code, _, errors = cli("push", model, "me/boats")
    assert code == 1 and "me/boats could not be pushed" in errors and "Traceback" not in errors
    assert not hub

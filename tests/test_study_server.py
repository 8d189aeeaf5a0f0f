"""A study over HTTP, with the real server: who may enter, what is served, what is stored, and what a kill loses."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentshift.study.database import create_database
from latentshift.study.design import write_design
from latentshift.study.make import make_study
from latentshift.study.settings import StudySettings
from latentshift.study.store import Store
from latentshift.video import write_video
from study_http import Client, StudyServer, answer_until_done
from waiting import wait_for

PROMPTS = [f"prompt {number}" for number in range(4)]


def make(folder: Path, **settings: Any) -> Path:
    """A study of two systems with attention checks, whose clips are 16 × 16."""
    for number, system in enumerate(("ours", "theirs")):
        for place, prompt in enumerate(PROMPTS):
            frames = np.random.default_rng(10 * number + place).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
            write_video(folder / system / f"{place}.mp4", frames, metadata={"prompt": prompt})
    systems = {"ours": folder / "ours", "theirs": folder / "theirs"}
    make_study(systems, PROMPTS, folder / "study", StudySettings(**settings), broken=1, identical=1)
    return folder / "study"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("server"), raters_each=100, check_every=2)


@pytest.fixture(scope="module")
def server(study: Path) -> Iterator[StudyServer]:
    with StudyServer(study) as running:
        yield running


def test_a_rater_enters_by_the_link_and_resumes_by_the_cookie(server: StudyServer) -> None:
    client = Client(server)
    assert "open the link" in client.post("/api/next", expected=401)["error"]
    for wrong in (server.token[:-1], server.token + "x", "", "\ud800"):
        status, headers, _ = client.request("POST", "/api/enter", {"token": wrong})
        assert status in (400, 401) and "set-cookie" not in headers
    headers = client.enter(server.token)
    assert "httponly" in headers["set-cookie"].lower() and "samesite=strict" in headers["set-cookie"].lower()
    first = client.post("/api/next")
    assert client.post("/api/next")["pair"] == first["pair"], "a reload gives the same pair"
    client.enter(server.token)  # the link once more
    assert client.post("/api/next")["rater"] == first["rater"]
    assert Client(server, server.token).post("/api/next")["rater"] != first["rater"]


def test_a_link_of_ones_own_is_the_same_rater_everywhere(server: StudyServer, study: Path) -> None:
    with Store(study) as store:
        (token,) = store.add_raters(1)
    here, there = Client(server, token), Client(server, server.token)
    there.enter(token)
    assert here.post("/api/next")["rater"] == there.post("/api/next")["rater"]


def test_an_answer_is_confirmed_as_often_as_it_comes_and_stored_once(server: StudyServer, study: Path) -> None:
    client = Client(server, server.token)
    reply = client.post("/api/next")
    body = {"pair": reply["pair"]["id"], "sides": {"quality": "left", "faithfulness": "right"}, "seconds": 2.5}
    for _ in range(2):
        assert client.post("/api/answer", body) == {"stored": True}
    other = client.post("/api/answer", {**body, "sides": {"quality": "right", "faithfulness": "right"}}, expected=409)
    assert "the first answer stays" in other["error"]
    stranger = Client(server, server.token)
    assert "not yours" in stranger.post("/api/answer", body, expected=409)["error"]
    with Store(study) as store:
        stored = [each for each in store.answers() if each.rater == reply["rater"]]
    assert [(each.question, each.seconds) for each in stored] == [("faithfulness", 2.5), ("quality", 2.5)]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"sides": {"quality": "left"}}, "an answer is for"),
        ({"sides": {"quality": "up", "faithfulness": "left"}}, "'left', 'right' or 'neither'"),
        ({"sides": {"quality": "neither", "faithfulness": "left"}}, "one of left, right"),
        ({"pair": "1"}, "pair: must be a whole number"),
        ({"pair": 2**63}, "pair: must be less than"),
        ({"seconds": -1}, "seconds: must be 0.0 or more"),
        ({"seconds": float("nan")}, "seconds: must be a finite number"),
        ({"replays": 1.5}, "replays: must be a whole number"),
        ({"name": "Ada"}, "name: unknown setting"),
    ],
)
def test_an_answer_that_fits_nothing_is_refused(server: StudyServer, change: dict[str, Any], why: str) -> None:
    client = Client(server, server.token)
    pair = client.post("/api/next")["pair"]["id"]
    body = {"pair": pair, "sides": {"quality": "left", "faithfulness": "left"}, **change}
    assert why in client.post("/api/answer", body, expected=400)["error"]


def test_a_request_is_small_json_of_the_page(server: StudyServer) -> None:
    client = Client(server, server.token)
    for content, status in ((b"", 400), (b"[" * 5000, 400), (b"\xff", 400), (b'{"token": ' + b" " * 20_000, 413)):
        assert client.request("POST", "/api/enter", content)[0] == status
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.request("POST", "/api/answer", b"{}", **form)[0] == 415
    for path in ("/api/enter", "/api/next", "/api/answer"):
        assert client.request("GET", path)[0] == 405, "a look at an address changes nothing"


def test_browsers_get_the_parts_of_a_clip_that_they_ask_for(server: StudyServer, study: Path) -> None:
    client = Client(server, server.token)
    pair = client.post("/api/next")["pair"]
    for side in ("left", "right"):
        url = "/" + pair[side]["url"]
        status, headers, whole = client.request("GET", url)
        assert (status, headers["content-type"], headers["accept-ranges"]) == (200, "video/mp4", "bytes")
        assert whole in [path.read_bytes() for path in (study / "clips").iterdir()]
        for asked, part in (("0-9", whole[:10]), ("10-", whole[10:]), ("-7", whole[-7:])):
            status, headers, content = client.request("GET", url, Range=f"bytes={asked}")
            assert (status, content) == (206, part)
            start = whole.index(part) if asked != "-7" else len(whole) - 7
            assert headers["content-range"] == f"bytes {start}-{start + len(part) - 1}/{len(whole)}"
        assert client.request("GET", url, Range=f"bytes={len(whole)}-")[0] == 416
        assert client.request("HEAD", url)[0] == 200


def test_only_clips_of_ones_own_pairs_are_served(server: StudyServer, study: Path) -> None:
    client, stranger = Client(server, server.token), Client(server, server.token)
    mine = client.post("/api/next")["pair"]["left"]["url"]
    assert stranger.request("GET", "/" + mine)[0] == 404
    assert Client(server).request("GET", "/" + mine)[0] == 401
    assert not any(path.name in mine for path in (study / "clips").iterdir())
    for path in (
        "/study.db",
        "/invitation.txt",
        "/clips/00001.mp4",
        "/clips/1/..%2f..%2fstudy.db",
        "/clips/../study.db",
        "/clips/1/middle",
        f"/clips/{2**64}/left",
        "/clips/-1/left",
        "/page/index.html",
        "/..%2fstore.py",
    ):
        assert client.request("GET", path)[0] == 404, path


def test_an_identical_pair_does_not_show_in_its_addresses(server: StudyServer) -> None:
    client = Client(server, server.token)
    contents = []
    while (pair := client.post("/api/next")["pair"]) is not None:
        urls = [pair[side]["url"] for side in ("left", "right")]
        assert len(set(urls)) == 2
        contents.append([client.request("GET", f"/{url}")[2] for url in urls])
        client.post("/api/answer", {"pair": pair["id"], "sides": {"quality": "left", "faithfulness": "left"}})
    assert len(contents) == 6 and sum(left == right for left, right in contents) == 1


def test_every_reply_has_the_security_headers_and_the_page_loads_nothing_of_others(server: StudyServer) -> None:
    client = Client(server, server.token)
    clip = "/" + client.post("/api/next")["pair"]["left"]["url"]
    for path in (
        "/",
        "/study.css",
        "/study.js",
        "/player.js",
        "/server.js",
        "/icon.svg",
        clip,
        "/nothing",
        "/api/next",
    ):
        _, headers, content = client.request("GET", path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
        if path != clip:
            assert headers["cache-control"] == "no-store"
            text = content.decode().replace("http://www.w3.org/2000/svg", "")
            assert "//" not in text.replace("// ", "").replace("https?://", ""), "an address of elsewhere"
        if path == "/":
            assert "<style" not in text and "style=" not in text and "onclick" not in text


def test_nothing_of_a_rater_is_kept_but_a_random_id(tmp_path: Path) -> None:
    study = make(tmp_path, raters_each=1)
    with StudyServer(study) as server:
        client = Client(server, server.token)
        pair = client.post("/api/next")["pair"]["id"]
        body = {"pair": pair, "sides": {"quality": "left", "faithfulness": "left"}}
        agent = {"User-Agent": "Browser of a certain person", "X-Forwarded-For": "203.0.113.7"}
        assert client.request("POST", "/api/answer", body, **agent)[0] == 200
        content = b"".join(path.read_bytes() for path in study.iterdir() if path.is_file())
        assert server.stop(signal.SIGINT)[0] == 0
        server.start()
        code, printed = server.stop(signal.SIGTERM)
    assert code == 0 and "stopped: 1 of 4 answers are there" in printed
    for trace in ("certain person", "203.0.113.7", "127.0.0.1", client.cookie.partition("=")[2]):
        assert trace.encode() not in content
    assert "certain person" not in printed and "203.0.113.7" not in printed


def test_a_port_in_use_is_one_sentence(server: StudyServer, study: Path, cli: Any) -> None:
    code, _, complaint = cli("study", "serve", study, "--port", server.port)
    assert (code, complaint) == (1, f"error: port {server.port} of 127.0.0.1 is in use: choose another with --port\n")


def kill_server(folder: Path, *, prompts: int, raters: int, kills: int, lease_seconds: float) -> None:
    """Raters answer at once while the server is killed again and again; then check every answer."""
    database = create_database(folder)
    names = [f"prompt {number}" for number in range(prompts)]
    suffixes = {system: dict.fromkeys(names, ".mp4") for system in "AB"}
    write_design(database, StudySettings(lease_seconds=lease_seconds), names, suffixes)
    database.close()

    def rate(client: Client) -> list[tuple[int, str]]:
        return answer_until_done(client, lambda pair: "left" if pair["id"] % 3 else "right")[0]

    with StudyServer(folder) as server, ThreadPoolExecutor(raters) as pool:
        gone = Client(server, server.token)  # takes a pair and never comes back
        assert gone.post("/api/next")["pair"] is not None
        clients = [Client(server, server.token) for _ in range(raters)]  # all enter before the first kill
        at_work = [pool.submit(rate, client) for client in clients]
        with Store(folder) as store:
            for kill in range(1, kills + 1):
                enough = 5 * prompts * kill // (kills + 1)
                wait_for(lambda enough=enough: store.progress()[0] >= enough, store.progress, pause=0.005)
                server.kill()
                server.start()
        confirmed = [each.result() for each in at_work]
    with Store(folder) as store:
        answers = store.answers()
    assert set(Counter((each.comparison, each.question) for each in answers).values()) == {5}
    assert len(answers) == 2 * 5 * prompts
    assert max(Counter((each.comparison, each.rater, each.question) for each in answers).values()) == 1
    # As many as were confirmed, each once: none is lost, and none is there that nobody was told of.
    told = [answer for each in confirmed for answer in each]
    assert len(told) == len(set(told)) == 5 * prompts
    stored = Counter((each.choice == "first") != each.swapped for each in answers)
    assert stored[True] == 2 * sum(side == "left" for _, side in told)


def test_a_killed_server_loses_no_confirmed_answer(tmp_path: Path) -> None:
    kill_server(tmp_path, prompts=40, raters=8, kills=3, lease_seconds=4)


@pytest.mark.slow
def test_ten_thousand_answers_by_fifty_raters_over_http(tmp_path: Path) -> None:
    kill_server(tmp_path, prompts=2000, raters=50, kills=20, lease_seconds=60)

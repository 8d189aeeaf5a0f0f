"""A whole study in a real browser: by mouse, by keyboard, by touch at a phone's width, and with the server gone."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentshift.data.sprites import Sprites
from latentshift.study.make import make_study
from latentshift.study.records import Answer
from latentshift.study.settings import StudySettings
from latentshift.study.store import Store
from latentshift.video import write_video
from study_http import StudyServer
from waiting import PATIENCE

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
]
PHONE = {"viewport": {"width": 375, "height": 667}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}


def make(folder: Path, *, suffix: str = ".mp4", prompts: int = 3, **settings: Any) -> Path:
    """A study of sprites and of the same with noise, whose clips take half a second."""
    rng = np.random.default_rng(0)
    captions = []
    for number in range(prompts):
        frames, sprite = Sprites(size=64)[number]
        captions.append(sprite.caption())
        noisy = np.clip(frames + rng.normal(0, 25, frames.shape), 0, 255).astype(np.uint8)
        for system, clip in (("ours", frames), ("theirs", noisy)):
            path = folder / system / f"{number}{suffix}"
            write_video(path, clip[::2], fps=16, metadata={"prompt": captions[-1]}, loop=True)
    systems = {"ours": folder / "ours", "theirs": folder / "theirs"}
    chosen = StudySettings(**{"raters_each": 1, "check_every": 3, **settings})
    make_study(systems, captions, folder / "study", chosen, broken=1, identical=0)
    return folder / "study"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@contextmanager
def opened(browser: Any, server: StudyServer, *, allowed: tuple[str, ...] = (), **settings: Any) -> Iterator[Any]:
    """A page at the study's link; at the end it must have asked nobody else, and complained of nothing."""
    context = browser.new_context(**settings)
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    faults: list[str] = []
    own = f"http://127.0.0.1:{server.port}/"
    page.on("request", lambda sent: None if sent.url.startswith((own, f"blob:{own}")) else faults.append(sent.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.goto(server.link)
    yield page
    assert not [each for each in faults if not any(part in each for part in allowed)]
    context.close()


def answer_all(page: Any, answer: Callable[[], None]) -> int:
    """Answer pair after pair until the page says that all is done; how many."""
    for count in range(100):
        page.wait_for_selector("fieldset:enabled, #message:visible")
        if page.is_visible("#message"):
            assert "All done" in page.inner_text("#message-title")
            return count
        before = page.inner_text("#count")
        answer()
        page.wait_for_function("t => document.getElementById('count').textContent !== t || "
                               "!document.getElementById('message').hidden", arg=before)  # fmt: skip
    raise AssertionError("the study does not end")


def stored(study: Path) -> list[Answer]:
    with Store(study) as store:
        return store.answers()


def side(answer: Answer) -> str:
    if answer.choice == "neither":
        return "neither"
    return "left" if (answer.choice == "second") == answer.swapped else "right"


def test_a_study_by_mouse(browser: Any, tmp_path: Path) -> None:
    study = make(tmp_path)
    with StudyServer(study) as server, opened(browser, server, viewport={"width": 1200, "height": 800}) as page:
        page.click("#start")
        assert server.token not in page.url, "the link's secret does not stay in the address bar"
        assert page.is_disabled("input >> nth=0"), "no answer before both were seen"

        def answer() -> None:
            first, second = page.query_selector_all("fieldset")
            first.query_selector(".choice:has-text('Right')").click()
            assert page.is_disabled("#send")
            first.query_selector(".choice:has-text('Left')").click()
            second.query_selector(".choice:has-text('Right')").click()
            page.click("#replay")
            page.click("#send")

        assert answer_all(page, answer) == 4  # three pairs and a check
        code = page.inner_text("#code")
        page.reload()
        page.wait_for_selector("#message:visible")
        assert page.inner_text("#code") == code
    answers = stored(study)
    assert {each.rater for each in answers} == {code} and len(answers) == 8
    assert {(each.question, side(each)) for each in answers} == {("quality", "left"), ("faithfulness", "right")}
    assert {each.replays for each in answers} == {1}
    assert all(each.seconds is not None and 0.4 < each.seconds < 30 for each in answers)


def test_a_study_by_keyboard_that_is_reloaded_in_between(browser: Any, tmp_path: Path) -> None:
    study = make(tmp_path, cant_tell=True)
    with StudyServer(study) as server, opened(browser, server, color_scheme="dark") as page:
        page.wait_for_selector("#intro:visible")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # Start
        page.keyboard.press("ArrowLeft")  # too early, and no answer
        page.wait_for_selector("fieldset:enabled")
        page.keyboard.press("ArrowRight")
        prompt = page.inner_text("#prompt")
        page.reload()
        page.wait_for_selector("fieldset:enabled")
        assert page.inner_text("#prompt") == prompt
        chosen = page.eval_on_selector_all("input:checked", "all => all.map(each => [each.name, each.value])")
        assert chosen == [["question-0", "right"]]

        def answer() -> None:
            page.keyboard.press("ArrowUp")
            page.keyboard.press("1")
            page.keyboard.press("ArrowDown")
            page.keyboard.press("ArrowUp")
            page.keyboard.press("2")  # the first question once more
            page.keyboard.press(" ")
            page.keyboard.press("Enter")

        assert answer_all(page, answer) == 4
    answers = stored(study)
    assert {(each.question, side(each)) for each in answers} == {("quality", "right"), ("faithfulness", "neither")}
    assert {each.replays for each in answers} == {1}


def test_a_study_by_touch_at_a_phones_width(browser: Any, tmp_path: Path) -> None:
    study = make(tmp_path, cant_tell=True)
    with StudyServer(study) as server, opened(browser, server, **PHONE) as page:
        page.tap("#start")

        def answer() -> None:
            wide, inside = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide <= inside
            left, right = (page.locator(f"#{name}").bounding_box() for name in ("left", "right"))
            assert left["width"] == pytest.approx(right["width"], abs=0.1) and left["width"] > 165
            assert left["y"] == right["y"] and left["x"] < right["x"]
            for button in page.locator(".choice span:visible, button:visible").all():
                assert button.bounding_box()["height"] >= 43, "too small for a finger"
            for set_ in page.locator("fieldset").all():
                set_.locator(".choice", has_text="Can’t tell").tap()
            page.tap("#send")

        assert answer_all(page, answer) == 4
    assert {side(each) for each in stored(study)} == {"neither"}


def test_an_answer_given_while_the_server_is_gone_is_kept(browser: Any, tmp_path: Path) -> None:
    study = make(tmp_path)
    gone = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "Failed to load resource")
    with StudyServer(study) as server, opened(browser, server, allowed=gone) as page:
        page.click("#start")
        page.wait_for_selector("fieldset:enabled")
        server.kill()
        page.keyboard.press("1")
        page.keyboard.press("2")
        page.keyboard.press("Enter")
        page.wait_for_selector("#trouble:visible")
        assert "Your answer is kept. Trying again" in page.inner_text("#trouble")
        assert stored(study) == []
        server.start()
        page.click("#retry")
        page.wait_for_function("() => document.getElementById('count').textContent === 'Pair 2'")
        assert page.is_hidden("#trouble")
        assert sorted(side(each) for each in stored(study)) == ["left", "right"]
        # And once more with the page reloaded before it could be told.
        page.wait_for_selector("fieldset:enabled")
        server.kill()
        page.keyboard.press("2")
        page.keyboard.press("2")
        page.keyboard.press("Enter")
        page.wait_for_selector("#trouble:visible")
        server.start()
        page.reload()
        page.wait_for_function("() => document.getElementById('count').textContent === 'Pair 3'")
    assert sorted(side(each) for each in stored(study)) == ["left", "right", "right", "right"]


def test_both_videos_loop_in_step(browser: Any, tmp_path: Path) -> None:
    study = make(tmp_path, prompts=1)
    with StudyServer(study) as server, opened(browser, server) as page:
        page.click("#start")
        page.wait_for_selector("fieldset:enabled")
        samples = page.evaluate(
            """async () => {
                const videos = [...document.querySelectorAll("video")], samples = [];
                for (let n = 0; n < 60; n++) {
                    await new Promise((resolve) => setTimeout(resolve, 40));
                    if (videos.every((video) => !video.paused && !video.ended && !video.seeking))
                        samples.push(videos.map((video) => video.currentTime));
                }
                return samples;
            }"""
        )
        apart = [abs(left - right) for left, right in samples]
        assert len(samples) > 20 and sorted(apart)[len(apart) // 2] < 0.05 and max(apart) < 0.2
        falls = sum(later < earlier for (earlier, _), (later, _) in itertools.pairwise(samples))
        assert falls >= 2, "they start again"
        page.keyboard.press("p")
        page.wait_for_function("() => [...document.querySelectorAll('video')].every((video) => video.paused)")
        assert page.inner_text("#pause").startswith("Play")
        page.keyboard.press("p")
        page.wait_for_function("() => [...document.querySelectorAll('video')].every((video) => !video.paused)")


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animated_images_are_shown_as_well(browser: Any, tmp_path: Path, suffix: str) -> None:
    study = make(tmp_path, suffix=suffix, prompts=1, check_every=2)
    with StudyServer(study) as server, opened(browser, server) as page:
        page.click("#start")

        def answer() -> None:
            assert page.is_hidden("#pause")
            widths = page.eval_on_selector_all(".frame img", "all => all.map((each) => each.naturalWidth)")
            assert widths == [64, 64]
            page.keyboard.press(" ")
            page.keyboard.press("1")
            page.keyboard.press("1")
            page.keyboard.press("Enter")

        assert answer_all(page, answer) >= 1
    assert {each.replays for each in stored(study)} == {1}


def test_a_wrong_link_and_a_full_study_are_told(browser: Any, tmp_path: Path) -> None:
    study = make(tmp_path, prompts=1, check_every=10)
    refused = ("401",)
    with StudyServer(study) as server:
        with opened(browser, server) as page:
            page.click("#start")
            page.wait_for_selector("fieldset:enabled")
            with opened(browser, server) as other:
                other.wait_for_selector("#message:visible")
                assert "No pair is free" in other.inner_text("h1:visible")
                for key in ("1", "2", "Enter"):
                    page.keyboard.press(key)
                page.wait_for_selector("#message:visible")
                other.click("#message-button")
                other.wait_for_selector("text=Others have answered all pairs already")
        link, server.token = server.token, "something-else"
        with opened(browser, server, allowed=refused) as page:
            page.wait_for_selector("text=Please open the link that you were sent")
        server.token = link


def test_who_can_not_see_finds_the_parts_by_name(browser: Any, tmp_path: Path) -> None:
    study = make(tmp_path, prompts=1, cant_tell=True, check_every=10)
    with StudyServer(study) as server, opened(browser, server) as page:
        page.get_by_role("button", name="Start").click()
        page.wait_for_selector("fieldset:enabled")
        assert page.evaluate("document.activeElement.id") == "prompt", "the text is read first"
        for question in ("Which video has the better quality?", "Which video matches the text better?"):
            group = page.get_by_role("group", name=question)
            assert group.get_by_role("radio").count() == 3
            group.get_by_role("radio", name="Can’t tell").check()
        assert page.get_by_role("progressbar", name="Your progress").count() == 1
        assert page.locator("video").evaluate_all("all => all.map((each) => each.ariaLabel)") == [
            "Left video",
            "Right video",
        ]
        assert page.inner_text("[aria-live]") == "You can answer now."
        page.get_by_role("button", name="Next").press("Enter")
        page.get_by_role("heading", name="All done, thank you!").wait_for()
        assert page.evaluate("document.activeElement.id") == "message-title"

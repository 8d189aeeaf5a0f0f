"""A report in a real browser: everything in it plays, nothing is fetched, and it fits a phone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from latentshift.document.blocks import Clip, Clips, Document
from latentshift.evaluation.report.pages import write_comparison_pages, write_pages
from latentshift.video import write_video
from report_results import clip, metric, write_result
from waiting import PATIENCE, wait_for

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

MILLISECONDS = 1000 * PATIENCE
PLAYING = "[...document.querySelectorAll('video')].filter(each => !each.paused && each.readyState >= 2).length"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_page_plays_and_fits_a_phone(tmp_path: Path) -> None:
    folders = [
        write_result(tmp_path / name, name, (metric("FID", 20.0, warnings=(f"{name}: few",)), metric("CLIPSIM", 0.25)))
        for name in ("ours", "theirs")
    ]
    page_path = write_comparison_pages(folders, tmp_path / "report")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=MILLISECONDS)
        colours = {}
        said: list[str] = []
        requested: list[str] = []
        for scheme in ("light", "dark"):
            context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
            context.set_default_timeout(MILLISECONDS)
            page = context.new_page()
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: requested.append(request.url))
            page.goto(page_path.as_uri())
            wait_for(lambda page=page: page.evaluate(PLAYING) == 12)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            colours[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
            page.get_by_role("button", name="Pause all clips").click()
            wait_for(lambda page=page: page.evaluate(PLAYING) == 0)
            page.locator("a[href='#settings-2']").first.click()
            wait_for(lambda page=page: page.locator("#settings-2").evaluate("each => each.matches(':target')"))
            warning = page.locator("#warning-3")
            assert not warning.is_visible()
            page.locator("sup.marks a").nth(1).click()  # on the number of the second system
            wait_for(warning.is_visible)  # the page's script unfolds it after the click's own events
            assert warning.evaluate("each => each.matches(':target')")
            page.locator("#warnings summary").click()
            assert not warning.is_visible()
            page.locator(".warned a").click()
            wait_for(warning.is_visible)
            context.close()
        still = browser.new_context(reduced_motion="reduce").new_page()
        still.set_default_timeout(MILLISECONDS)
        still.goto(page_path.as_uri())
        still.get_by_role("button", name="Play all clips").wait_for()
        browser.close()
    assert said == []
    assert {url for url in requested if not url.startswith("data:")} == {page_path.as_uri()}
    assert colours["light"] != colours["dark"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_clips_that_are_folded_away_play_when_they_are_shown(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", clip(0))
    shown = Clip(tmp_path / "a.mp4", "a red star")
    document = Document("A", "B", (Clips((shown,)), Clips((shown, shown), folded="The best")))
    page_path = write_pages(document, tmp_path)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=MILLISECONDS)
        page = browser.new_page(viewport={"width": 390, "height": 200})
        page.set_default_timeout(MILLISECONDS)
        page.goto(page_path.as_uri())
        wait_for(lambda page=page: page.evaluate(PLAYING) == 1)
        folded = page.locator("video").nth(1)
        assert not folded.is_visible() and folded.evaluate("each => each.paused")
        height = page.evaluate("document.documentElement.scrollHeight")
        page.get_by_text("The best").click()
        wait_for(lambda page=page: page.evaluate(PLAYING) == 3)
        assert folded.is_visible() and page.evaluate("document.documentElement.scrollHeight") > height
        page.get_by_text("The best").click()
        wait_for(lambda page=page: page.evaluate(PLAYING) == 1)
        browser.close()

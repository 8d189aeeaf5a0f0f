"""The sprites study's scores, on clips whose readings are known."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from latentshift.evaluation.estimates import mean_of, wilson_interval
from latentshift.evaluation.report.pages import write_comparison_pages, write_result_pages
from latentshift.evaluation.report.schema import read_report, write_report
from latentshift.evaluation.sprite_examples import choose_examples, right_count
from latentshift.evaluation.sprite_reader import read_clip
from latentshift.evaluation.sprite_report import study_report
from latentshift.evaluation.sprite_stability import measure_stability
from latentshift.evaluation.sprites_study import PARTS, Part, prompts_of, read_part, score_log, score_part, true_clip
from latentshift.evaluation.study import reconstruct
from latentshift.pipeline import open_pipeline
from latentshift.prompt_slug import prompt_slug
from latentshift.video import write_video

SEEN, HELD_OUT, IMAGES, SHIFT_OFF, IMAGES_SHIFT_OFF = PARTS
COUNT = 12


@pytest.mark.parametrize("part", [SEEN, HELD_OUT, IMAGES], ids=lambda part: part.name)
def test_true_clips_are_those_of_the_prompts(part) -> None:
    for index, (sprite, _, _) in enumerate(prompts_of(part, 4, 64)):
        clip = true_clip(part, index, 64)
        reading = read_clip(clip)
        assert len(clip) == (1 if part.image else 16)
        assert (reading.colour, reading.thing, reading.background) == (sprite.colour, sprite.thing, sprite.background)
        assert reading.motion == (None if part.image else sprite.motion)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Readings of true clips, of which every third has alternating brightness and the last shows nothing."""
    log = tmp_path_factory.mktemp("study") / "seen.jsonl"

    def make(_: str, seed: int) -> np.ndarray:
        clip = true_clip(SEEN, seed, 64)
        if seed % 3 == 0:
            clip = np.where(np.arange(16)[:, None, None, None] % 2, clip, clip - np.minimum(clip, 4)).astype(np.uint8)
        return np.zeros_like(clip) if seed == COUNT - 1 else clip

    assert len(list(read_part(SEEN, COUNT, 64, make, log))) == COUNT
    return log


def test_stability_and_each_motion_are_scored(log: Path) -> None:
    scores = score_log(SEEN, COUNT, 64, log)
    drift = 2 * 3**0.5  # four levels of brightness, half of the frames, three channels
    assert scores["colour_drift"] == pytest.approx(asdict(mean_of([drift] * 4 + [0.0] * 7 + [None])), abs=1e-6)
    assert scores["frame_flicker"]["mean"] == pytest.approx(4 * drift * 4 / 11, abs=1e-6)
    asked = [sprite.motion for sprite, _, _ in prompts_of(SEEN, COUNT, 64)]
    assert {motion: each["n"] for motion, each in scores["motions"].items()} == {
        motion: asked.count(motion) for motion in set(asked)
    }
    assert sum(each["n"] * each["motion"] for each in scores["motions"].values()) == COUNT - 1
    assert scores["motions"][asked[-1]]["colour_drift"]["missing"] == 1


def test_readings_from_before_stability_was_measured_still_count(log: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines[:6]:
        del line["colour_drift"], line["frame_flicker"]
    old = tmp_path / "seen.jsonl"
    old.write_text("".join(json.dumps(line) + "\n" for line in lines))
    before, now = score_log(SEEN, COUNT, 64, log), score_log(SEEN, COUNT, 64, old)
    assert now["n"] == before["n"] == COUNT and now["joint"] == before["joint"]
    assert (now["colour_drift"]["n"], now["colour_drift"]["missing"]) == (5, 1)


def test_images_have_no_stability_and_no_motions(tmp_path: Path) -> None:
    log = tmp_path / "images.jsonl"
    list(read_part(IMAGES, 3, 64, lambda _, seed: true_clip(IMAGES, seed - IMAGES.first_seed, 64), log))
    scores = score_part(IMAGES, 3, 64, log)
    assert scores["joint"] == 1.0 and scores["motion"] is None
    assert not {"colour_drift", "frame_flicker", "motions"} & scores.keys()


def test_the_bundled_autoencoder_gives_a_clip_back() -> None:
    clip = true_clip(SEEN, 0, 64)
    again = reconstruct(open_pipeline("bundled"), clip)
    assert again.shape == clip.shape and again.dtype == np.uint8
    assert np.abs(again.astype(int) - clip).mean() < 6
    assert measure_stability(again).colour_drift > 0


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder with its pages: of true clips, of which every fourth is that of the next prompt."""
    folder = tmp_path_factory.mktemp("pages")

    def file_of(part: Part, prompt: str, seed: int) -> str:
        return f"clips/{part.name}/{prompt_slug(prompt)}-{seed}{'.png' if part.image else '.mp4'}"

    parts = []
    for part in (SEEN, IMAGES, SHIFT_OFF):

        def make(prompt: str, seed: int, part: Part = part) -> np.ndarray:
            index = seed - part.first_seed
            clip = true_clip(part, index + (index % 4 == 0), 64)
            write_video(folder / file_of(part, prompt, seed), clip, metadata={"prompt": prompt, "seed": seed})
            return clip

        log = folder / "readings" / f"{part.name}.jsonl"
        list(read_part(part, COUNT, 64, make, log))
        examples = choose_examples(part, COUNT, 64, log)
        for each in (each for chosen in examples.values() for each in chosen):
            each["file"] = file_of(part, each["prompt"], each["seed"])
        scores = score_log(part, COUNT, 64, log)
        of_true = {"reader_on_true_clips": scores, "true_clips": {"rendered": scores, "through_autoencoder": scores}}
        parts.append({"part": asdict(part), **scores, **of_true, "examples": examples})
    settings = {"contents": "0" * 64, "steps": 2, "sampler": "DDPMScheduler"}
    write_report(folder, study_report("<model>", settings, parts, command="latentshift x", frames=16, size=64))
    write_result_pages(folder)
    return folder


def test_the_best_and_the_worst_are_told_by_what_was_read(study: Path) -> None:
    examples = choose_examples(SEEN, COUNT, 64, study / "readings" / "seen.jsonl")
    assert [each["index"] for each in examples["first"]] == [0, 1, 2, 3]
    assert all(right_count(each) == 4 for each in examples["best"])
    rights = [right_count(each) for each in examples["worst"]]
    assert rights == sorted(rights, reverse=True) and rights[-3:] != [4] * 3
    assert {each["index"] for each in examples["worst"][-3:]} == {0, 4, 8}
    assert not {each["index"] for each in examples["best"]} & {each["index"] for each in examples["worst"]}
    assert choose_examples(SEEN, 1, 64, study / "readings" / "seen.jsonl")["best"] == []


def test_the_report_holds_each_share_with_its_wilson_interval(study: Path) -> None:
    report = read_report(study)
    everything = report.metric("all right (seen)")
    assert everything.value == pytest.approx(75.0) and (everything.n, everything.unit) == (COUNT, "%")
    assert everything.interval == pytest.approx([100 * bound for bound in wilson_interval(9, COUNT)])
    assert report.metric("motion (images)") is None and report.metric("colour drift (seen)").value == 0
    assert report.system.contents == "0" * 64 and report.settings["n"] == {"seen": 12, "images": 12, "shift_off": 12}
    assert [part["n"] for part in report.model_extra["parts"]] == [12, 12, 12]
    assert len(report.videos) == 8 and all((study / each.file).is_file() for each in report.videos)
    shares = [each.values["share right"] for each in report.videos]
    assert shares == sorted(shares, reverse=True) and shares[0] == 1


def test_the_page_of_a_study_tells_a_newcomer_what_was_asked_and_how_often_it_was_right(study: Path) -> None:
    page = (study / "report.html").read_text()
    said = unescape(page)
    assert "9 of 12 videos (75 %) show everything that their sentence asks for" in said
    assert "How well <model> draws sprites" in said and "<model>" not in page
    for heading in ("What was asked", "What the model drew", "Motion by motion", "What the numbers mean"):
        assert f"{heading}</h2>" in page
    assert "Few videos (seen combinations 12, single frames 12)" in said
    assert "without: " in said and "with the shift: " in said  # the same prompt and seed
    assert page.count("<video ") == 12 + 2 * 4 and page.count('src="data:image/png') == 12
    with (study / "tables" / "shares.csv").open() as file:
        rows = {row["in %"]: row for row in csv.DictReader(file)}
    assert rows["Seen combinations"]["all right"] == "75.0" and rows["Reader on true videos"]["N"] == "12"
    assert {path.stem for path in (study / "plots").iterdir()} >= {"motions", "shares-seen", "colour-drift"}


def test_studies_side_by_side_are_compared_motion_by_motion(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "again")
    write_comparison_pages([study, tmp_path / "again"], tmp_path / "report")
    with (tmp_path / "report" / "tables" / "motions.csv").open() as file:
        table = list(csv.reader(file))
    asked = [sprite.motion for sprite, _, _ in prompts_of(SEEN, COUNT, 64)]
    assert len(table) == 1 + len(set(asked)) and all(row[4] == row[8] == str(asked.count(row[0])) for row in table[1:])
    text = (tmp_path / "report" / "report.md").read_text()
    assert "can't be compared" not in text and "**[75.0]" not in text  # equal ones: none is the best


def test_a_report_without_a_studys_parts_is_refused_as_a_sprites_page(study: Path, tmp_path: Path) -> None:
    report = json.loads((study / "report.json").read_text())
    del report["parts"][0]["joint"]
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(ValueError, match=r"is no sprites study: 0\.joint: is required"):
        write_result_pages(tmp_path)

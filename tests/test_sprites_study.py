"""The sprites study's scores, on clips whose readings are known."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from latentshift.data.sprites import LASTING_MOTIONS, Sprites
from latentshift.evaluation.estimates import mean_of, wilson_interval
from latentshift.evaluation.extractors.load import load_extractor
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.readings_files import Reading
from latentshift.evaluation.protocols.run import Worker, measure_plan
from latentshift.evaluation.report.pages import write_comparison_pages, write_result_pages
from latentshift.evaluation.report.schema import read_report, write_report
from latentshift.evaluation.report.sprites.parts import MeanScore
from latentshift.evaluation.sprites.distances import measure_true_clips, summarize_distances
from latentshift.evaluation.sprites.earlier_readings import take_over_earlier
from latentshift.evaluation.sprites.examples import choose_examples, right_count
from latentshift.evaluation.sprites.parts import PARTS, Part, plan_of, prompts_of, true_clip
from latentshift.evaluation.sprites.reader import read_clip
from latentshift.evaluation.sprites.readings import ReadingMeasurer, load_readings
from latentshift.evaluation.sprites.report import study_report
from latentshift.evaluation.sprites.scores import score_part, score_readings
from latentshift.evaluation.sprites.stability import measure_stability
from latentshift.evaluation.sprites.study import reconstruct
from latentshift.pipeline import open_pipeline
from latentshift.video import write_video
from latentshift.video.prompt_slug import prompt_slug

SEEN, HELD_OUT, IMAGES, SHIFT_OFF, IMAGES_SHIFT_OFF, *LASTING = PARTS
COUNT = 12


@pytest.mark.parametrize("part", [SEEN, HELD_OUT, IMAGES, *LASTING], ids=lambda part: part.name)
def test_true_clips_are_those_of_the_prompts(part) -> None:
    for index, (sprite, _, _) in enumerate(prompts_of(part, 4, 64)):
        clip = true_clip(part, index, 64)
        reading = read_clip(clip)
        assert len(clip) == (1 if part.image else part.frames or 16)
        assert (reading.colour, reading.thing, reading.background) == (sprite.colour, sprite.thing, sprite.background)
        assert reading.motion == (None if part.image else sprite.motion)


def test_longer_videos_are_of_the_same_prompts_and_their_true_clips_go_on() -> None:
    plain, *longer = LASTING
    assert [part.frames for part in LASTING] == [None, 32, 64]
    assert {sprite.motion for sprite, _, _ in prompts_of(plain, 40, 64)} == set(LASTING_MOTIONS)
    for part in longer:
        assert prompts_of(part, 12, 64) == prompts_of(plain, 12, 64)
        for index in range(3):
            assert np.array_equal(true_clip(part, index, 64)[:16], true_clip(plain, index, 64))


def kept(folder: Path, count: int) -> Readings:
    return Readings(folder, count, prefix=True)


def read(part: Part, count: int, make: Callable[[int], np.ndarray], folder: Path, extractors=None) -> list[Reading]:
    """The readings of videos by index, in a folder where earlier ones are kept."""
    measurer = ReadingMeasurer(extractors or {}, texts=False)
    items = plan_of(part, count, 64)
    measure_plan(
        folder,
        items,
        lambda wanted: ((index, item, make(index), None) for index, item in wanted),
        measurer,
        Worker(),
        "",
        prefix=True,
    )
    return load_readings(kept(folder, count), part, 64)


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> list[Reading]:
    """Of true clips, of which every third has alternating brightness and the last shows nothing."""

    def make(index: int) -> np.ndarray:
        clip = true_clip(SEEN, index, 64)
        if index % 3 == 0:
            clip = np.where(np.arange(16)[:, None, None, None] % 2, clip, clip - np.minimum(clip, 4)).astype(np.uint8)
        return np.zeros_like(clip) if index == COUNT - 1 else clip

    return read(SEEN, COUNT, make, tmp_path_factory.mktemp("study") / "seen")


def test_stability_and_each_motion_are_scored(readings: list[Reading]) -> None:
    scores = score_readings(SEEN, 64, readings)
    drift = 2 * 3**0.5  # four levels of brightness, half of the frames, three channels
    assert scores["colour_drift"] == pytest.approx(asdict(mean_of([drift] * 4 + [0.0] * 7 + [None])), abs=1e-6)
    assert scores["frame_flicker"]["mean"] == pytest.approx(4 * drift * 4 / 11, abs=1e-6)
    asked = [sprite.motion for sprite, _, _ in prompts_of(SEEN, COUNT, 64)]
    assert {motion: each["n"] for motion, each in scores["motions"].items()} == {
        motion: asked.count(motion) for motion in set(asked)
    }
    assert sum(each["n"] * each["motion"] for each in scores["motions"].values()) == COUNT - 1
    assert scores["motions"][asked[-1]]["colour_drift"]["missing"] == 1


def earlier_line(reading: Reading) -> dict:
    """As earlier versions wrote it."""
    steady = {name: reading.values.get(name) for name in ("colour_drift", "frame_flicker")}
    return {"prompt": reading.prompt, "seed": reading.seed, **reading.words, "frames": reading.frames, **steady}


def test_readings_of_an_earlier_version_are_taken_over(readings: list[Reading], tmp_path: Path) -> None:
    lines = [earlier_line(each) for each in readings]
    for line in lines[:2]:  # read before stability was measured: made again
        del line["colour_drift"], line["frame_flicker"]
    log, folder = tmp_path / "seen.jsonl", tmp_path / "seen"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"prompt": "cut by a k')
    assert take_over_earlier(log, folder, SEEN, 64) == COUNT - 2
    assert take_over_earlier(log, folder, SEEN, 64) == 0  # once
    made: list[int] = []

    def again(index: int) -> np.ndarray:
        made.append(index)
        return true_clip(SEEN, index, 64)

    now = read(SEEN, COUNT, again, folder)
    assert made == [0, 1] and [each.words for each in now[2:]] == [each.words for each in readings[2:]]
    assert [each.values.get("colour_drift") for each in now[2:]] == [
        each.values.get("colour_drift") for each in readings[2:]
    ]
    log.write_text(json.dumps({**lines[5], "seed": 9}) + "\n")
    for _ in range(2):
        with pytest.raises(ValueError, match="line 1 is of another prompt"):
            take_over_earlier(log, tmp_path / "other", SEEN, 64)


@pytest.mark.parametrize("change", [{"frames": "x"}, {"frames": True}, {"colour": 3}, {"colour_drift": float("nan")}])
def test_a_damaged_line_of_an_earlier_version_is_told_each_time(
    readings: list[Reading], tmp_path: Path, change: dict
) -> None:
    lines = [earlier_line(each) for each in readings[:3]]
    log, folder = tmp_path / "seen.jsonl", tmp_path / "seen"
    log.write_text("".join(json.dumps(line) + "\n" for line in [*lines[:2], lines[2] | change]))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"seen\.jsonl line 3 is damaged; delete the file"):
            take_over_earlier(log, folder, SEEN, 64)
    assert list(tmp_path.iterdir()) == [log]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert take_over_earlier(log, folder, SEEN, 64) == 3


def test_a_shorter_study_is_the_beginning_of_a_longer_one(tmp_path: Path) -> None:
    whole = read(SEEN, 4, lambda index: true_clip(SEEN, index, 64), tmp_path)
    assert load_readings(kept(tmp_path, 2), SEEN, 64) == whole[:2]
    with pytest.raises(ValueError, match="no reading of video 4"):
        load_readings(kept(tmp_path, 5), SEEN, 64)
    with pytest.raises(ValueError, match="of another plan"):
        Readings(tmp_path, 2)


def test_images_have_no_stability_and_no_motions(tmp_path: Path, few_calibration_clips: None) -> None:
    scores = score_part(IMAGES, 64, read(IMAGES, 3, lambda index: true_clip(IMAGES, index, 64), tmp_path))
    assert scores["joint"] == 1.0 and scores["motion"] is None
    assert not {"colour_drift", "frame_flicker", "motions"} & scores.keys()


def test_distances_are_zero_for_the_true_clips_and_grow_with_what_is_wrong(tmp_path: Path) -> None:
    extractors = {name: load_extractor(name) for name in ("sprites-frames", "sprites-clips")}
    infos = ReadingMeasurer(extractors).infos
    measure_true_clips(tmp_path / "true", SEEN, COUNT, 64, extractors, Worker())
    other = Sprites(size=64, seed=1)
    makes = {
        "same": lambda index: true_clip(SEEN, index, 64),
        "other": lambda index: other[index][0],
        "shuffled": lambda index: true_clip(SEEN, index, 64)[np.random.default_rng(index).permutation(16)],
    }
    found = {}
    for name, make in makes.items():
        read(SEEN, COUNT, make, tmp_path / name, extractors)
        found[name] = {
            each.name: each
            for each in summarize_distances(kept(tmp_path / name, COUNT), tmp_path / "true", SEEN, infos).metrics
        }
    assert list(found["same"]) == [f"sprites-{kind} (seen)" for kind in ("FID", "KID", "FVD", "KVD")]
    fid, fvd = "sprites-FID (seen)", "sprites-FVD (seen)"
    assert found["same"][fid].value == pytest.approx(0, abs=1e-6)
    assert found["same"][fvd].value == pytest.approx(0, abs=1e-6)
    assert found["shuffled"][fid].value == pytest.approx(0, abs=1e-6)  # FID knows no order of frames
    assert found["shuffled"][fvd].value > 2 * found["other"][fvd].value > 0
    metric = found["other"][fvd]
    assert (metric.n, metric.n_reference, metric.frames, metric.extractor) == (COUNT, COUNT, 16, "sprites-clips")
    assert metric.extractor_sha256 == extractors["sprites-clips"].sha256 and metric.interval is not None
    assert any("needs at least 33" in each for each in metric.warnings)
    fewer = summarize_distances(kept(tmp_path / "other", 10), tmp_path / "true", SEEN, infos)
    assert {(each.n, each.n_reference) for each in fewer.metrics} == {(10, 10)}  # of the same prompts


def test_videos_without_features_are_in_no_distance_nor_are_their_true_clips(
    readings: list[Reading], tmp_path: Path
) -> None:
    extractors = {name: load_extractor(name) for name in ("sprites-frames", "sprites-clips")}
    infos = ReadingMeasurer(extractors).infos
    measure_true_clips(tmp_path / "true", SEEN, 8, 64, extractors, Worker())
    (tmp_path / "seen.jsonl").write_text("".join(json.dumps(earlier_line(each)) + "\n" for each in readings[:5]))
    assert take_over_earlier(tmp_path / "seen.jsonl", tmp_path / "seen", SEEN, 64) == 5
    read(SEEN, 8, lambda index: true_clip(SEEN, index, 64), tmp_path / "seen", extractors)
    metrics = summarize_distances(kept(tmp_path / "seen", 8), tmp_path / "true", SEEN, infos).metrics
    assert len(metrics) == 4 and {(each.n, each.n_reference) for each in metrics} == {(3, 3)}
    assert [each.value for each in metrics if "FVD" in each.name or "FID" in each.name] == pytest.approx(
        [0, 0], abs=1e-6
    )
    assert all(any("5 of 8 videos have no features" in each for each in metric.warnings) for metric in metrics)


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

        def make(index: int, part: Part = part) -> np.ndarray:
            item = plan_of(part, COUNT, 64)[index]
            clip = true_clip(part, index + (index % 4 == 0), 64)
            metadata = {"prompt": item.prompt, "seed": item.seed}
            write_video(folder / file_of(part, item.prompt, item.seed), clip, metadata=metadata)
            return clip

        readings = read(part, COUNT, make, folder / "readings" / part.name)
        examples = choose_examples(part, 64, readings)
        for each in (each for chosen in examples.values() for each in chosen):
            each["file"] = file_of(part, each["prompt"], each["seed"])
        scores = score_readings(part, 64, readings)
        of_true = {"reader_on_true_clips": scores, "true_clips": {"rendered": scores, "through_autoencoder": scores}}
        parts.append({"part": asdict(part), **scores, **of_true, "examples": examples})
    settings = {"contents": "0" * 64, "steps": 2, "sampler": "DDPMScheduler"}
    write_report(folder, study_report("<model>", settings, parts, command="latentshift x", frames=16, size=64))
    write_result_pages(folder)
    return folder


def test_the_best_and_the_worst_are_told_by_what_was_read(study: Path) -> None:
    readings = load_readings(kept(study / "readings" / "seen", COUNT), SEEN, 64)
    examples = choose_examples(SEEN, 64, readings)
    assert [each["index"] for each in examples["first"]] == [0, 1, 2, 3]
    assert all(right_count(each) == 4 for each in examples["best"])
    rights = [right_count(each) for each in examples["worst"]]
    assert rights == sorted(rights, reverse=True) and rights[-3:] != [4] * 3
    assert {each["index"] for each in examples["worst"][-3:]} == {0, 4, 8}
    assert not {each["index"] for each in examples["best"]} & {each["index"] for each in examples["worst"]}
    assert choose_examples(SEEN, 64, readings[:1])["best"] == []


def test_the_report_holds_each_share_with_its_wilson_interval(study: Path) -> None:
    report = read_report(study)
    everything = report.metric("all right (seen)")
    assert everything.value == pytest.approx(75.0) and (everything.n, everything.unit) == (COUNT, "%")
    assert everything.interval == pytest.approx([100 * bound for bound in wilson_interval(9, COUNT)])
    few = MeanScore(mean=23.4, standard_error=21.7, n=2, missing=0)
    assert few.interval == pytest.approx((0.0, 23.4 + 12.7062 * 21.7), abs=0.01)  # drift and flicker are 0 or more
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
    assert "Few videos (seen combinations 12, single frames 12, temporal shift switched off 12)" in said
    assert "seen combinations 12, single frames 12, temporal shift switched off 12</dd>" in said
    assert "held_out" not in said and "(shift_off)" not in said and "(seen)" not in said  # parts have one name
    assert "without: " in said and "with the shift: " in said  # the same prompt and seed
    assert page.count("<video ") == 12 + 2 * 4 and page.count('src="data:image/png') == 12
    folds = page.split('<details class="more">')[1:]  # the best and the worst of two parts, away at first
    assert [unescape(fold.partition("</summary>")[0])[:18] for fold in folds] == [
        "<summary>The best:",
        "<summary>The worst",
    ] * 2
    assert [fold.partition("</details>")[0].count("<figure>") for fold in folds] == [4] * 4
    with (study / "tables" / "shares.csv").open() as file:
        rows = {row["in %"]: row for row in csv.DictReader(file)}
    assert rows["Seen combinations"]["all right"] == "75.0" and rows["Reader on true videos"]["N"] == "12"
    assert rows["Temporal shift switched off"]["warnings"].startswith("1. Few videos (seen combinations 12")
    assert rows["Reader on true videos"]["warnings"] == ""
    tiles = page[page.index('class="tiles"') : page.index("What was asked</h2>")]
    assert tiles.count('href="#warning-1"') == tiles.count("<strong>") == 3
    for plot in ("shares-seen", "shares-images", "motions"):
        svg = (study / "plots" / f"{plot}.svg").read_text()
        assert svg.count('class="mark" dy="-4">1<') == svg.count('font-weight="600"') > 1
        assert "<desc>Warning 1: Few videos (seen combinations 12" in svg
    assert {path.stem for path in (study / "plots").iterdir()} >= {"motions", "shares-seen", "colour-drift"}


def test_a_warning_of_a_number_stands_beside_it_also_where_no_network_made_it(study: Path, tmp_path: Path) -> None:
    report = read_report(study)
    drift = report.metric("colour drift (seen)").model_copy(update={"warnings": ("1 video shows no one thing.",)})
    metrics = tuple(drift if each.name == drift.name else each for each in report.metrics)
    write_report(tmp_path, report.model_copy(update={"metrics": metrics}))
    text = write_result_pages(tmp_path).with_suffix(".md").read_text()
    assert '2. <a id="warning-2"></a>**colour drift (seen combinations)**: 1 video shows no one thing.' in text
    assert re.search(r"\| Seen combinations \| \S+<sup>\[2\]\(#warning-2\)</sup>", text)
    assert text.count("](#warning-2)") == 2  # in the table, and under the title of the plot
    assert "in levels<sup>[2](#warning-2)</sup>:\n" in text


def test_studies_side_by_side_are_compared_motion_by_motion(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "again")
    write_comparison_pages([study, tmp_path / "again"], tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    few = re.findall(r'(\d)\. <a id="warning-\d"></a>\*\*(.+)\*\*: Few videos', text)
    assert [number for number, _ in few] == ["1", "2"] and "again" in few[1][1]  # first, and each of its study
    assert re.search(r"\| all right \(seen combinations\) \(%\) ↑ \|[^|]*#warning-1\)[^|]*\|[^|]*#warning-2\)", text)
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

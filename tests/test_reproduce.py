"""``latentshift reproduce``: verdicts from intervals, and the whole command at the smallest size, twice."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from latentshift import bundled_model
from latentshift.benchmarks.ladder import parts_of
from latentshift.benchmarks.reproduction import claims as claims_module
from latentshift.benchmarks.reproduction import page as page_module
from latentshift.benchmarks.reproduction.budget import plan_training
from latentshift.benchmarks.reproduction.claims import (
    CLAIMS,
    Claim,
    Distances,
    Shares,
    check_recipe_for,
    choose_settings,
    needed,
    parse_claims,
)
from latentshift.benchmarks.reproduction.decide import decide
from latentshift.benchmarks.reproduction.verdict import fewer, larger, ratio_interval, smaller_ratio, together
from latentshift.benchmarks.rungs import METHOD_RUNGS, SHIFT_RUNGS
from latentshift.evaluation.estimates import share_difference_interval
from latentshift.evaluation.sprites.pool_scores import pool_scores
from latentshift.settings import ShiftConfig
from latentshift.training.recipe_file import load_recipe
from latentshift.video import read_video
from tiny_models import SMALLEST_VDM_PARAMETERS

ROOT = Path(__file__).parent.parent
TINY = [
    "data={source: sprites, options: {clips: 4}}",
    "steps=2",
    "batch_size=2",
    "frame_curriculum={}",
    "noise_share=0",
    "sample_steps=2",
    "sample_prompts=[a red star]",
    "trackers=[]",
    "optimizer={learning_rate: 1e-3, warmup_steps: 0}",
    "loading.workers=1",
    "compute={device: cpu, attention: math}",
]


def test_a_difference_of_shares_has_newcombes_interval() -> None:
    # Newcombe 1998, Table II, method 10: (a) 56/70 - 48/80, (b) 9/10 - 3/10, (g) 10/10 - 0/20.
    assert share_difference_interval((56, 70), (48, 80)) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert share_difference_interval((9, 10), (3, 10)) == pytest.approx((0.1705, 0.8090), abs=1e-4)
    assert share_difference_interval((10, 10), (0, 20)) == pytest.approx((0.6791, 1.0), abs=1e-4)
    low, high = share_difference_interval((3, 7), (11, 20))
    assert share_difference_interval((11, 20), (3, 7)) == pytest.approx((-high, -low))


def test_a_verdict_needs_the_whole_interval() -> None:
    assert larger((0.01, 0.3)) == "holds" and larger((-0.3, -0.01)) == "does not hold"
    assert larger((-0.01, 0.3)) == larger((0.0, 0.3)) == larger(None) == "not decided"
    assert larger((-0.05, 0.02), margin=0.1) == "holds" and larger((-0.2, 0.02), margin=0.1) == "not decided"
    assert larger((-0.3, -0.11), margin=0.1) == "does not hold"
    assert fewer(0, 1) == "holds" and fewer(1, 1) == "does not hold"
    assert smaller_ratio((0.8, 0.9)) == "holds" and smaller_ratio((1.1, 1.2)) == "does not hold"
    assert smaller_ratio((0.9, 1.1)) == smaller_ratio(None) == "not decided"
    assert together(["holds", "not decided"]) == "not decided" and together(["holds", "holds"]) == "holds"
    assert together(["holds", "not decided", "does not hold"]) == "does not hold"


def test_a_ratio_of_times_is_theirs_in_turns() -> None:
    ratio, interval = ratio_interval([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])  # the machine slowed down, and both with it
    assert ratio == pytest.approx(0.5) and interval == pytest.approx((0.5, 0.5))
    ratio, interval = ratio_interval([1.0, 4.0], [1.0, 1.0])
    reach = 12.7062047 * math.log(4) / 2  # Student's with one degree of freedom; standard error log(4) / 2
    assert ratio == pytest.approx(2.0) and interval == pytest.approx((2 * math.exp(-reach), 2 * math.exp(reach)))
    assert ratio_interval([1.0], [2.0]) == (0.5, None)


def test_distances_are_means_over_seeds_with_students_interval() -> None:
    def scores(value: float) -> dict:
        metric = {"name": "sprites-FVD (seen)", "value": value, "interval": [value - 1, value + 1], "n": 5}
        facts = {"n_reference": 5, "extractor": "sprites-clips", "extractor_sha256": "0", "warnings": [f"few {value}"]}
        return {"n": 5, **dict.fromkeys(("background", "colour", "thing", "motion", "joint"), 0.2)} | {
            "distances": [metric | facts]
        }

    one = pool_scores([scores(3.0)])["distances"]["sprites-FVD"]
    assert (one["value"], one["interval"]) == (3.0, [2.0, 4.0])
    two = pool_scores([scores(3.0), scores(5.0)])["distances"]["sprites-FVD"]
    assert two["value"] == 4.0 and two["interval"] == pytest.approx((4 - 12.7062047, 4 + 12.7062047))
    assert two["models"] == 2 and two["warnings"] == ["few 3.0", "few 5.0"]


def ladder_of(seen: tuple[int, int], off: tuple[int, int]) -> dict:
    def scores(right: int, n: int) -> dict:
        shares = dict.fromkeys(("background", "colour", "thing", "motion", "joint"), right / n)
        return pool_scores([{"n": n, **shares}])

    return {"rungs": [{"rung": "latent-shift", "scores": {"seen": scores(*seen), "shift_off": scores(*off)}}]}


def test_the_same_claim_is_decided_both_ways_and_not_at_all() -> None:
    (claim,) = parse_claims("3")
    claim = replace(claim, statements=tuple(each for each in claim.statements if isinstance(each, Shares)))
    for seen, off, verdict in (
        ((50, 60), (2, 60), "holds"),
        ((2, 60), (50, 60), "does not hold"),
        ((3, 4), (1, 4), "not decided"),
        ((0, 60), (0, 60), "not decided"),
    ):
        decided = decide(claim, ladder_of(seen, off), {})
        assert decided.verdict == verdict
        first = decided.statements[0]
        assert first.first.n == seen[1] and first.compared == pytest.approx(seen[0] / seen[1] - off[0] / off[1])


def test_nothing_can_be_lost_where_nothing_is_right() -> None:
    (claim,) = choose_settings(parse_claims("4"), "length")
    for right, verdict in ((0, "not decided"), (10, "not decided"), (190, "holds")):
        scores = ladder_of((right, 192), (right, 192))["rungs"][0]["scores"]["seen"]
        of_lengths = dict.fromkeys(("lasting", "lasting_32", "lasting_64"), scores)
        assert decide(claim, {"rungs": [{"rung": "latent-shift", "scores": of_lengths}]}, {}).verdict == verdict


@pytest.mark.parametrize(
    ("shifted", "attending", "verdict", "interval"),
    [
        ((30.0, (20.0, 40.0)), (300.0, (200.0, 400.0)), "holds", (0.05, 0.2)),
        ((300.0, (200.0, 400.0)), (30.0, (20.0, 40.0)), "does not hold", (5.0, 20.0)),
        ((30.0, (20.0, 40.0)), (50.0, (40.0, 60.0)), "not decided", (1 / 3, 1.0)),
        ((30.0, None), (300.0, (200.0, 400.0)), "not decided", None),
    ],
)
def test_a_distance_is_smaller_only_where_the_intervals_do_not_meet(shifted, attending, verdict, interval) -> None:
    rungs = []
    for name, (value, bounds) in {"latent-shift": shifted, "latent-vdm": attending}.items():
        distance = {"value": value, "interval": bounds, "n": 60}
        rungs.append({"rung": name, "scores": {"seen": {"distances": {"sprites-FVD": distance}}}})
    (statement,) = (
        each for each in CLAIMS[0].statements if isinstance(each, Distances) and each.second[0] == "latent-vdm"
    )
    claim = replace(CLAIMS[0], statements=(statement,))
    (decided,) = decide(claim, {"rungs": rungs}, {}).statements
    assert decided.verdict == verdict and decided.compared == pytest.approx(shifted[0] / attending[0])
    assert decided.interval == (interval and pytest.approx(interval))


def test_the_table_of_claims_names_what_it_needs() -> None:
    assert [claim.number for claim in CLAIMS] == [1, 2, 3, 4]
    assert needed(parse_claims("3")) == (["latent-shift"], ["seen", "shift_off"])
    assert parse_claims("3, 1") == (CLAIMS[0], CLAIMS[2])
    for claim in CLAIMS:
        assert isinstance(claim, Claim) and claim.statements and claim.sheet
        systems, parts = needed((claim,))
        for system, part in claim.sheet:  # a picture needs no study that the statements don't
            assert system in systems and part in parts
        assert all(each.first != each.second for each in claim.statements if isinstance(each, Shares))


def test_the_command_trains_once_and_goes_on(
    cli, sprites_base: Path, tmp_path: Path, few_calibration_clips: None
) -> None:
    folder = tmp_path / "out"
    words = ["reproduce", ROOT / "recipes/sprites-video.yaml", *TINY, f"model={sprites_base}", f"-o{folder}"]
    words += ["--quick", "--videos=2", "--images=1", "--steps=2", "--sampler=ddim", "frame_curriculum={8: 1}"]
    code, out, err = cli(*words)
    assert code == 0, err
    made = {path: path.stat().st_mtime_ns for path in (*folder.glob("*/model/unet/*"), folder / "timing.json")}
    result = json.loads((folder / "reproduction.json").read_text())
    assert [claim["number"] for claim in result["claims"]] == [1, 2, 3]
    parameters = result["claims"][0]["statements"][4]
    assert parameters["second"]["value"] == SMALLEST_VDM_PARAMETERS and parameters["verdict"] == "holds"
    assert not (folder / "none/study/clips/shift_off").exists()  # the same videos as with
    page = (folder / "reproduction.md").read_text()
    assert "not decided by so few videos (2)" in page and "not decided by so few videos (1)" in page
    header = next(line for line in page.splitlines() if line.startswith("| method"))
    assert "sprites-FVD" in header and "seconds a video" in header
    shift = next(line for line in page.splitlines() if line.startswith("| latent-shift | "))
    pooled = result["ladder"]["rungs"][0]["scores"]["seen"]["distances"]["sprites-FVD"]
    assert pooled["n"] == pooled["n_reference"] == 2 and f"{pooled['value']:.4g}"[:4] in shift
    assert "N 2)" in shift
    few = next(line for line in page.splitlines() if "the covariance of 32 features" in line)
    mark = few.partition(".")[0]  # the warning's number
    assert "**sprites-FVD (latent-shift: videos; " in few and f"[{mark}](#warning-{mark})" in shift
    statement = next(
        line for line in page.splitlines() if line.startswith("| With the shift videos are nearer to true")
    )
    assert statement.count(f"[{mark}](#warning-{mark})") == 2  # both sides
    plots = [path.read_text() for path in (folder / "plots").iterdir()]
    of_distance = [each for each in plots if "Sprites-FVD to true clips: " in each]
    assert of_distance and all(re.search(rf'class="mark" dy="-4">[^<]*\b{mark}\b', each) for each in of_distance)
    assert pooled["extractor_sha256"] in page and "are too few: the covariance of 32 features" in page
    assert "share is 0.2: the video models" in page
    assert "few frames of each clip first (1 steps on 8 frames)" in page
    assert result["command"] in page
    for name in ("plots/claim-1-1.svg", *(f"pictures/claim-{number}.png" for number in (1, 2, 3))):
        assert name in page and (folder / name).exists()
    for claim in result["claims"]:
        assert f"{claim['number']}. {claim['title']}: {claim['verdict']}" in out
    readings = folder / "latent-shift/study/readings/seen/worker-000.jsonl"
    kept = readings.read_text()
    readings.write_text("")  # as a kill in between leaves it
    cut_short = [folder / each / ".cut.part" for each in ("", "pictures", "plots")]
    for each in cut_short:
        each.write_bytes(b"half a file")
    code, again, err = cli(*words, "--claims=1")
    assert code == 0 and set(again.splitlines()[:5]) <= set(out.splitlines()), err
    assert readings.read_text() == kept and not any(each.exists() for each in cut_short)
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())  # nothing trained or timed again


def test_settings_of_the_shift_are_compared_on_request(
    cli, sprites_base: Path, tmp_path: Path, few_calibration_clips: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = CLAIMS[3]
    some = ("shift-circular", "shift-encoder")
    statements = [each for each in whole.statements if each.second[0] in some or each.setting == "length"]
    changed = replace(whole, statements=tuple(statements))
    for module in (claims_module, page_module):
        monkeypatch.setattr(module, "CLAIMS", (*CLAIMS[:3], changed))
    words = ["reproduce", ROOT / "recipes/sprites-video.yaml", *TINY, f"model={sprites_base}", f"-o{tmp_path}"]
    words += ["--quick", "--videos=1", "--steps=2", "--sampler=ddim", "--claims=4"]
    words += ["--settings=blocks,padding"]
    code, _, err = cli(*words, "shift.fold=4")
    assert code == 1 and "compares the paper's settings with others, and the recipe has ShiftConfig(fold=4" in err
    code, out, err = cli(*words)
    assert code == 0, err
    shifts = {
        name: json.loads((tmp_path / name / "model/model_index.json").read_text())["shift"]
        for name in ("latent-shift", "shift-circular", "shift-encoder")
    }
    assert {name: ShiftConfig.from_dict(each) for name, each in shifts.items()} == {
        "latent-shift": ShiftConfig(),
        "shift-circular": ShiftConfig(padding="circular"),
        "shift-encoder": ShiftConfig(blocks="encoder"),
    }
    assert not (tmp_path / "timing.json").exists() and not (tmp_path / "latent-vdm").exists()
    assert "4. Beyond the paper: settings of the shift: not decided" in out
    page = (tmp_path / "reproduction.md").read_text()
    assert "| shift-encoder | " in page and "seconds a video" not in page.partition("## How these")[0]
    assert (tmp_path / "pictures/claim-4.png").exists()
    assert not (tmp_path / "latent-shift/study/clips/lasting").exists()
    code, out, err = cli(*words[:-1], "--settings=length")
    assert code == 0, err
    for name, frames in (("lasting", 16), ("lasting_32", 32), ("lasting_64", 64)):
        (clip,) = (tmp_path / "latent-shift/study/clips" / name).iterdir()
        assert len(read_video(clip)[0]) == frames
    result = json.loads((tmp_path / "reproduction.json").read_text())
    labels = [(each["first"]["label"], each["second"]["label"]) for each in result["claims"][0]["statements"]]
    second = "latent-shift: lasting motions, 16 frames"
    assert labels == [(f"latent-shift: lasting motions, {frames} frames", second) for frames in (32, 64)]
    assert [rung["rung"] for rung in result["ladder"]["rungs"]] == ["latent-shift"]


def test_each_setting_of_the_shift_differs_in_one_thing_from_the_papers(sprites_base: Path, tmp_path: Path) -> None:
    recipe = load_recipe(ROOT / "recipes/sprites-video.yaml", [*TINY, f"model={sprites_base}"])
    systems, parts = needed(parse_claims("4"))
    assert systems[0] == "latent-shift" and set(systems[1:]) == {rung.name for rung in SHIFT_RUNGS}
    assert parts == ["seen", "lasting_32", "lasting", "lasting_64"]
    paper = ShiftConfig()
    for rung in SHIFT_RUNGS:
        own = rung.recipe(recipe, tmp_path, recipe.seed)
        shift = own.shift or paper
        changed = [name for name in asdict(paper) if getattr(shift, name) != getattr(paper, name)]
        assert len(changed) + bool(own.noise_share) == 1
        (statement,) = (each for each in CLAIMS[3].statements if each.second[0] == rung.name)
        assert statement.setting == (changed or ["noise"])[0]
        assert parts_of(rung, {"seen": 3, "images": 2}) == {"seen": 3}
    few = choose_settings(parse_claims("1,4"), "place, noise")
    systems, parts = needed(few[1:])
    assert systems == ["latent-shift", "shift-shared-noise", "shift-conv2", "shift-block"] and parts == ["seen"]
    assert {system for system, _ in few[1].sheet} == set(systems) and few[0] == CLAIMS[0]
    (lengths,) = choose_settings(parse_claims("4"), "length")
    lasting = ["lasting_32", "lasting", "lasting_64"]
    assert needed((lengths,)) == (["latent-shift"], lasting)
    assert lengths.sheet == tuple(("latent-shift", part) for part in lasting)
    counts = dict.fromkeys((*lasting, "seen"), 1)
    assert [set(parts_of(rung, counts)) for rung in METHOD_RUNGS] == [set(counts), {"seen"}, {"seen"}]
    check_recipe_for(parse_claims("1,2,3"), recipe.model_copy(update={"noise_share": 1.0}))


def test_without_a_recipe_the_image_stage_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="run it in a clone"):
        plan_training(None, [], tmp_path, quick=True)
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match="frame_curriculum has 16 frames, and a whole clip has 16"):
        plan_training(None, ["frame_curriculum={16: 1}"], tmp_path, quick=True)
    place = tmp_path / "autoencoder" / "model"
    for quick in (False, True):
        plan = plan_training(None, ["batch_size=7"], tmp_path, quick)
        assert plan.image is not None and str(plan.image.output) == plan.video.model
        assert plan.video.batch_size == 7 and plan.video.image_share == 0  # the paper's: videos alone
        plan.place_autoencoder()
        # Latents of the deviation in recipes/sprites-autoencoder.yaml, where the bundled model has 0.25.
        own, placed = (json.loads((f / "config.json").read_text()) for f in (bundled_model() / "vae", place))
        assert placed == {**own, "scaling_factor": 0.5 / 0.25 * own["scaling_factor"]}

"""``bench sampling``: ways to sample beside the exact result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latentshift.benchmarks.sampling import verdict
from latentshift.benchmarks.sampling_ways import DEFAULT_WAYS, parse_way, parse_ways
from latentshift.diffusion.fewer_operations import FewerOperations


def test_a_way_is_options_of_generate_in_any_order() -> None:
    way = parse_way("deep-cache-branch=1 deep-cache=3 steps=20  sampler=unipc guidance-interval=300:999")
    assert (way.sampler, way.steps) == ("unipc", 20)
    assert way.fewer == FewerOperations((300, 999), 3, 1)
    assert parse_ways([way.name, "steps=5", " ".join(reversed(way.name.split()))]) == [way, parse_way("steps=5")]
    slugs = {each.slug for each in parse_ways(None)}
    assert len(slugs) == len(DEFAULT_WAYS) and not any(set(slug) & set(' :=/\\"') for slug in slugs)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "--way is empty"),
        ("steps", "'steps' in --way 'steps' is none of sampler=…, steps=…"),
        ("guidance=2", "'guidance=2' in --way"),
        ("steps=2 steps=3", "steps is given twice"),
        ("steps=0", "steps must be a whole number of 1 or more in --way 'steps=0', not '0'"),
        ("steps=2.5", "steps must be a whole number"),
        ("deep-cache=1", "deep-cache must be a whole number of 2 or more"),
        ("deep-cache-branch=1", "deep-cache-branch has no effect without deep-cache"),
        ("guidance-interval=9:3", "--guidance-interval must be two timesteps, .* not '9:3', in --way"),
        ("sampler=best", "unknown sampler 'best' in --way 'sampler=best': choose from"),
    ],
)
def test_words_that_are_no_way_are_refused(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_way(words)


def test_the_gate_is_one_point_of_each_score_on_256_videos() -> None:
    assert verdict(256, [0.0, -1.0, 3.0]) == "yes"
    assert verdict(256, [5.0, -1.1]) == "no"
    assert verdict(255, [0.0]) == verdict(255, [-50.0]) == "not known: 256 videos decide"


def test_ways_beside_the_exact_result_in_studies_that_are_gone_on_with(
    cli, sprites_model: Path, few_calibration_clips: None
) -> None:
    study = ("--steps", 2, "--device", "cpu", "--dtype", "float32")
    alone = ("--seen", 1, "--held-out", 0, "--images", 0, "--shift-off", 0)
    code, _, err = cli("evaluate", "sprites", sprites_model, *alone, *study, "-o", "exact")
    assert code == 0, err
    clips = {path: path.stat().st_mtime_ns for path in Path("exact/clips").rglob("*.mp4")}
    ways = ("--way", "steps=2", "--way", "guidance-interval=500:999")
    words = ("bench", "sampling", sprites_model, *study, *ways, "--exact", "exact", "--timed", 1, "-o", "ways")
    code, _, err = cli(*words, "--videos", 1, "--json", "first.json")
    assert code == 0, err
    assert len(clips) == 1 and {path: path.stat().st_mtime_ns for path in clips} == clips  # gone on with
    exact, same, fewer = json.loads(Path("first.json").read_text())["rows"]
    assert exact["way"] == "exact: 2 steps" and exact["seconds_a_video"]["value"] > 0
    points = [name for name in same if name.endswith("_points")]
    assert [name.removesuffix("_points") for name in points] == [
        name for name in exact if name in ("background", "colour", "motion", "thing", "all_right")
    ]
    assert same["psnr_db"] is None and all(same[name]["value"] == 0 for name in points)  # the very same videos
    assert 0 < fewer["psnr_db"] < 100 and fewer["passes"].startswith("not known")
    code, _, err = cli(*words, "--videos", 1, "--guidance", 3, "-o", "others")
    assert code == 1 and "exact holds a result with other settings: guidance" in err
    assert not Path("others").exists()  # nothing was made before


def test_a_way_that_the_model_does_not_have_is_refused(cli, sprites_model: Path) -> None:
    code, out, err = cli("bench", "sampling", sprites_model, "--quick", "--way", "deep-cache=2", "-o", "ways")
    assert code == 1 and "deep_cache_interval=2 is not possible: this U-Net has one level only" in err and not out

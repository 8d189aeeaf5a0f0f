"""``latentshift bench ladder``: methods and settings from one image stage, by one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from latentshift import LatentShiftPipeline
from latentshift.benchmarks.ladder import Ladder, parts_of
from latentshift.benchmarks.ladder_table import ladder_rows
from latentshift.benchmarks.report import Estimate, table
from latentshift.benchmarks.rungs import RUNGS, parse_rungs
from latentshift.evaluation.estimates import wilson_interval
from latentshift.evaluation.sprites.pool_scores import pool_scores
from latentshift.settings import METHODS, ShiftConfig
from latentshift.training.models.build import prepare_video_model
from latentshift.training.recipe import VideoRecipe
from latentshift.training.recipe_file import load_recipe
from tiny_models import SMALLEST_VDM_PARAMETERS

RECIPE = Path(__file__).parent.parent / "recipes" / "sprites-video.yaml"
TINY = [
    "data={source: sprites, options: {clips: 4}}",
    "steps=2",
    "batch_size=2",
    "frame_curriculum={}",
    "sample_steps=2",
    "sample_prompts=[a red star]",
    "trackers=[]",
    "optimizer={learning_rate: 1e-3, warmup_steps: 0}",
    "loading.workers=1",
    "compute={device: cpu, attention: math}",
]


@pytest.fixture(scope="module")
def recipe(sprites_base: Path) -> VideoRecipe:
    recipe = load_recipe(RECIPE, [*TINY, f"model={sprites_base}"])
    assert isinstance(recipe, VideoRecipe)
    return recipe


def test_the_ladder_is_one_command_that_goes_on(
    cli, sprites_base: Path, tmp_path: Path, few_calibration_clips: None
) -> None:
    folder = tmp_path / "ladder"
    words = ["bench", "ladder", RECIPE, *TINY, f"model={sprites_base}", f"-o{folder}", "--seen=2", "--images=1"]
    words += ["--steps=2", "--rungs=replicate-shared-1,latent-vdm", "--sampler=ddim", "--quick"]
    code, out, err = cli(*words)
    assert code == 0, err
    for name, shift, share in (("replicate-shared-1", "replicate", 1.0), ("latent-vdm", None, 0.0)):
        pipeline = LatentShiftPipeline.from_pretrained(folder / name / "model")
        assert (pipeline.config.shift or {}).get("padding") == shift and pipeline.config.noise_share == share
        assert f"| {name:36} |" in out
    made = {path: path.stat().st_mtime_ns for path in folder.glob("*/model/unet/*.safetensors")}
    code, out, err = cli(*words, "--seeds=2", "--json=l.json")
    assert code == 0, err
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())  # what is trained is not trained again
    facts = json.loads((folder / "ladder.json").read_text())
    assert facts["seeds"] == [0, 1] and facts["sampler"] == "ddim" and facts["image_stage"]["n"] == 1
    assert facts["true_clips"]["seen"]["rendered"]["colour_drift"]["mean"] == 0.0
    shifted, attending = facts["rungs"]
    assert shifted["temporal_parameters"] == 0 and attending["temporal_parameters"] == SMALLEST_VDM_PARAMETERS
    for each in facts["rungs"]:
        assert each["scores"]["seen"]["n"] == 4 and each["scores"]["images"]["n"] == 2
        assert each["seeds"].keys() == {"0", "1"} and each["seconds_a_step"] > 0
    for name in ("latent-vdm", "latent-vdm-seed-1"):
        assert load_recipe(folder / name / "recipe.yaml").seed == int(name.endswith("1"))
    assert len(json.loads((tmp_path / "l.json").read_text())["rows"]) == len(list(ladder_rows(facts)))
    code, _, err = cli(*words, "batch_size=1")
    assert code != 0 and "holds a run of another recipe: batch_size was 2 and is now 1" in err


def test_what_would_fail_after_hours_is_refused_at_once(cli, sprites_base: Path, model: Path, tmp_path: Path) -> None:
    words = ["bench", "ladder", RECIPE, *TINY, f"model={sprites_base}", f"-o{tmp_path}/ladder"]
    for changed, said in (
        (["--steps=0"], "--steps must lie between 2 and 1000, not 0"),
        (["lora.rank=2", "train_text_encoder=false"], "leave lora and exports out"),
        ([f"model={model}"], "is a video model (latent-shift) already"),
        (["size=33"], "size must be a multiple of 4"),
        (["size=16"], "sprites are drawn at 32 pixels or more, not 16"),
        (["num_frames=8"], "the reader reads clips of 16 frames, and these would have 8"),
        (["--rungs=zeros-independent,best"], "there is no rung 'best'; choose from zeros-independent, "),
        (["--rungs=none,none"], "a rung is named twice"),
        (["--sampler=best"], "unknown sampler"),
        (["noise_share=1"], "noise_share=1 is what the rungs decide"),
        (["shift={padding: zeros}"], "is what the rungs decide"),
    ):
        code, _, err = cli(*words, *changed)
        assert code != 0 and said in err and "Traceback" not in err, err
    assert not (tmp_path / "ladder").exists()


def test_a_rung_is_the_recipe_but_for_what_it_decides(recipe: VideoRecipe, sprites_base: Path, tmp_path: Path) -> None:
    own = recipe.model_copy(update={"shift": ShiftConfig(fold=4), "noise_share": 3.0})
    made = {}
    for name, rung in RUNGS.items():
        each = rung.recipe(own, tmp_path, 7)
        assert each.output == tmp_path / f"{name}-seed-7" and each.seed == 7
        pipeline = LatentShiftPipeline.from_pretrained(sprites_base)
        prepare_video_model(each, pipeline)
        shift = pipeline.config.shift
        assert shift is None or shift["fold"] == 4  # the recipe's
        made[name] = (pipeline.method, shift and shift["padding"], pipeline.config.noise_share)
        same = {"output", "seed", "method", "shift", "noise_share"}
        assert each.model_dump(exclude=same) == own.model_dump(exclude=same)
    assert made == {
        "zeros-independent": ("latent-shift", "zeros", 0.0),
        "replicate-independent": ("latent-shift", "replicate", 0.0),
        "zeros-shared-1": ("latent-shift", "zeros", 1.0),
        "replicate-shared-1": ("latent-shift", "replicate", 1.0),
        "zeros-shared-2": ("latent-shift", "zeros", 2.0),
        "replicate-shared-2": ("latent-shift", "replicate", 2.0),
        "latent-vdm": ("latent-vdm", None, 0.0),
        "none": ("none", None, 0.0),
    }
    assert [rung.name for rung in parse_rungs("none, zeros-independent")] == ["none", "zeros-independent"]
    first, second = parse_rungs("shift-past-only,none")  # beyond those of the default, with every part of the study
    assert first.recipe(own, tmp_path, 7).shift == ShiftConfig(fold=4, direction="past_only")
    assert second.method == "none"
    assert parts_of(first, {"seen": 1, "images": 1}) == {"seen": 1, "images": 1}


def test_without_rungs_the_three_methods_are_compared_with_the_recipes_settings(recipe: VideoRecipe, tmp_path) -> None:
    own = recipe.model_copy(update={"shift": ShiftConfig(fold=4), "noise_share": 3.0})
    ladder = Ladder(own, tmp_path, {}, 2, "cpu", torch.float32)
    ladder.check()
    recipes = [rung.recipe(own, tmp_path, 0) for rung in ladder.rungs]
    assert [(each.method, each.output.name) for each in recipes] == [(name, name) for name in METHODS]
    assert [each.shift and each.shift.fold for each in recipes] == [4, None, None]
    assert {each.noise_share for each in recipes} == {3.0}


def scores_of(right: int, n: int, drift: float) -> dict:
    mean = {"mean": drift, "standard_error": 0.5, "n": n - 1, "missing": 1}
    shares = dict.fromkeys(("background", "colour", "thing", "motion", "joint"), right / n)
    return {"n": n, **shares, "colour_drift": mean, "frame_flicker": mean}


def test_seeds_are_pooled_with_wilson_intervals() -> None:
    seeds = [scores_of(3, 10, 4.0) | {"motions": {"growing": scores_of(1, 2, 1.0)}}]
    seeds += [scores_of(12, 20, 7.0) | {"motions": {"growing": scores_of(2, 2, 2.0)}}]
    pooled = pool_scores(seeds)
    assert pooled["n"] == 30 and pooled["motion"] == 0.5
    assert pooled["intervals"]["motion"] == list(wilson_interval(15, 30))
    assert pooled["colour_drift"]["mean"] == pytest.approx((9 * 4 + 19 * 7) / 28)
    assert (pooled["colour_drift"]["n"], pooled["colour_drift"]["missing"]) == (28, 2)
    assert pooled["motions"]["growing"]["joint"] == 0.75
    with pytest.raises(ValueError, match="no scores"):
        pool_scores([])


def test_the_tables_show_what_comes_before_and_after() -> None:
    image = {"n": 4, "background": 1.0, "colour": 0.5, "thing": 0.25, "motion": None, "joint": 0.25}
    seeds = {
        str(seed): {"seen": scores_of(3, 10, 4.0) | {"motions": {"growing": scores_of(3, 10, 4.0)}}, "images": image}
        for seed in (0, 1)
    }
    scores = {part: pool_scores([each[part] for each in seeds.values()]) for part in ("seen", "images")}
    rung = {"rung": "none", "temporal_parameters": 0, "seconds_a_step": None, "scores": scores, "seeds": seeds}
    true = {"seen": {"rendered": scores_of(10, 10, 0.0), "through_autoencoder": scores_of(9, 10, 1.5)}}
    rows = list(ladder_rows({"rungs": [rung], "image_stage": image, "true_clips": true}))
    seen = [row for row in rows if "seen" in row]
    assert [row["rung"] for row in seen] == ["true clips rendered", "true clips through autoencoder", "none"]
    assert seen[-1]["all_right"] == Estimate(0.3, *wilson_interval(6, 20)) and seen[-1]["no_thing"] == 2
    assert seen[1]["colour_drift"].value == 1.5
    assert [(row["rung"], row["images"]) for row in rows if "images" in row] == [
        ("image stage, before", 4),
        ("none", 8),
    ]
    assert [row["growing"] for row in rows if "motions_of_seen" in row] == [20, 0.3]
    assert [row["seed"] for row in rows if "seeds_on_seen" in row] == [0, 1]
    text = "\n".join(table(rows))
    assert " 0.3 [0.145, 0.519] |" in text and " – |" in text


def test_other_stages_are_refused_and_the_old_name_still_works(cli, sprites_base: Path) -> None:
    code, _, err = cli("bench", "ladder", RECIPE.with_name("sprites-image.yaml"))
    assert code != 0 and "is of stage image, and bench ladder trains stage video" in err
    code, _, err = cli("bench", "methods", RECIPE, *TINY, f"model={sprites_base}", "--steps=0")
    assert code != 0 and "warning: bench methods is called bench ladder now" in err
    assert "--steps must lie between" in err

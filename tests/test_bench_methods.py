"""``latentshift bench methods``: three methods from one image stage, by one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from conftest import tiny_unet
from latentshift import LatentShiftPipeline
from latentshift.benchmarks.methods import MethodComparison
from latentshift.training.build import prepare_video_model
from latentshift.training.recipe import load_recipe

RECIPE = Path(__file__).parent.parent / "recipes" / "sprites-video.yaml"
TINY = [
    "data={source: sprites, options: {clips: 4}}",
    "steps=2",
    "batch_size=2",
    "sample_steps=2",
    "sample_prompts=[a red star]",
    "trackers=[]",
    "optimizer={learning_rate: 1e-3, warmup_steps: 0}",
    "loading.workers=1",
    "compute={device: cpu, attention: math}",
]


@pytest.fixture(scope="module")
def base(ldm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image model whose videos have the sprites' shape: 16 frames of 32 pixels."""
    folder = tmp_path_factory.mktemp("image")
    pipeline = LatentShiftPipeline.from_pretrained(ldm_folder, shift=None)
    pipeline.register_modules(unet=tiny_unet(sample_size=16))
    pipeline.save_pretrained(folder)
    return folder


def test_the_comparison_is_one_command(cli, base: Path, tmp_path: Path) -> None:
    words = [
        "bench",
        "methods",
        RECIPE,
        *TINY,
        f"model={base}",
        f"-o{tmp_path}/methods",
        "--seen=2",
        "--images=1",
        "--dtype=float32",
        "--json=m.json",
    ]
    code, out, err = cli(*words, "--steps=2")
    assert code == 0, err
    rungs = {each["method"]: each for each in json.loads((tmp_path / "methods" / "ladder.json").read_text())["rungs"]}
    assert list(rungs) == ["latent-shift", "latent-vdm", "none"]
    assert rungs["latent-shift"]["temporal_parameters"] == rungs["none"]["temporal_parameters"] == 0
    assert rungs["latent-vdm"]["temporal_parameters"] > 0
    assert all(each["scores"]["seen"]["n"] == 2 and each["scores"]["images"]["n"] == 1 for each in rungs.values())
    for method in rungs:
        assert LatentShiftPipeline.from_pretrained(tmp_path / "methods" / method / "model").method == method
        assert f"| {method:36} |" in out
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "methods").glob("*/model/unet/*.safetensors")}
    code, _, err = cli(*words, "--steps=2", "--quick")
    assert code == 0, err
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())  # what is trained is not trained again
    code, _, err = cli(*words, "--steps=2", "seed=5")
    assert code != 0 and "holds a run of another recipe: seed was 0 and is now 5" in err


def test_what_would_fail_after_hours_is_refused_at_once(cli, base: Path, model: Path, tmp_path: Path) -> None:
    words = ["bench", "methods", RECIPE, *TINY, f"model={base}", f"-o{tmp_path}/methods"]
    for changed, message in (
        (["--steps=0"], "num_inference_steps must lie between"),
        (["lora.rank=2", "train_text_encoder=false"], "leave lora and exports out"),
        ([f"model={model}"], "is a video model (latent-shift) already"),
        (["size=30"], "size must be a multiple of 4"),
        (["size=16"], "sprites are drawn at 32 pixels or more, not 16"),
        (["num_frames=8"], "the reader reads clips of 16 frames, and these would have 8"),
    ):
        code, _, err = cli(*words, *changed)
        assert code != 0 and message in err and "Traceback" not in err
    assert not (tmp_path / "methods").exists()


def test_a_shift_of_ones_own_is_the_shifts_alone(base: Path, tmp_path: Path) -> None:
    recipe = load_recipe(RECIPE, [*TINY, f"model={base}", "shift={fold: 4}"])
    comparison = MethodComparison(recipe, tmp_path, {}, 2, "cpu", torch.float32)
    comparison.check()
    shift_of = {each.method: each.shift for each in comparison._recipes()}
    assert shift_of["latent-shift"].fold == 4 and shift_of["latent-vdm"] is shift_of["none"] is None
    for each in comparison._recipes():
        pipeline = LatentShiftPipeline.from_pretrained(base)
        prepare_video_model(each, pipeline)
        assert pipeline.method == each.method


def test_other_stages_are_refused_and_the_old_name_still_works(cli, tmp_path: Path) -> None:
    code, _, err = cli("bench", "ladder", RECIPE.with_name("sprites-image.yaml"))
    assert code != 0 and "is of stage image, and bench methods trains stage video" in err

"""Recipes, the data's order, checkpoints, and the three stages end to end on tiny models."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.tracking import GeneralTracker
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from conftest import tiny_unet
from latentshift import LatentShiftPipeline
from latentshift.data.sample_order import rng_for
from latentshift.data.sprites import Sprites, held_out_triples
from latentshift.models.autoencoder import sample_moments
from latentshift.models.denoiser import compile_for_training, denoise
from latentshift.shift import install
from latentshift.training import checkpoint as checkpoint_module
from latentshift.training import folder as folder_module
from latentshift.training import saver as saver_module
from latentshift.training.best import best_step
from latentshift.training.checkpoint import checkpoint_step, list_checkpoints, load_checkpoint
from latentshift.training.journal import Journal
from latentshift.training.learner import Learned
from latentshift.training.lines import add_line, forget_after, read_lines
from latentshift.training.loop import fit
from latentshift.training.processes import accelerator_for
from latentshift.training.rate import learning_rate
from latentshift.training.recipe import OptimizerSettings, ValidationSettings, dump_recipe, load_recipe
from latentshift.training.run import run
from latentshift.training.stages.autoencoder import AutoencoderStage
from latentshift.training.stages.denoiser import ImageStage, VideoStage
from latentshift.training.stages.objective import FrameBatch, LatentBatch
from latentshift.training.stages.validation import question_of

RECIPES = Path(__file__).parent.parent / "recipes"
TINY_RUN = [
    "steps=4",
    "batch_size=2",
    "save_every=2",
    "sample_every=3",
    "log_every=1",
    "compute.precision=fp32",
    "optimizer={learning_rate: 1e-3, warmup_steps: 1}",  # a rate that does not depend on the length of the run
]
TINY_VAE = "model={channels: [8, 8, 8], layers_per_block: 1, latent_channels: 4, norm_groups: 4}"
TINY_IMAGE = ["unet.channels=[8, 8, 16]", "unet.layers_per_block=1", "unet.heads=2", "unet.norm_groups=4"]
TINY_TEXT = ["text={width: 16, layers: 1, heads: 2, tokens: 16}"]

CPU = torch.device("cpu")


def batch_of(stage: ImageStage | VideoStage, step: int) -> LatentBatch:
    return next(stage.batches(step))


def same_weights(one: Path, other: Path) -> None:
    """That the newest checkpoints of two runs are the same, bit for bit."""
    newest = [list_checkpoints(output / "checkpoints")[-1] for output in (one, other)]
    assert newest[0].name == newest[1].name
    for name in ("weights", "average", "optimizer"):
        this, that = (load_file(path / f"{name}.safetensors") for path in newest)
        assert this.keys() == that.keys()
        assert all(torch.equal(this[key], that[key]) for key in this), name


def tiny(stage: str, folder: Path, *overrides: str):
    places = {
        "autoencoder": [f"output={folder}/autoencoder", TINY_VAE, "data.size=32"],
        "image": [f"output={folder}/image", f"autoencoder={folder}/autoencoder", *TINY_IMAGE, *TINY_TEXT],
        "video": [
            f"output={folder}/video",
            f"model={folder}/image",
            "image_share=0",
            "train_text_encoder=false",
        ],
    }
    data = ["data.options.clips=6", f"data.latents={folder}/latents"]
    shared = [] if stage == "autoencoder" else [*data, "sample_steps=2"]
    return load_recipe(RECIPES / f"sprites-{stage}.yaml", [*TINY_RUN, *places[stage], *shared, *overrides])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three shipped recipes, scaled down, run one after the other."""
    folder = tmp_path_factory.mktemp("runs")
    for stage in ("autoencoder", "image", "video"):
        run(tiny(stage, folder), quiet=True)
    return folder


def test_the_three_stages_end_in_a_video_pipeline(runs: Path) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(runs / "video" / "model")
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline("a red star circling on a navy background", num_inference_steps=2, output_type="np").frames
    assert frames.shape == (1, 16, 32, 32, 3) and np.isfinite(frames).all()
    for stage in ("autoencoder", "image", "video"):
        output = runs / stage
        lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [1, 2, 3, 4]
        assert list((output / "tensorboard").iterdir()) and list((output / "samples").glob("*.png"))
        assert load_recipe(output / "recipe.yaml") == tiny(stage, runs)


def test_the_image_stage_exports_a_stock_pipeline(runs: Path) -> None:
    from diffusers import DiffusionPipeline

    stock = DiffusionPipeline.from_pretrained(runs / "image" / "model")
    assert type(stock).__name__ == "LDMTextToImagePipeline"


def test_the_video_stage_trains_the_unet_alone(runs: Path) -> None:
    def weights(stage: str, part: str) -> dict[str, torch.Tensor]:
        (file,) = (runs / stage / "model" / part).glob("*.safetensors")
        return load_file(file)

    def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:  # the video model is float16
        return one.keys() == other.keys() and all(torch.equal(one[key].half(), other[key]) for key in one)

    assert same(weights("image", "bert"), weights("video", "text_encoder"))
    assert same(weights("image", "vqvae"), weights("video", "vae"))
    before, after = weights("image", "unet"), weights("video", "unet")
    assert before.keys() == after.keys() and not same(before, after)


@pytest.mark.parametrize("stage", ["autoencoder", "image", "video"])
def test_a_run_that_is_taken_up_again_ends_in_the_same_bits(stage: str, runs: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    run(tiny(stage, runs, f"output={broken}", "steps=2"), quiet=True)
    run(tiny(stage, runs, f"output={broken}"), quiet=True)
    assert list_checkpoints(broken / "checkpoints")[-1].name == "step-00000004"
    same_weights(runs / stage, broken)


def test_a_run_may_be_calmed(runs: Path, tmp_path: Path) -> None:
    words = ("autoencoder", tmp_path)
    run(tiny(*words, "steps=2"), quiet=True)
    run(tiny(*words, "optimizer.learning_rate=1e-4"), quiet=True)
    assert checkpoint_step(list_checkpoints(tmp_path / "autoencoder" / "checkpoints")[-1]) == 4


def test_a_base_keeps_its_own_shift(runs: Path, tmp_path: Path) -> None:
    base = LatentShiftPipeline.from_pretrained(runs / "image" / "model")
    base.set_shift({"padding": "circular"})
    base.save_pretrained(tmp_path / "loop")
    words = ("video", runs, f"model={tmp_path}/loop", f"data.latents={tmp_path}/latents")
    assert VideoStage(tiny(*words), CPU).pipeline.config.shift["padding"] == "circular"
    assert VideoStage(tiny(*words, "shift.fold=4"), CPU).pipeline.config.shift["fold"] == 4
    base.set_shift(None)
    base.save_pretrained(tmp_path / "loop")
    with pytest.raises(ValueError, match="method=latent-shift or method=latent-vdm or method=none"):
        VideoStage(tiny(*words), CPU)


def test_the_baseline_is_trained_by_the_same_recipe(runs: Path, tmp_path: Path) -> None:
    words = ("video", runs, f"output={tmp_path}/vdm", "method=latent-vdm")
    run(tiny(*words, "steps=2"), quiet=True)
    run(tiny(*words), quiet=True)
    run(tiny("video", runs, f"output={tmp_path}/whole", "method=latent-vdm"), quiet=True)
    same_weights(tmp_path / "vdm", tmp_path / "whole")
    trained = load_file(list_checkpoints(tmp_path / "vdm" / "checkpoints")[-1] / "weights.safetensors")
    assert any(key.startswith("temporal.") and value.any() for key, value in trained.items() if "to_out" in key)
    pipeline = LatentShiftPipeline.from_pretrained(tmp_path / "vdm" / "model")
    assert pipeline.method == "latent-vdm" and pipeline.config.shift is None
    stock = UNet2DConditionModel.from_pretrained(tmp_path / "vdm" / "model" / "unet")
    assert list(stock.state_dict()) == list(pipeline.unet.state_dict())
    run(tiny("video", runs, f"output={tmp_path}/none", "method=none"), quiet=True)
    assert LatentShiftPipeline.from_pretrained(tmp_path / "none" / "model").method == "none"
    with pytest.raises(ValueError, match="shift is of method latent-shift, and method is none"):
        tiny("video", runs, "method=none", "shift.fold=4")
    further = ("video", runs, f"model={tmp_path}/vdm", f"output={tmp_path}/further")
    for method in ("latent-shift", "none"):
        with pytest.raises(ValueError, match=f"has temporal layers, which method={method} would leave out"):
            run(tiny(*further, f"method={method}"), quiet=True)
    with pytest.raises(ValueError, match=r"shift is of method latent-shift, and in .*vdm frames meet by latent-vdm"):
        run(tiny(*further, "shift.fold=4"), quiet=True)
    assert not (tmp_path / "further").exists()


def test_validation_is_the_same_question_every_time(runs: Path, tmp_path: Path) -> None:
    words = (
        "video",
        runs,
        "validation={every: 2, clips: 3, bands: 2, data: {source: sprites, options: {clips: 5, seed: 9}}}",
    )
    for name, rate in (("still", "1e-12"), ("moving", "1e-2")):
        settings = (f"output={tmp_path}/{name}", f"optimizer={{learning_rate: {rate}, warmup_steps: 0}}")
        run(tiny(*words, *settings, "steps=2"), quiet=True)
        run(tiny(*words, *settings), quiet=True)
    still, moving = (
        [json.loads(line) for line in (tmp_path / name / "validation.jsonl").read_text().splitlines()]
        for name in ("still", "moving")
    )
    assert [line["step"] for line in still] == [2, 4]
    assert set(still[0]) == {"step", "asked", "error", "error_0_499", "error_500_999"}
    assert still[0]["error"] == pytest.approx((still[0]["error_0_499"] + still[0]["error_500_999"]) / 2)
    assert still[0]["error"] == pytest.approx(still[1]["error"], rel=1e-4)  # nothing is drawn anew
    assert moving[0]["error"] != pytest.approx(moving[1]["error"], rel=1e-4)


def test_the_best_step_is_kept_and_becomes_the_model(runs: Path, tmp_path: Path) -> None:
    words = ["video", runs, "validation={every: 1, clips: 2, bands: 2}", f"output={tmp_path}/run", "save_every=100"]
    words += [
        "optimizer={learning_rate: 3e-1, warmup_steps: 0}",
        "ema_decay=0",
        "keep_checkpoints=1",
        "weights=float32",
    ]
    run(tiny(*words), quiet=True)
    told = [json.loads(line) for line in (tmp_path / "run" / "validation.jsonl").read_text().splitlines()]
    best = min(told, key=lambda line: line["error"])["step"]
    assert best < 4  # such a rate spoils it
    kept = tmp_path / "run" / "checkpoints" / f"step-{best:08d}"
    last, expected = (load_file(kept.with_name(f"step-{step:08d}") / "average.safetensors") for step in (4, best))

    def exported() -> dict[str, torch.Tensor]:
        return load_file(tmp_path / "run" / "model" / "unet" / "diffusion_pytorch_model.safetensors")

    assert all(torch.equal(value, last[f"unet.{name}"]) for name, value in exported().items())
    run(tiny(*words, "export_from=best"), quiet=True)  # the same run again, ended otherwise
    assert all(torch.equal(value, expected[f"unet.{name}"]) for name, value in exported().items())
    with pytest.raises(ValueError, match="export_from is best, and nothing says which step is; set validation"):
        tiny("video", runs, "export_from=best")


def test_an_error_that_is_no_number_or_of_another_question_is_not_the_best(tmp_path: Path) -> None:
    settings = ValidationSettings(every=1, clips=2)
    asked = question_of(settings, ["digest"])
    assert asked != question_of(settings, ["of other data"])
    here, there, other = (
        ValidationSettings.model_validate({"clips": 2, "data": {"source": name, "seconds": seconds}})
        for name, seconds in (("here", 2.0), ("there", 2.0), ("here", 1.0))
    )
    assert question_of(here, ["digest"]) == question_of(there, ["digest"]) != question_of(other, ["digest"])
    assert (
        asked
        == question_of(ValidationSettings(every=7, clips=2), ["digest"])
        != question_of(ValidationSettings(clips=3), ["digest"])
    )
    lines = [(1, float("nan"), asked), (2, 0.5, asked), (3, 0.4, asked), (4, 0.1, "another"), (5, 0.2, asked)]
    (tmp_path / "validation.jsonl").write_text(
        "".join(json.dumps({"step": step, "error": error, "asked": of}) + "\n" for step, error, of in lines)
    )
    assert best_step(tmp_path, asked) is None  # none has a checkpoint
    for step in (1, 2, 3):
        (tmp_path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    assert best_step(tmp_path, asked) == 3


def test_a_best_step_that_is_asked_for_late_is_measured(runs: Path, tmp_path: Path) -> None:
    words = ["video", runs, f"output={tmp_path}/run"]
    run(tiny(*words), quiet=True)
    run(tiny(*words, "validation={every: 1, clips: 1, bands: 1}", "export_from=best"), quiet=True)
    (line,) = (tmp_path / "run" / "validation.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 4


def test_what_a_look_lacks_is_made_up_for(runs: Path, tmp_path: Path) -> None:
    words = ["video", runs, f"output={tmp_path}/run", "validation={every: 2, clips: 1, bands: 1}", "sample_every=2"]
    run(tiny(*words, "steps=2"), quiet=True)
    picture = tmp_path / "run" / "samples" / "step-00000002.png"
    picture.unlink()
    log = tmp_path / "run" / "validation.jsonl"
    told = log.read_text()
    log.write_text("")
    run(tiny(*words), quiet=True)
    assert picture.exists() and log.read_text().startswith(told)


def test_moments_of_eight_bits_survive(runs: Path, tmp_path: Path) -> None:
    base = LatentShiftPipeline.from_pretrained(runs / "image" / "model")
    config = {**base.unet.config, "block_out_channels": (16, 16, 32)}  # what has less than 4096 weights keeps 32 bits
    wider = type(base.unet).from_config(config)
    LatentShiftPipeline(**{**base.components, "unet": wider}).save_pretrained(tmp_path / "base")
    words = ["video", runs, "optimizer.kind=adamw_8bit", f"model={tmp_path}/base"]
    with pytest.raises(ValueError, match="adamw_8bit does not go with"):
        tiny(*words)
    words.append("compute.channels_last=false")
    run(tiny(*words, f"output={tmp_path}/whole"), quiet=True)
    run(tiny(*words, f"output={tmp_path}/broken", "steps=2"), quiet=True)
    kept = load_file(tmp_path / "broken" / "checkpoints" / "step-00000002" / "optimizer.safetensors")
    assert any(value.dtype == torch.uint8 for value in kept.values())
    run(tiny(*words, f"output={tmp_path}/broken"), quiet=True)
    for group in ("weights", "optimizer"):
        whole, broken = (
            load_file(tmp_path / name / "checkpoints" / "step-00000004" / f"{group}.safetensors")
            for name in ("whole", "broken")
        )
        assert whole.keys() == broken.keys() and all(torch.equal(whole[name], broken[name]) for name in whole)


def test_dropout_is_a_function_of_the_step(runs: Path, tmp_path: Path) -> None:
    words = ["video", runs, "lora={rank: 2, dropout: 0.5}", "exports=[model]"]
    run(tiny(*words, f"output={tmp_path}/whole"), quiet=True)
    run(tiny(*words, f"output={tmp_path}/broken", "steps=2"), quiet=True)
    run(tiny(*words, f"output={tmp_path}/broken"), quiet=True)
    whole, broken = (
        load_file(tmp_path / name / "checkpoints" / "step-00000004" / "weights.safetensors")
        for name in ("whole", "broken")
    )
    assert whole.keys() == broken.keys() and all(torch.equal(whole[name], broken[name]) for name in whole)


def test_trackers_that_are_not_installed_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trackers names wandb, which is not installed: pip install wandb"):
        run(tiny("autoencoder", tmp_path, "trackers=[wandb]"), quiet=True)


class Failing(GeneralTracker):
    """A tracker whose server is gone after the first thing that it is told."""

    name = "failing"
    requires_logging_directory = False

    def __init__(self) -> None:
        super().__init__()
        self.told = 0

    @property
    def tracker(self) -> None:
        return None

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        self.told += 1
        if self.told > 1:
            raise ConnectionError("no route\nto host")


def test_a_tracker_that_fails_is_told_no_more_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny("autoencoder", tmp_path)
    (tmp_path / "autoencoder").mkdir()
    accelerator = accelerator_for(recipe)
    with Journal(recipe, 0, None, accelerator, quiet=True) as journal:
        accelerator.trackers.insert(0, failing := Failing())
        for step in (1, 2, 3):
            journal.note(step, Learned({"loss": 1.0}, dropped=False), {}, 1.0)
        assert [each.name for each in accelerator.trackers] == ["tensorboard"]
    assert failing.told == 2
    assert capsys.readouterr().err == "warning: failing is told no more, since it failed: no route to host\n"
    assert len((tmp_path / "autoencoder" / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(("capability", "told"), [("AVX2", 1), ("AVX512", 0)])
def test_a_cpu_that_is_slow_in_bf16_is_told_of(
    capability: str, told: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    for precision in ("bf16", "fp32"):
        run(tiny("autoencoder", tmp_path / precision, "steps=1", f"compute.precision={precision}"))
    assert capsys.readouterr().err.count("this CPU has no instructions for bf16") == told


def test_a_tracker_that_cannot_begin_is_named(tmp_path: Path) -> None:
    recipe = tiny("autoencoder", tmp_path)
    (tmp_path / "autoencoder").mkdir()
    (tmp_path / "autoencoder" / "tensorboard").write_text("a file")
    with pytest.raises(ValueError, match=r"trackers \(tensorboard\) can't begin: "):
        Journal(recipe, 0, None, accelerator_for(recipe), quiet=True)


def test_a_folder_with_another_recipes_run_is_refused(runs: Path) -> None:
    with pytest.raises(ValueError, match=r"kl_weight was .* and is now"):
        run(tiny("autoencoder", runs, "kl_weight=0.5"), quiet=True)
    with pytest.raises(ValueError, match="trained for 4 steps already, more than the 3 asked for"):
        run(tiny("autoencoder", runs, "steps=3"), quiet=True)
    for word, what in (
        ("data.options.clips=7", "of 6 rows, where there are 7 now"),
        ("data.options.seed=1", "sprites://v1/1/0 is another row than it was"),
        ("data.views=2", "views was"),
    ):
        with pytest.raises(ValueError, match=f"holds clips of another making: {what}"):
            run(tiny("video", runs, word, f"output={runs}/other"), quiet=True)


def test_a_run_whose_rate_was_falling_is_not_made_longer(tmp_path: Path) -> None:
    rate = "optimizer={learning_rate: 1e-3, warmup_steps: 1, decay_steps: 2}"
    run(tiny("autoencoder", tmp_path, rate), quiet=True)
    kept = list_checkpoints(tmp_path / "autoencoder" / "checkpoints")
    assert [checkpoint_step(path) for path in kept] == [2, 3, 4]  # the last one before the fall is always kept
    with pytest.raises(ValueError, match="falling already towards its 4 steps"):
        run(tiny("autoencoder", tmp_path, rate, "steps=6"), quiet=True)
    for later in kept[1:]:
        shutil.rmtree(later)
    run(tiny("autoencoder", tmp_path, rate, "steps=6"), quiet=True)


def test_a_run_does_not_write_over_what_it_begins_from(runs: Path) -> None:
    for base in (runs / "image", runs / "image" / "model"):
        recipe = tiny("video", runs, f"model={base}", f"output={runs}/image")
        with pytest.raises(ValueError, match="image holds the model that the run begins from"):
            run(recipe, quiet=True)


def test_a_base_that_has_changed_is_refused(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "image", tmp_path / "image")
    words = ("video", tmp_path, f"data.latents={runs}/latents", "train_text_encoder=true")
    run(tiny(*words, "steps=2"), quiet=True)
    file = tmp_path / "image" / "model" / "bert" / "model.safetensors"
    tensors = load_file(file)
    save_file({name: value + 1 for name, value in tensors.items()}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="began with another base than what is named now"):
        run(tiny(*words), quiet=True)
    run(tiny(*words, f"model={runs}/image"), quiet=True)  # what it began with lies elsewhere now


def test_clips_that_are_encoded_stay_as_they_are_in_another_precision(runs: Path, tmp_path: Path) -> None:
    words = ("video", runs, f"output={tmp_path}/run", f"data.latents={tmp_path}/latents", "data.options.clips=2")
    run(tiny(*words, "steps=2"), quiet=True)
    before = (tmp_path / "latents" / "shard-00000.safetensors").stat().st_mtime_ns
    run(tiny(*words, "compute.precision=bf16"), quiet=True)
    assert (tmp_path / "latents" / "shard-00000.safetensors").stat().st_mtime_ns == before


def test_what_is_logged_is_the_same_wherever_a_run_was_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the means are of five steps, and the newest checkpoint is of the third of them."""
    words = ("steps=8", "save_every=2", "log_every=5")
    run(tiny("autoencoder", tmp_path, *words, f"output={tmp_path}/whole"), quiet=True)
    drawn = AutoencoderStage._batch

    def broken_at_step_4(stage: AutoencoderStage, step: int) -> FrameBatch:
        if step == 4:
            raise KeyboardInterrupt
        return drawn(stage, step)

    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderStage, "_batch", broken_at_step_4)
        with pytest.raises(KeyboardInterrupt):
            run(tiny("autoencoder", tmp_path, *words), quiet=True)
    assert checkpoint_step(list_checkpoints(tmp_path / "autoencoder" / "checkpoints")[-1]) == 3
    run(tiny("autoencoder", tmp_path, *words), quiet=True)
    whole, broken = (read_lines(tmp_path / name / "metrics.jsonl") for name in ("whole", "autoencoder"))
    assert [line["step"] for line in whole] == [line["step"] for line in broken] == [5, 8]
    for one, other in zip(whole, broken, strict=True):
        timed = ("waiting_for_data", "samples_per_second")
        assert {**one, **dict.fromkeys(timed)} == {**other, **dict.fromkeys(timed)}


def test_a_base_with_other_settings_is_another_base(runs: Path, tmp_path: Path) -> None:
    words = ("video", runs, f"output={tmp_path}/run", f"data.latents={tmp_path}/latents", "data.frames=16")
    run(tiny(*words, "steps=2"), quiet=True)
    for what, change in (("shift", {"shift": {"fold": 8}}), ("num_frames", {"num_frames": 8})):
        other = LatentShiftPipeline.from_pretrained(runs / "image" / "model", **change)
        other.save_pretrained(tmp_path / what)
        with pytest.raises(ValueError, match=f"run began with another {what} than what is named now"):
            run(tiny(*words, f"model={tmp_path}/{what}"), quiet=True)
    run(tiny(*words), quiet=True)


def test_new_temporal_layers_are_the_runs_and_not_the_bases(runs: Path, tmp_path: Path) -> None:
    """Another library may draw them differently; a checkpoint holds them."""
    drawn = []
    for seed in (0, 1):
        recipe = tiny("video", runs, f"output={tmp_path}/{seed}", "method=latent-vdm", f"seed={seed}")
        stage = VideoStage(recipe, CPU)
        drawn.append((stage.fingerprint["base"], stage.pipeline.temporal.layers[0].to_q.weight))
    (one, this), (other, that) = drawn
    assert one == other and not torch.equal(this, that)


def test_validation_data_is_written_down_by_the_main_process_and_reported(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = "{source: sprites, options: {clips: 3, seed: 5}, encode: false}"
    validation = f"validation={{every: 2, clips: 2, bands: 2, data: {held_out}}}"
    recipe = tiny("video", runs, f"output={tmp_path}/run", validation)
    run(recipe)
    told = json.loads((tmp_path / "run" / "data.json").read_text())
    assert [each["clips"] for each in told["validation"]] == [3] and told["replaced_in_validation"] == []
    assert "validation: sprites: 3 clips\n" in capsys.readouterr().out
    (manifest,) = (tmp_path / "run" / "validation").rglob("manifest.jsonl")
    before = manifest.stat().st_mtime_ns
    VideoStage(recipe, CPU, rank=1, ranks=2)
    assert manifest.stat().st_mtime_ns == before
    told["replaced_in_validation"] = [{"name": "gone.mp4", "kind": "damaged", "reason": "it is"}]
    (tmp_path / "run" / "data.json").write_text(json.dumps(told))
    assert VideoStage(recipe, CPU).came_across()["replaced_in_validation"] == told["replaced_in_validation"]


def test_what_an_earlier_run_had_replaced_is_not_taken_up_by_a_new_one(runs: Path, tmp_path: Path) -> None:
    recipe = tiny("video", runs, f"output={tmp_path}/run")
    left = {"replaced": [{"name": "gone.mp4", "kind": "damaged", "reason": "it is"}], "short": ["gone.mp4"]}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "data.json").write_text(json.dumps(left))
    (tmp_path / "run" / "recipe.yaml").write_text(dump_recipe(recipe))
    run(recipe, quiet=True)
    told = json.loads((tmp_path / "run" / "data.json").read_text())
    assert told["replaced"] == told["short"] == []


def test_a_full_disk_is_told_of_though_the_report_fails_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    recipe = tiny("autoencoder", tmp_path)
    drawn = AutoencoderStage._batch

    def fill_the_disk_at_step_4(stage: AutoencoderStage, step: int) -> FrameBatch:
        if step == 4:
            monkeypatch.setattr(checkpoint_module, "save_file", full)
            monkeypatch.setattr(saver_module, "atomic_write_text", full)
            monkeypatch.setattr(AutoencoderStage, "came_across", lambda stage: {"replaced": ["news"]})
        return drawn(stage, step)

    monkeypatch.setattr(AutoencoderStage, "_batch", fill_the_disk_at_step_4)
    with pytest.raises(OSError, match=r"the checkpoint of step 4 can't be written .* goes on from .*step-00000003"):
        run(recipe, quiet=True)


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(OSError, match=r"metrics\.jsonl can't be written to .*: it goes on from the newest checkpoint"):
        add_line(tmp_path / "metrics.jsonl", {"step": 1})


def test_a_log_is_cut_back_to_a_step_and_to_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "dropped.jsonl"
    for step in (1, 2, 3):
        add_line(log, {"step": step, "samples": ["a line's \u2028 end, a {brace} in it, and ü"]})
    whole = log.read_text(encoding="utf-8")
    written = log.read_bytes()
    for last in (b"}", "ü".encode()[:1]):  # as an object ends, and within a letter
        log.write_bytes(written[: written.rindex(last, 0, len(written) - 4) + 1])
        assert [line["step"] for line in read_lines(log)] == [1, 2]
    assert [line["step"] for line in read_lines(log)] == [1, 2]
    forget_after(log, 2)
    assert whole.startswith(log.read_text(encoding="utf-8")) and log.read_text(encoding="utf-8").count("\n") == 2
    forget_after(log, 0)
    assert log.read_text() == "" and read_lines(tmp_path / "none.jsonl") == []


def test_a_disk_that_cannot_lock_files_is_told_of_and_nothing_stays_of_a_refusal(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unable(path: Path) -> None:
        path.touch()
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(folder_module, "open_locked", unable)
    run(tiny("autoencoder", tmp_path, "steps=1"), quiet=True)
    assert capsys.readouterr().err.count("can't be locked (No locks available): see to it that no other run") == 1
    sign = tmp_path / "autoencoder" / ".running"
    assert not sign.exists()
    sign.touch()  # another run's, which could lock it
    run(tiny("autoencoder", tmp_path, "steps=1"), quiet=True)
    assert sign.exists()
    with pytest.raises(ValueError, match="the model gone/model cannot be loaded"):
        run(tiny("video", runs, "model=gone/model", f"output={tmp_path}/gone/run"), quiet=True)
    assert not (tmp_path / "gone").exists()


def test_a_folder_with_other_things_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "autoencoder" / "model").mkdir(parents=True)
    (tmp_path / "autoencoder" / ".0123.part").touch()  # a kill may leave such a thing before there is a recipe
    with pytest.raises(ValueError, match=r"autoencoder holds model, and no recipe\.yaml that says of which run"):
        run(tiny("autoencoder", tmp_path), quiet=True)
    assert sorted(path.name for path in (tmp_path / "autoencoder").iterdir()) == [".0123.part", "model"]
    (tmp_path / "autoencoder" / "model").rmdir()
    run(tiny("autoencoder", tmp_path), quiet=True)


def test_a_samples_draws_are_not_those_that_drew_the_sample() -> None:
    # The same generator would tie a frame's time to the motion's word.
    own = np.random.default_rng([0, 0, 5]).integers(2**32, size=8)
    assert not np.array_equal(rng_for(0, 0, 5).integers(2**32, size=8), own)


def test_a_loss_that_is_never_finite_ends_the_run_and_moves_nothing(tmp_path: Path) -> None:
    words = ("kl_weight=1e39", "max_dropped_steps=2", "save_every=1")
    with pytest.raises(ValueError, match=r"not finite in 3 steps in a row, the last of them step 3 .* it begins anew"):
        run(tiny("autoencoder", tmp_path, *words), quiet=True)
    folder = tmp_path / "autoencoder"
    lines = [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3] and lines[1]["samples"] == ["sprites 2", "sprites 3"]
    assert list_checkpoints(folder / "checkpoints") == []  # nothing was learned that could be lost


def test_a_run_that_diverges_keeps_the_checkpoints_from_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = AutoencoderStage._batch

    def spoilt_from_step_3(stage: AutoencoderStage, step: int) -> FrameBatch:
        batch = drawn(stage, step)
        return batch if step < 3 else replace(batch, frames=batch.frames * torch.nan)

    words = ("max_dropped_steps=2", "save_every=1", "keep_checkpoints=2", "steps=9")
    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderStage, "_batch", spoilt_from_step_3)
        with pytest.raises(ValueError, match=r"the last of them step 5 .* it goes on from step 2 in"):
            run(tiny("autoencoder", tmp_path, *words), quiet=True)
    kept = list_checkpoints(tmp_path / "autoencoder" / "checkpoints")
    assert [checkpoint_step(path) for path in kept] == [1, 2]
    run(tiny("autoencoder", tmp_path, *words), quiet=True)
    run(tiny("autoencoder", tmp_path, *words, f"output={tmp_path}/whole"), quiet=True)
    same_weights(tmp_path / "autoencoder", tmp_path / "whole")


def test_the_last_step_is_kept_though_it_was_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = AutoencoderStage._batch

    def spoilt_at_the_end(stage: AutoencoderStage, step: int) -> FrameBatch:
        batch = drawn(stage, step)
        return batch if step < 4 else replace(batch, frames=batch.frames * torch.nan)

    monkeypatch.setattr(AutoencoderStage, "_batch", spoilt_at_the_end)
    run(tiny("autoencoder", tmp_path, "save_every=3"), quiet=True)
    three, four = (load_checkpoint(path) for path in list_checkpoints(tmp_path / "autoencoder" / "checkpoints"))
    assert (three.step, four.step, four.values["dropped_in_a_row"]) == (3, 4, 1)
    for name in ("weights", "average"):
        assert all(torch.equal(value, four.tensors[name][key]) for key, value in three.tensors[name].items())


def test_samples_that_are_not_finite_are_told_of_and_end_nothing(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "image", tmp_path / "image")
    file = tmp_path / "image" / "model" / "vqvae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["decoder.conv_out.bias"] += torch.inf  # training has no use for the decoder
    save_file(tensors, file, metadata={"format": "pt"})
    run(tiny("video", tmp_path, "data.options.clips=2"), quiet=True)
    told = capsys.readouterr().err
    assert told.count("warning: there are no samples of step") == 2  # steps 3 and 4
    assert "the autoencoder made values that are not finite" in told
    assert (tmp_path / "video" / "model").is_dir() and not list((tmp_path / "video" / "samples").glob("*"))


def test_a_network_that_is_cut_in_two_is_not_trained(tmp_path: Path) -> None:
    @dataclass
    class Numbers:
        values: torch.Tensor

    class Cut(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.below, self.above = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)

        def forward(self, batch: Numbers) -> dict[str, torch.Tensor]:
            return {"loss": self.above(self.below(batch.values).detach()).square().mean()}

    class Stage:
        objective = Cut()

        fingerprint: dict[str, str] = {}  # noqa: RUF012
        question = None

        def batches(self, step: int) -> Iterator[Numbers]:
            while True:
                yield Numbers(torch.ones(2, 4))

        def listed(self) -> dict[str, str]:
            return {}

        came_across = listed

    recipe = tiny("autoencoder", tmp_path)
    with pytest.raises(RuntimeError, match=r"no gradient reaches 2 of 4 weights \(below.weight"):
        fit(Stage(), recipe, accelerator_for(recipe), quiet=True)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_compiled_unet_has_the_gradients_of_the_eager_one() -> None:
    # torch 2.13 gave none below an upsampler, under CPU autocast: see compile_for_training.
    unet = install(tiny_unet())
    latents, text = torch.randn(1, 3, 4, 8, 8), torch.randn(1, 5, unet.config.cross_attention_dim)

    def gradients() -> dict[str, torch.Tensor]:
        unet.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            denoise(unet, latents, torch.tensor([500]), text).float().square().mean().backward()
        return {name: value.grad.clone() for name, value in unet.named_parameters()}

    eager = gradients()
    compile_for_training(unet)
    for name, gradient in gradients().items():
        assert (gradient - eager[name]).norm() <= 0.3 * eager[name].norm(), name  # bf16, summed in another order


def test_batches_are_a_function_of_the_step_and_never_held_out(runs: Path) -> None:
    one = VideoStage(tiny("video", runs), CPU)
    other = VideoStage(tiny("video", runs), CPU)
    *_, fifth = itertools.islice(one.batches(1), 5)
    again = batch_of(other, 5)
    for name in ("latents", "noise", "timesteps", "token_ids"):
        assert torch.equal(getattr(fifth, name), getattr(again, name)), name
    assert fifth.names() == again.names() and len(fifth.names()) == 2
    assert fifth.latents.shape == (2, 16, 4, 8, 8)
    image = batch_of(ImageStage(tiny("image", runs), CPU), 2)
    assert image.latents.shape == (2, 1, 4, 8, 8) and not torch.equal(image.latents, image.noise)
    source = Sprites(size=32)
    assert not any(source.describe(index)[0].triple in held_out_triples() for index in range(500))


def _motion_tokens(stage: ImageStage | VideoStage) -> set[int]:
    words = stage.pipeline.sentences.tokenize(["moving bouncing circling growing shrinking spinning standing"])[0, 0]
    return set(words.tolist()) - {0, 2, 3}  # padding, [CLS] and [SEP]


def test_image_captions_come_with_and_without_motion_and_sometimes_not_at_all(runs: Path) -> None:
    stage = ImageStage(tiny("image", runs, "batch_size=200"), CPU)
    tokens = batch_of(stage, 1).token_ids[:, 0]
    motion = _motion_tokens(stage)
    lengths = (tokens != 0).sum(dim=1)
    with_motion = torch.tensor([bool(set(row.tolist()) & motion) for row in tokens])
    empty = lengths == 2  # [CLS] [SEP]
    assert 0.04 < empty.float().mean() < 0.18  # a tenth of 200
    assert 0.3 < with_motion.float().mean() < 0.6  # half of the rest
    assert not with_motion[empty].any()


def test_a_share_of_the_video_stages_steps_learns_images(runs: Path) -> None:
    stage = VideoStage(tiny("video", runs, "image_share=0.3", "motion_captions=0", "caption_dropout=0"), CPU)
    takes = [stage.take(step) for step in range(1, 201)]
    shapes = [(take.samples, take.num_frames) for take in takes]
    assert set(shapes) == {(2, 16), (32, 1)}  # the same number of frames either way
    assert shapes.count((32, 1)) == 60
    for shape in set(shapes):  # neither leaves any sample out
        starts = [take.start for take, found in zip(takes, shapes, strict=True) if found == shape]
        assert starts == list(range(0, shape[0] * len(starts), shape[0]))
    motion = _motion_tokens(stage)
    for frames in (1, 16):
        batch = batch_of(stage, 1 + next(k for k, (_, found) in enumerate(shapes) if found == frames))
        assert batch.latents.shape[:2] == (32 // frames, frames)
        assert [bool(set(row[0].tolist()) & motion) for row in batch.token_ids] == [frames > 1] * len(batch.token_ids)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_stage_predicts_what_its_recipe_says_and_else_what_its_base_does(kind: str, runs: Path) -> None:
    image = ImageStage(tiny("image", runs, f"prediction_type={kind}"), CPU)
    assert image.objective.scheduler.config.prediction_type == kind
    video = VideoStage(tiny("video", runs, f"prediction_type={kind}"), CPU)
    assert video.objective.scheduler.config.prediction_type == kind
    base = json.loads((runs / "image" / "model" / "scheduler" / "scheduler_config.json").read_text())
    untold = VideoStage(tiny("video", runs, "prediction_type=null"), CPU)
    assert untold.pipeline.scheduler.config.prediction_type == base["prediction_type"]


def test_the_autoencoder_is_scaled_to_the_standard_deviation_that_is_asked_for(tmp_path: Path) -> None:
    scales = []
    for number, std in enumerate((1.0, 0.25)):
        stage = AutoencoderStage(tiny("autoencoder", tmp_path, f"latent_std={std}"))
        stage.export(tmp_path / str(number))
        scales.append(AutoencoderKL.from_pretrained(tmp_path / str(number) / "model").config.scaling_factor)
    with torch.no_grad():
        spread = stage.autoencoder.encode(stage._preview_frames(64)).latent_dist.mean.std()
    assert 0.2 < spread * scales[1] < 0.3
    assert scales[0] == pytest.approx(4 * scales[1], rel=1e-3)


def test_sampled_moments_have_the_posteriors_mean_and_spread() -> None:
    mean, log_variance = torch.full((1, 2, 1, 1), 3.0), torch.full((1, 2, 1, 1), 2 * np.log(0.5))
    noise = torch.randn(20_000, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    latents = sample_moments(torch.cat([mean, log_variance], dim=1).expand(20_000, -1, -1, -1), noise, 2.0)
    assert abs(latents.mean().item() - 6.0) < 0.03 and abs(latents.std().item() - 1.0) < 0.02


def test_the_learning_rate_warms_up_and_comes_down() -> None:
    settings = OptimizerSettings(learning_rate=1.0, warmup_steps=10, schedule="cosine")
    assert [learning_rate(settings, step, 110) for step in (1, 5, 10)] == [0.1, 0.5, 1.0]
    assert learning_rate(settings, 60, 110) == pytest.approx(0.505)
    assert learning_rate(settings, 110, 110) == pytest.approx(0.01)
    constant = OptimizerSettings(learning_rate=1.0, warmup_steps=10, decay_steps=20)
    assert [learning_rate(constant, step, 110) for step in (5, 50, 91, 101, 110)] == [0.5, 1.0, 1.0, 0.5, 0.05]


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_hold_and_survive_being_printed(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    (tmp_path / "again.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "again.yaml") == recipe


def test_overrides_go_down_levels() -> None:
    recipe = load_recipe(
        RECIPES / "sprites-video.yaml", ["optimizer.learning_rate=1e-5", "data={source: sprites, views: 3}", "seed=7"]
    )
    assert (recipe.optimizer.learning_rate, recipe.data[0].views, recipe.seed) == (1e-5, 3, 7)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lerning_rate=1", "lerning_rate: there is no such setting"),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate: must be more than 0.0, not -1"),
        ("steps=many", "steps: must be a whole number, not 'many'"),
        ("stage=sound", "'stage' must be one of 'autoencoder', 'image', 'video', not 'sound'"),
        ("stage=", "'stage' must be one of"),
        ("optimizer=3", "optimizer: must be a group of settings, as {name: value}, not 3"),
        ("shift=3", "shift: must be a group of settings, as {name: value}, not 3"),
        ("optimizer.betas=[0.9, 1]", "optimizer.betas.1: must be less than 1.0, not 1"),
        ("seed=9223372036854775808", "seed: must be less than 9223372036854775808"),
        ("data=[]", "data: must hold 1 or more, not 0"),
        ("validation={data: []}", "validation.data: must hold 1 or more, not 0"),
        ("data={weight: 2}", "does not hold: data.0.source: is to be given"),
        ("steps", "not of the form key=value"),
        ("steps.more=1", "steps is a single value"),
        ("data=[", "is not YAML"),
        ("shift.fold=2", "shift: the shift's fold must be"),
        ("shift.pad=2", "shift: the shift has the settings"),
        (
            "steps=100",
            "does not hold: optimizer.warmup_steps 200 and optimizer.decay_steps 5000 are more than the 100 steps",
        ),
        ("sample_steps=2000", "sample_steps: must be 1000 or less, not 2000"),
        ("model=null", "model: must be a word or a sentence, not nothing"),
        ("data.sorce=x", "data.0.sorce: there is no such setting"),
    ],
)
def test_settings_that_do_not_hold_are_named(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load_recipe(RECIPES / "sprites-video.yaml", [override])


def test_recipes_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read the recipe"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ValueError, match="must be a list of"):
        load_recipe(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(ValueError, match="is not YAML"):
        load_recipe(tmp_path / "broken.yaml")
    levels = yaml.safe_load((RECIPES / "sprites-image.yaml").read_text())
    levels["unet"]["attention"] = [True]
    (tmp_path / "levels.yaml").write_text(yaml.safe_dump(levels))
    with pytest.raises(ValueError, match="channels names 3 levels and attention 1"):
        load_recipe(tmp_path / "levels.yaml")

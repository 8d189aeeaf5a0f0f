"""A LoRA, or the difference of all weights, in a small file that turns the base into the video model."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from latentshift import LatentShiftPipeline, ShiftConfig
from latentshift.models.adapters.video_adapter import Lora, add_lora, load_adapter, save_lora
from latentshift.training.distributed import make_accelerator
from latentshift.training.recipe import VideoRecipe
from latentshift.training.recipe_file import load_recipe
from latentshift.training.run import run
from latentshift.training.stages.video import VideoStage
from latentshift.training.train_state import TrainState

RECIPE = Path(__file__).parent.parent / "recipes" / "finetune-folder.yaml"
LORA = "lora={rank: 4}"
OTHER_SHIFT = ("shift.padding=replicate", "shift.place=block", "shift.blocks=decoder")


def recipe_for(base: Path, output: Path, *more: str) -> VideoRecipe:
    words = [
        f"output={output}",
        f"model={base}",
        "data={source: sprites, options: {clips: 4}}",
        "steps=3",
        "batch_size=2",
        "train_text_encoder=false",
        "ema_decay=0.5",
        "optimizer={learning_rate: 1e-2, warmup_steps: 0}",
        "num_frames=4",
        "sample_steps=2",
        "sample_prompts=[red]",
        "trackers=[]",
        "weights=float32",
        "compute={device: cpu}",
    ]
    return load_recipe(RECIPE, [*words, *more])


def tune(base: Path, output: Path, *more: str) -> None:
    run(recipe_for(base, output, *more), quiet=True)


def weights(pipeline: LatentShiftPipeline) -> dict[str, torch.Tensor]:
    parts = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
    if pipeline.temporal is not None:
        parts["temporal"] = pipeline.temporal
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}


def check_same(one: LatentShiftPipeline, other: LatentShiftPipeline) -> None:
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        torch.testing.assert_close(value, theirs[name], rtol=2e-3, atol=2e-4)  # the files are float16
    for name in ("shift", "num_frames", "fps", "guidance_scale", "noise_share"):
        assert one.config[name] == other.config[name]
    assert one.method == other.method and one.sample_size == other.sample_size


@pytest.mark.parametrize(
    "words", [("method=latent-shift",), ("method=latent-shift", *OTHER_SHIFT), ("method=latent-vdm",)]
)
def test_base_and_file_are_the_model(words: tuple[str, ...], sd1_folder: Path, tmp_path: Path) -> None:
    tune(sd1_folder, tmp_path, *words, LORA, "exports=[lora, delta, model]", "size=32")
    tuned = LatentShiftPipeline.from_pretrained(tmp_path / "model")
    assert tuned.method == words[0].removeprefix("method=")
    other = ShiftConfig(padding="replicate", place="block", blocks="decoder")
    expected = other if OTHER_SHIFT[0] in words else ShiftConfig()
    assert tuned.config.shift is None or tuned.config.shift == expected.to_dict()
    before, after = weights(LatentShiftPipeline.from_pretrained(sd1_folder)), weights(tuned)
    moved = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert any("conv1" in name for name in moved) and any("attn1.to_q" in name for name in moved)
    assert not any("norm" in name for name in moved)
    for kind in ("lora", "delta"):
        again = LatentShiftPipeline.from_pretrained(sd1_folder)
        load_adapter(again, tmp_path / f"{kind}.safetensors", kind)
        check_same(again, tuned)
        assert not any("lora" in name for name in again.unet.state_dict())
    with safe_open(tmp_path / "lora.safetensors", framework="pt") as file:
        content = json.loads(file.metadata()["latentshift"])
    del content["settings"]["sample_size"]  # as in the first files
    old = tmp_path / "old.safetensors"
    save_file(load_file(tmp_path / "lora.safetensors"), old, metadata={"latentshift": json.dumps(content)})
    again = LatentShiftPipeline.from_pretrained(sd1_folder)
    size = again.sample_size
    load_adapter(again, old)
    assert again.sample_size == size and again.method == tuned.method and again.config.shift == tuned.config.shift


def test_a_lora_run_resumes_and_writes_the_file_alone(cli: Any, sd1_folder: Path, tmp_path: Path) -> None:
    output, words = tmp_path / "run", (LORA, *OTHER_SHIFT, "noise_share=2")
    tune(sd1_folder, output, *words, "steps=2", "save_every=2")
    tune(sd1_folder, output, *words, "save_every=2")
    tune(sd1_folder, tmp_path / "whole", *words)
    one, other = (folder / "lora.safetensors" for folder in (output, tmp_path / "whole"))
    assert one.read_bytes() == other.read_bytes()
    with safe_open(one, framework="pt") as file:
        assert set(file.metadata()) == {"latentshift"}  # the order of several would be one of chance
        assert json.loads(file.metadata()["latentshift"])["settings"]["noise_share"] == 2
    assert not (output / "model").exists()
    made = ("generate", "red", "--model", sd1_folder, "--steps", 2, "--seed", 1, "--frames", 3)
    assert cli(*made, "--lora", output / "lora.safetensors", "-o", "tuned.gif")[0] == 0
    assert cli(*made, "-o", "base.gif")[0] == 0
    assert Path("tuned.gif").read_bytes() != Path("base.gif").read_bytes()


def test_a_delta_restores_all_weights(cli: Any, sd1_folder: Path, tmp_path: Path) -> None:
    tune(sd1_folder, tmp_path, "exports=[delta, model]", "train_text_encoder=true")
    again = LatentShiftPipeline.from_pretrained(sd1_folder)
    load_adapter(again, tmp_path / "delta.safetensors")
    check_same(again, LatentShiftPipeline.from_pretrained(tmp_path / "model"))
    words = ("--model", sd1_folder, "--delta", tmp_path / "delta.safetensors", "--dtype", "bfloat16")
    assert cli("generate", "red", "--steps", 2, "--frames", 3, "-o", "clip.gif", *words)[0] == 0


def test_files_that_do_not_fit_are_refused(cli: Any, sd1_folder: Path, sdxl_folder: Path, tmp_path: Path) -> None:
    tune(sd1_folder, tmp_path, "lora={rank: 4, targets: [to_k]}", "exports=[lora, delta, model]")
    lora, delta = tmp_path / "lora.safetensors", tmp_path / "delta.safetensors"
    save_file({"unet.x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(lora.read_bytes()[:40])
    with safe_open(lora, framework="pt") as file:
        content = json.loads(file.metadata()["latentshift"])
    content["lora"]["targets"] = ["to_q"]
    save_file(load_file(lora), tmp_path / "other.safetensors", metadata={"latentshift": json.dumps(content)})
    for model, option, path, message in (
        (sd1_folder, "--lora", delta, "is a delta and no lora"),
        (sd1_folder, "--lora", tmp_path / "foreign.safetensors", "is no LoRA: its tensor unet.x"),
        (sd1_folder, "--lora", tmp_path / "broken.safetensors", "can't be read"),
        (sd1_folder, "--lora", tmp_path / "absent.safetensors", "there is no file"),
        (sd1_folder, "--lora", tmp_path / "other.safetensors", "another kind of base"),
        (sdxl_folder, "--lora", lora, "is a LoRA of another model than this one: down_blocks_0_attentions_0_"),
        (sdxl_folder, "--delta", delta, "is of another kind of model than this one: its unet has down_blocks_0_"),
        (tmp_path / "model", "--delta", delta, "made of another base"),
    ):
        code, _, err = cli("generate", "red", "--model", model, option, path, "-o", "clip.gif")
        assert code == 1 and message in err.splitlines()[-1] and "Traceback" not in err, err


def test_what_a_file_says_of_itself_is_checked(sd1_folder: Path, tmp_path: Path) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(sd1_folder)
    pipeline.set_method("latent-vdm")
    lora = Lora(rank=2, targets=("to_q",))
    add_lora(pipeline.unet, lora)
    save_lora(pipeline, lora, tmp_path / "lora.safetensors")
    tensors = load_file(tmp_path / "lora.safetensors")
    with safe_open(tmp_path / "lora.safetensors", framework="pt") as file:
        content = json.loads(file.metadata()["latentshift"])
    file = tmp_path / "wrong.safetensors"
    temporal, settings = content["temporal"], content["settings"]
    for change, message in (
        ([1], "must be a group of settings"),
        ({"kind": "both"}, "kind must be one of lora, delta"),
        ({"settings": {**settings, "num_frames": "sixteen"}}, "settings: num_frames must be a whole number"),
        ({"settings": {**settings, "shift": {"fold": 1}}}, "shift: fold must be a whole number"),
        ({"settings": {}}, "settings: num_frames is missing"),
        ({"lora": {**content["lora"], "rank": 10**9}}, "lora: rank must be a whole number"),
        ({"lora": {**content["lora"], "colour": 1}}, "lora: there is no setting 'colour'"),
        ({"temporal": {**temporal, "max_distance": 2**16}}, "is damaged: its temporal layers do not match"),
        ({"temporal": {**temporal, "widths": [2**20] * 4}}, "is damaged: its temporal layers do not match"),
        ({"temporal": {"widths": 3}}, "temporal: heads is missing"),
    ):
        wrong = change if isinstance(change, list) else {**content, **change}
        save_file(tensors, file, metadata={"latentshift": json.dumps(wrong)})
        with pytest.raises(ValueError, match=message) as caught:
            load_adapter(LatentShiftPipeline.from_pretrained(sd1_folder), file)
        assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    save_file(tensors, file, metadata={"latentshift": "[" * 100_000})
    with pytest.raises(ValueError, match="nested more than"):
        load_adapter(pipeline, file)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((LORA, "train_text_encoder=true"), "lora trains the U-Net alone"),
        (("lora={rank: 0}",), "lora.rank"),
        (("exports=[lora]",), "no lora is trained"),
        (
            (LORA, "lora.targets=[to_q, nothing]"),
            "the LoRA's targets name nothing, and no linear or convolution layer of",
        ),
    ],
)
def test_settings_that_do_not_hold(words: tuple[str, ...], message: str, sd1_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        tune(sd1_folder, tmp_path, *words)


def test_the_average_may_lie_on_another_device(sd1_folder: Path, tmp_path: Path) -> None:
    """As far as a CPU can show it: ``cpu:0`` is the CPU, and not equal to it."""
    averages = []
    for device in ("cpu", "cpu:0"):
        recipe = recipe_for(sd1_folder, tmp_path / device)
        stage = VideoStage(recipe, torch.device("cpu"))
        accelerator = make_accelerator(recipe.compute)
        state = TrainState(stage.objective, accelerator, recipe.optimizer, recipe.compute, ema_decay=recipe.ema_decay)
        state.average_device = torch.device(device)
        for batch in islice(stage.batches(1), 2):
            state.step([batch], 1e-2)
        averages.append(state.average.shadow_params)
    assert all(torch.equal(one, other) for one, other in zip(*averages, strict=True))
    assert any(not torch.equal(one, now) for one, now in zip(averages[0], state.trained.values(), strict=True))


def test_memory_may_be_saved_without_changing_what_is_learned(sd1_folder: Path, tmp_path: Path) -> None:
    tune(sd1_folder, tmp_path / "plain")
    tune(sd1_folder, tmp_path / "saving", "compute={device: cpu, gradient_checkpointing: true, ema_device: cpu}")
    one, other = (LatentShiftPipeline.from_pretrained(tmp_path / name / "model") for name in ("plain", "saving"))
    for name, value in weights(one).items():
        torch.testing.assert_close(value, weights(other)[name], rtol=1e-3, atol=1e-4)


def test_the_tensors_of_a_file_are_read_alike_whatever_their_alpha(sd1_folder: Path, tmp_path: Path) -> None:
    """What stock diffusers makes of an exported LoRA is what our loader makes of it, and of the files of before."""
    lora = Lora(rank=4, alpha=10.0, targets=("to_k", "to_out.0", "conv1", "conv2"))
    trained = LatentShiftPipeline.from_pretrained(sd1_folder)
    add_lora(trained.unet, lora)
    torch.manual_seed(0)
    for name, parameter in trained.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    save_lora(trained, lora, tmp_path / "lora.safetensors")
    trained.unet.fuse_lora()
    trained.unet.unload_lora()
    expected = trained.unet.state_dict()

    stock = StableDiffusionPipeline.from_pretrained(sd1_folder)
    base = {name: value.clone() for name, value in stock.unet.state_dict().items()}
    stock.load_lora_weights(tmp_path / "lora.safetensors")
    stock.fuse_lora()
    stock.unload_lora_weights()
    ours = LatentShiftPipeline.from_pretrained(sd1_folder)
    load_adapter(ours, tmp_path / "lora.safetensors")
    moved = 0
    for name, value in expected.items():
        torch.testing.assert_close(stock.unet.state_dict()[name], value, rtol=2e-3, atol=2e-4)  # it is a float16 file
        torch.testing.assert_close(ours.unet.state_dict()[name], stock.unet.state_dict()[name], rtol=1e-5, atol=1e-6)
        moved += not torch.allclose(value, base[name], rtol=2e-3, atol=2e-4)
    assert moved > 8
    # A file of before: alpha is told, and the tensors are as trained.
    with safe_open(tmp_path / "lora.safetensors", framework="pt") as file:
        content = json.loads(file.metadata()["latentshift"])
    content["lora"]["alpha"] = 10.0
    tensors = {
        name: value / 2.5 if "lora_B" in name else value
        for name, value in load_file(tmp_path / "lora.safetensors").items()
    }
    save_file(tensors, tmp_path / "before.safetensors", metadata={"latentshift": json.dumps(content)})
    before = LatentShiftPipeline.from_pretrained(sd1_folder)
    load_adapter(before, tmp_path / "before.safetensors")
    for name, value in expected.items():
        torch.testing.assert_close(before.unet.state_dict()[name], value, rtol=2e-3, atol=2e-4)

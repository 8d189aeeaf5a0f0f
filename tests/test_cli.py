"""The command line as a user meets it: what it makes, what it says, and what it says when something is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from latentshift import LatentShiftPipeline, ShiftConfig
from latentshift.diffusion.samplers import make_sampler
from latentshift.files import remove
from latentshift.models.precision import fast_dtype
from latentshift.video import read_metadata, read_video
from tiny_models import TINY_VDM_PARAMETERS

RECIPES = Path(__file__).parent.parent / "recipes"
OTHER_DTYPE = "float32" if fast_dtype("cpu") == torch.bfloat16 else "bfloat16"  # than --dtype auto


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "clip.webp", "frames"])
def test_generate_writes_every_file_type_with_metadata(cli, model: Path, name: str) -> None:
    code, out, err = cli("generate", "a red star", "--model", model, "--steps", 2, "--seed", 7, "-o", f"new/{name}")
    assert (code, err) == (0, "")
    assert out == f"new/{name}  (seed 7)\n"
    frames, fps = read_video(Path("new") / name)
    assert frames.shape == (4, 16, 16, 3) and fps == 8
    made = read_metadata(Path("new") / name)
    assert (made["prompt"], made["seed"], made["steps"], made["sampler"]) == ("a red star", 7, 2, "DDPMScheduler")


def test_the_same_command_gives_the_same_pixels_and_another_seed_others(cli, model: Path) -> None:
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        assert cli("generate", "red", "--model", model, "--steps", 2, "--seed", seed, "-o", name)[0] == 0
    one, two, three = (read_video(Path(name))[0] for name in ("one", "two", "three"))
    assert np.array_equal(one, two) and not np.array_equal(one, three)


def test_several_prompts_make_several_files_and_a_sheet(cli, model: Path) -> None:
    Path("prompts.txt").write_text("on black\n\nred star\n")
    code, out, _ = cli(
        "generate", "a star", "--prompts-file", "prompts.txt", "--model", model, "--steps", 2, "--seed", 3,
        "-o", "many", "--suffix", ".gif", "--contact-sheet", "sheet.png",
    )  # fmt: skip
    assert code == 0
    files = ["many/a-star-3.gif", "many/on-black-4.gif", "many/red-star-5.gif"]
    assert out.splitlines() == [*(f"{file}  (seed {3 + k})" for k, file in enumerate(files)), "sheet.png"]
    assert all(Path(file).exists() for file in files) and read_video(Path("sheet.png"))[0].shape[0] == 1
    # Each is what its own seed makes alone.
    cli("generate", "red star", "--model", model, "--steps", 2, "--seed", 5, "-o", "alone.gif")
    assert np.array_equal(read_video(Path("alone.gif"))[0], read_video(Path(files[2]))[0])


def test_one_frame_is_an_image(cli, model: Path) -> None:
    code, out, _ = cli("generate", "red", "--model", model, "--steps", 2, "--frames", 1, "--seed", 1, "--size", "32x16")
    assert (code, out) == (0, "outputs/red-1.png  (seed 1)\n")
    assert read_video(Path("outputs/red-1.png"))[0].shape == (1, 16, 32, 3)


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ((), {}),
        (("--guidance", 2), {"guidance_scale": 2.0}),
        (("--negative", "black"), {"negative_prompt": "black"}),
        (("--sampler", "ddim"), {"sampler": "ddim"}),
        (("--loop",), {"shift": {"padding": "circular"}}),
        (("--dtype", OTHER_DTYPE), {"dtype": getattr(torch, OTHER_DTYPE)}),
    ],
    ids=lambda each: "-".join(map(str, each)) if isinstance(each, tuple) else "",
)
def test_settings_make_the_video_that_they_make_in_python(
    words: tuple[object, ...], settings: dict[str, Any], cli, model: Path
) -> None:
    plain = ("generate", "red", "--model", model, "--steps", 3, "--seed", 1)
    assert cli(*plain, *words, "-o", "by-command")[0] == 0
    assert cli(*plain, "-o", "plain")[0] == 0

    settings = {"dtype": fast_dtype("cpu"), "sampler": None, "shift": {}, **settings}
    pipeline = LatentShiftPipeline.from_pretrained(model).to(settings.pop("dtype"))
    pipeline.scheduler = make_sampler(settings.pop("sampler"), pipeline.scheduler)
    pipeline.set_shift({**pipeline.config.shift, **settings.pop("shift")})
    seed = torch.Generator().manual_seed(1)
    video = pipeline("red", num_inference_steps=3, generator=seed, output_type="pil", **settings).frames[0]
    by_command = read_video(Path("by-command"))[0]
    assert np.array_equal(by_command, np.stack([np.asarray(frame) for frame in video]))
    assert np.array_equal(by_command, read_video(Path("plain"))[0]) == (words == ())


def test_frames_a_second_are_those_of_the_file(cli, model: Path) -> None:
    words = ("generate", "red", "--model", model, "--steps", 2, "--fps", 12, "-o", "fast.mp4")
    assert cli(*words)[0] == 0 and read_video(Path("fast.mp4"))[1] == 12


def test_unknown_words_get_a_warning(cli, model: Path) -> None:
    code, _, err = cli("generate", "a red zebra", "--model", model, "--steps", 2, "-o", "z.mp4")
    assert code == 0
    assert (
        err == "warning: the model was not trained on 'zebra'; "
        "its vocabulary: a, background, black, circling, on, red, star\n"
    )


def test_a_prompt_that_is_too_long_gets_a_warning(cli, model: Path) -> None:
    code, _, err = cli("generate", "red star on black " * 4, "--model", model, "--steps", 2, "-o", "z.mp4")
    assert code == 0
    assert err.startswith("warning: the model reads 12 tokens, and this prompt has 18: its end is cut off: red star")


MODEL = "a tiny model"  # in a call: the folder that the fixture made
MISTAKES = [
    (("generate",), "give a prompt"),
    (("generate", " "), "the prompt is empty"),
    (("generate", "red", "--prompts-file", "none.txt"), "cannot read the prompts file none.txt"),
    (("generate", "red", "--frames", "0"), "--frames must be from 1 to 100,000, not 0"),
    (("generate", "red", "--frames", "-3"), "--frames must be from 1 to 100,000, not -3"),
    (("generate", "red", "--steps", "0", "--model", MODEL), "--steps must lie between"),
    (("generate", "red", "--steps", "1", "--model", MODEL), "--steps must lie between 2 and 1000, not 1"),
    (("generate", "red", "--loop", "--frames", "1"), "--loop is for videos"),
    (("generate", "red", "--fps", "0", "-o", "clip.mp4"), "0.0 frames per second"),
    (("evaluate", "sprites", MODEL, "--steps", "0"), "--steps must lie between"),
    (("init", "--base", MODEL, "-o", "file/new"), "is no folder"),
    (("train", RECIPES / "sprites-video.yaml", "output=new"), "train stage (b) first"),
    (("train", RECIPES / "sprites-image.yaml", "output=new"), "train stage (a) first"),
    (("generate", "red", "--size", "big"), "--size must be"),
    (("generate", "red", "--size", "17", "--model", MODEL), "multiples of 2 and 4 or more"),
    (("generate", "red", "--seed", "-1"), "--seed must be 0 or more"),
    (("generate", "red", "-o", "clip.avi"), ".avi"),
    (("generate", "red", "-o", "file/clip.mp4"), "file"),
    (("generate", "red", "--model", MODEL, "-o", "clip.png"), "exactly one frame, not 4"),
    (("generate", "red", "--frames", "2", "-o", "clip.png"), "exactly one frame, not 2"),
    (("train", RECIPES / "sprites-autoencoder.yaml", "data.size=70"), "data.size 70 does not divide by 8"),
    (
        ("train", RECIPES / "sprites-video.yaml", "optimizer.learning_rate=.inf"),
        "optimizer.learning_rate: must be a finite number, not inf",
    ),
    (("generate", "red", "blue", "-o", "clip.mp4"), "-o must be a folder"),
    (("generate", "red", "--model", "nowhere/model"), "nowhere/model"),
    (("generate", "red", "--model", "empty"), "empty"),
    (("generate", "red", "--model", "corrupt"), "corrupt/unet/diffusion_pytorch_model.safetensors can't be read"),
    (("generate", "red", "--model", MODEL, "--sampler", "magic"), "unknown sampler 'magic'"),
    (("generate", "red", "--model", MODEL, "--dtype", "int4"), "unknown dtype 'int4'"),
    (("generate", "red", "--model", MODEL, "--device", "tpu9"), "the device 'tpu9' cannot be used"),
    (("info", "nowhere"), "nowhere"),
    (("info", "begun"), "begun is a run without a model yet: run it to its end"),
    (("generate", "red", "--model", "adapter"), "generate with --lora adapter/lora.safetensors"),
    (("init", "-o", "new"), "give either --base"),
    (("init", "--family", "sd9", "--random-weights", "-o", "new"), "unknown family 'sd9'"),
    (("init", "--random-weights", "-o", "new", "--base", "x"), "--random-weights needs --family"),
    (("init", "--family", "sd1", "--base", "x", "-o", "new"), "give either --base FOLDER_OR_HUB_ID or --family"),
    (("init", "--base", MODEL, "-o", "empty/.."), "exists already"),
    (("init", "--base", MODEL, "-o", "new", "--padding", "mirror"), 'must be one of "zeros", "circular", "replicate"'),
    (("train", "none.yaml"), "cannot read the recipe none.yaml"),
    (("train", RECIPES / "sprites-video.yaml", "stepz=3"), "stepz: unknown setting"),
    (("evaluate", "sprites", MODEL, "--seen", "-1"), "--seen must be from 0 to 100,000, not -1"),
    (("generate", "red", "--model", MODEL, "--guidance", "nan"), "--guidance must be a finite number"),
    (("generate", "red", "--model", "lacking"), "text_encoder are incomplete"),
    (("generate", "red", "--model", "no-json"), "its model_index.json is damaged: no-json/model_index.json is no JSON"),
    (("generate", "red", "blue", "--seed", 2**63 - 2), "leave room below 2^63"),
    (("train", RECIPES / "sprites-image.yaml", "text.width=30"), "text: width 30 does not divide"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    cli, model: Path, words: tuple[object, ...], message: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    (tmp_path / "empty").mkdir()
    for run in ("begun", "adapter"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "recipe.yaml").touch()
    (tmp_path / "adapter" / "lora.safetensors").touch()
    shutil.copytree(model, tmp_path / "corrupt")
    weights = tmp_path / "corrupt" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    shutil.copytree(model, tmp_path / "lacking")
    text_encoder = tmp_path / "lacking" / "text_encoder" / "model.safetensors"
    tensors = load_file(text_encoder)
    tensors.popitem()
    save_file(tensors, text_encoder, metadata={"format": "pt"})
    shutil.copytree(model, tmp_path / "no-json")
    (tmp_path / "no-json" / "model_index.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = cli(*(model if word == MODEL else word for word in words))
    assert code == 1 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before


def test_info_counts_parameters(cli, model: Path) -> None:
    code, out, err = cli("info", model, "--json")
    facts = json.loads(out)
    assert (code, err) == (0, "")
    counts = facts["parameters"]
    assert facts["method"] == "latent-shift"
    assert counts["total"] == counts["unet"] + counts["autoencoder"] + counts["text_encoder"] > 0
    assert counts["temporal"] == 0
    assert (facts["family"], facts["num_frames"], facts["prediction_type"]) == ("ldm", 4, "epsilon")
    assert "circling" in facts["vocabulary"]
    code, out, _ = cli("info", model)
    assert "\nnum_inference_steps  100\n" in out
    assert code == 0 and f"{counts['unet']:,}" in out


def test_init_makes_a_pipeline_of_an_image_model(cli, sd1_folder: Path) -> None:
    code, out, err = cli("init", "--base", sd1_folder, "-o", "mine", "--frames", 3, "--fold", 4)
    assert (code, out, err) == (0, "mine\n", "")
    facts = json.loads(cli("info", "mine", "--json")[1])
    assert facts["num_frames"] == 3 and facts["shift"]["fold"] == 4
    chosen = {"direction": "past_only", "place": "block", "blocks": "decoder"}
    options = [word for name, value in chosen.items() for word in (f"--{name}", value)]
    assert cli("init", "--base", "mine", "-o", "other", *options, "--fps", 5)[0] == 0
    facts = json.loads(cli("info", "other", "--json")[1])  # what is not said stays as the base has it
    assert facts["shift"] == {"fold": 4, "padding": "zeros", **chosen}
    assert (facts["num_frames"], facts["fps"]) == (3, 5)
    assert cli("generate", "red", "--model", "mine", "--steps", 2, "-o", "clip.mp4")[0] == 0


def test_init_keeps_the_image_model_with_replicate(cli, sd1_folder: Path) -> None:
    assert cli("init", "--base", sd1_folder, "-o", "kept", "--padding", "replicate")[0] == 0
    assert json.loads(cli("info", "kept", "--json")[1])["shift"]["padding"] == "replicate"
    assert cli("init", "--base", sd1_folder, "-o", "images", "--method", "none")[0] == 0
    pictures = []
    for model in ("kept", "images", sd1_folder):  # the last gets the paper's zeros
        words = ("--model", model, "--frames", 1, "--steps", 2, "--seed", 1)
        assert cli("generate", "red", *words, "-o", "picture.png")[0] == 0
        pictures.append(read_video(Path("picture.png"))[0])
    kept, image, zeros = pictures
    assert np.array_equal(kept, image) and not np.array_equal(kept, zeros)
    assert cli("init", "--base", "kept", "-o", "again", "--fold", 4)[0] == 0
    facts = json.loads(cli("info", "again", "--json")[1])
    assert facts["shift"] == asdict(ShiftConfig(fold=4, padding="replicate"))


def test_init_makes_the_baseline_too(cli, sd1_folder: Path) -> None:
    assert cli("init", "--base", sd1_folder, "-o", "vdm", "--frames", 3, "--method", "latent-vdm")[0] == 0
    facts = json.loads(cli("info", "vdm", "--json")[1])
    counts = facts["parameters"]
    assert facts["method"] == "latent-vdm" and facts["shift"] is None
    assert counts["temporal"] == TINY_VDM_PARAMETERS
    assert counts["total"] == sum(counts[name] for name in ("unet", "autoencoder", "text_encoder", "temporal"))
    assert cli("generate", "red", "--model", "vdm", "--steps", 2, "-o", "clip.mp4")[0] == 0
    assert cli("init", "--base", "vdm", "-o", "shifted", "--method", "latent-shift")[0] == 0
    facts = json.loads(cli("info", "shifted", "--json")[1])
    assert facts["method"] == "latent-shift" and facts["parameters"]["temporal"] == 0
    for words, message in (
        (("--method", "vdm"), "unknown method 'vdm'"),
        (("--method", "latent-vdm", "--fold", 4), "--fold needs --method latent-shift, not latent-vdm"),
        (("--base", "vdm", "--fold", 4), "--fold needs the temporal shift, which vdm does not use (latent-vdm)"),
    ):
        code, _, err = cli("init", "--base", sd1_folder, "-o", "wrong", *words)
        assert code == 1 and message in err and not Path("wrong").exists()


def test_a_dry_run_prints_the_resolved_recipe(cli, sprites_model: Path, tmp_path: Path) -> None:
    words = (f"model={sprites_model}", "steps=6000", "shift.padding=replicate", "noise_share=1", "data.options.clips=6")
    code, out, _ = cli("train", RECIPES / "sprites-video.yaml", *words, "--dry-run")
    assert code == 0 and "steps: 6000\n" in out and "train_text_encoder: true\n" in out
    assert "shift:\n  fold: 3\n  padding: replicate\n" in out and "noise_share: 1.0\n" in out
    assert list(tmp_path.iterdir()) == []


def test_evaluate_writes_a_report_and_resumes(cli, sprites_model: Path, few_calibration_clips: None) -> None:
    counts = ("--held-out", 1, "--images", 2, "--shift-off", 1)
    words = ("evaluate", "sprites", sprites_model, *counts, "--steps", 2, "-o", "study")
    code, out, err = cli(*words, "--seen", 2)
    assert code == 0 and err.splitlines() == [
        f"note: {each}" for each in json.loads(Path("study/report.json").read_text())["notes"]
    ]
    assert out.startswith("6 videos to make (seen 2, held_out 1, images 2, shift_off 1), less those in study already;")
    parts = [line.split(" ")[0] for line in out.splitlines() if "%" in line and line[0] != " "]
    assert parts == ["seen", "held_out", "images", "shift_off"]
    assert out.splitlines()[-1] == "study/report.html"
    report = json.loads(Path("study/report.json").read_text())
    seen, _, images, _ = report["parts"]
    assert [part["n"] for part in report["parts"]] == [2, 1, 2, 1]
    assert images["motion"] is None and seen["reader_on_true_clips"]["joint"] >= 0.99
    rendered, reconstructed = seen["true_clips"]["rendered"], seen["true_clips"]["through_autoencoder"]
    assert rendered["n"] == reconstructed["n"] == 2 and rendered["joint"] == 1.0
    assert rendered["colour_drift"] == {"mean": 0.0, "standard_error": 0.0, "n": 2, "missing": 0}
    assert "true clips rendered (2): all right 100.0 [34.2, 100.0]  background 100.0 [34.2, 100.0]  colour 100.0" in out
    assert "colour drift 0.0 [0.0, 0.0]" in out and "\nmade with sampler DDPMScheduler, steps 2, guidance " in out
    assert sum(each["n"] for each in seen["motions"].values()) == 2 and "motions" not in images
    distances = [metric["name"] for metric in report["metrics"] if metric["extractor"]]
    assert distances == [
        *(f"sprites-{kind} (seen)" for kind in ("FID", "KID", "FVD", "KVD")),
        "sprites-FID (held_out)",  # the others need two videos or more
        "sprites-FVD (held_out)",
        "sprites-FID (images)",
        "sprites-KID (images)",
        *(f"sprites-{kind} (shift_off)" for kind in ("FID", "FVD")),
    ]
    assert any(note.startswith("New combinations: sprites-KVD is left out: it needs 2") for note in report["notes"])
    assert "  sprites-FVD (seen) " in out and "Distances to true clips" in Path("study/report.html").read_text()
    log = Path("study/readings/seen/worker-000.jsonl")
    first = log.read_text()
    log.write_text(first + first.splitlines()[0][:20])  # a kill in the middle of a line
    for left in ("clips", "seen.png", "report.json", "report.html"):  # as a study of an earlier version left it
        remove(Path("study") / left)
    code, out, _ = cli(*words, "--seen", 3)
    assert code == 0 and out.splitlines()[-1] == "study/report.html"
    assert log.read_text().startswith(first) and len(log.read_text().splitlines()) == 3
    report = json.loads(Path("study/report.json").read_text())
    assert report["command"].startswith(f"latentshift evaluate sprites {sprites_model} --held-out 1")
    assert report["command"].endswith(f" --dtype {str(fast_dtype('cpu')).removeprefix('torch.')}")
    files = {each["file"] for part in report["parts"] for chosen in part["examples"].values() for each in chosen}
    assert len(files) == 7 and all(Path("study", file).is_file() for file in files)
    assert Path("study/seen.png").is_file() and "What the model drew" in Path("study/report.html").read_text()
    assert cli("evaluate", "report", "study", "-o", "report")[1] == "report/report.html\n"
    code, out, _ = cli(*words, "--seen", 14, "--keep", "examples")
    report = json.loads(Path("study/report.json").read_text())
    files = {each["file"] for chosen in report["parts"][0]["examples"].values() for each in chosen}
    assert code == 0 and 4 <= len(files) < 14
    assert {str(path.relative_to("study")) for path in Path("study/clips/seen").iterdir()} == files
    scored = [part["joint"] for part in report["parts"]]
    code, _, _ = cli(*words, "--seen", 14, "--keep", "none")  # nothing is made again
    report = json.loads(Path("study/report.json").read_text())
    assert code == 0 and not [path for path in Path("study/clips").rglob("*") if path.is_file()]
    assert [part["joint"] for part in report["parts"]] == scored
    assert "no clip was kept" in Path("study/report.html").read_text()
    code, _, err = cli(*words, "--seen", 3, "--guidance", 2)
    assert code == 1 and "guidance was 7.5 and is now 2.0" in err
    code, _, err = cli(*words, "--seen", 3, "--dtype", OTHER_DTYPE)
    assert code == 1 and f"is now {OTHER_DTYPE}; add --dtype" in err
    shutil.copytree(sprites_model, "other")  # the same weights, read another way
    scheduler = Path("other/scheduler/scheduler_config.json")
    scheduler.write_text(json.dumps({**json.loads(scheduler.read_text()), "prediction_type": "v_prediction"}))
    code, _, err = cli("evaluate", "sprites", "other", *words[3:], "--seen", 3)
    assert code == 1 and "contents was" in err


def test_help_imports_nothing_heavy() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "latentshift", "--help"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "generate" in shown.stdout
    lines = shown.stderr.splitlines()
    assert all(line.startswith("import time:") for line in lines)  # nothing else is printed
    imported = {line.rsplit("|", 1)[-1].strip() for line in lines}
    assert "latentshift.cli.app" in imported
    assert not {"torch", "diffusers", "transformers", "peft", "av", "numpy"} & imported

"""``latentshift data`` and training on footage, as a user meets them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from latentshift import LatentShiftPipeline
from latentshift.contact_sheet import side_by_side
from latentshift.data.latents.latent_dataset import LatentDataset
from latentshift.training.recipe_file import load_recipe
from latentshift.training.stages.video import VideoStage
from latentshift.video import as_clip, write_video
from launch import Processes, command_line, finish
from timed_video import write_video_at

RECIPES = Path(__file__).parent.parent / "recipes"


def add_clip(folder: Path, name: str, caption: str, level: int = 60, seconds: float = 2.5) -> Path:
    """A square that moves over gray."""
    folder.mkdir(exist_ok=True)
    frames = []
    for number in range(round(seconds * 24)):
        picture = np.full((48, 64, 3), level, dtype=np.uint8)
        picture[8:24, number % 48 : number % 48 + 16] = (255 - level, 90, 40)
        frames.append(picture)
    (folder / name).with_suffix(".txt").write_text(caption)
    return write_video_at(folder / name, np.arange(len(frames)) / 24, frames)


@pytest.fixture
def clips(tmp_path: Path, encoded_clips: Path) -> Path:
    """Of each test's own: tests change them."""
    return Path(shutil.copytree(encoded_clips, tmp_path / "clips"))


@pytest.fixture(scope="module")
def encoded_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips, an image, and three files that can't be used."""
    folder = tmp_path_factory.mktemp("encoded") / "clips"
    for number, caption in enumerate(["a red star", "a star circling", "red on black"]):
        add_clip(folder, f"{number}.mp4", caption, level=60 * number)
    Image.fromarray(np.full((40, 40, 3), 90, dtype=np.uint8)).save(folder / "still.png")
    (folder / "still.txt").write_text("a star")
    add_clip(folder, "short.mp4", "red", seconds=1.0)
    (folder / "text.mp4").write_text("no video")
    (folder / "text.txt").write_text("nothing")
    add_clip(folder, "silent.mp4", "red").with_suffix(".txt").unlink()
    return folder


def test_inspect_says_what_can_be_used_and_what_cannot(cli, clips: Path) -> None:
    code, out, err = cli("data", "inspect", "clips", "--size", 32, "--json", "report.json", "--html", "report.html")
    assert (code, err) == (0, "")
    assert out.startswith("kept 4 of 7, 1 of them images\n")
    for name, reason in (
        ("short.mp4", r"it lasts \d.\d\d s, and a clip takes 2 s"),
        ("silent.mp4", "there is no silent.txt beside it"),
        ("text.mp4", "it can't be opened as a video"),
    ):
        assert re.search(f"refused clips/{name}: {reason}", out), out
    report = json.loads(Path("report.json").read_text())
    assert (report["kept"], report["total"], len(report["refused"])) == (4, 7, 3)
    assert report["codecs"] == {"h264": 3, "png": 1} and sum(report["tables"]["fps"]["counts"]) == 3
    assert "a star circling" in Path("report.html").read_text()
    assert cli("data", "inspect", "clips", "--size", 32, "--strict")[0] == 1
    assert cli("data", "inspect", "clips", "--frames", 1, "--size", 32)[1].startswith("kept 5 of 7, 1 of them images\n")


def test_every_copy_of_a_clip_is_counted(cli, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name, level in (("a", 90), ("b", 90), ("c", 90), ("d", 10), ("e", 10), ("f", 30)):
        Image.fromarray(np.full((40, 40, 3), level, dtype=np.uint8)).save(tmp_path / "clips" / f"{name}.png")
        (tmp_path / "clips" / f"{name}.txt").write_text("a star")
    code, out, _ = cli("data", "inspect", "clips", "--frames", 1, "--size", 32, "--workers", 1)
    assert code == 0 and "3 with the same content as an earlier one" in out


def test_what_goes_to_the_terminal_is_escaped_and_cut_captions_are_counted(cli, tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "clips"
    add_clip(folder, "a.mp4", "a red star " * 40 + "<script>")
    add_clip(folder, "\x1b[31mred.mp4", "\x1b a red star", level=100)
    (folder / "b\nkept 9 of 9.mp4").write_text("no video")
    add_clip(folder, "._a.mp4", "of a Mac")
    words = ["data", "inspect", "clips", "--seconds", 1, "--size", 32]
    code, out, err = cli(*words, "--html", "r.html", "--json", "r.json")
    assert (code, err) == (0, "") and "\x1b" not in out and "kept 2 of 3\n" in out
    assert "refused clips/b\\nkept 9 of 9.mp4: " in out
    assert "1 captions have more than 75 words" in out and "2 files that macOS adds were ignored" in out
    page = (tmp_path / "r.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page
    code, out, err = cli(*words, "--model", model, "--json", "r.json")
    length = LatentShiftPipeline.from_pretrained(model).text_encoders.length
    cut = json.loads((tmp_path / "r.json").read_text())["captions"]["cut"]
    assert (code, cut["cut"], cut["total"], cut["length"]) == (0, 1, 2, length) and cut["longest"] > 120
    assert f"the model reads {length} tokens, and 1 of 2 captions have more" in out
    code, out, err = cli("data", "encode", "clips", "--model", model, "-o", "shards", "--seconds", 1)
    assert code == 0 and err.count("warning") == 1 and "1 of 2 captions have more" in err and "\x1b" not in out + err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["none"],
            "none is no folder; for anything else say what it is: folder:PATH, manifest:PATH, file:PATH, webvid:PATH",
        ),
        (["clips", "--short", "maybe"], "--short must be one of refuse, hold, shorten, not 'maybe'"),
        (["clips", "root"], "'root' is not of the form key=value"),
        (["clips", "allow_outside=true", "allow_outside=false"], "the option allow_outside is given twice"),
        (["clips", "root=x"], "the options of clips are not valid: root: unknown setting"),
        (["clips", "--frames", 0], "a window takes 1 frame or more, not 0"),
        (["clips", "--size", 1], "frames are 8 pixels or more on each side, not 1x1"),
        (["clips", "--workers", 0], "--workers must be 1 or more, not 0"),
        (["clips", "--memory-limit", 0.01], "--memory-limit must be a number of GiB, 0.25 or more, not 0.01"),
        (["clips", "--json", "clips/0.txt/x.json"], "clips/0.txt/x.json can't be written, because"),
        (["webvid:clips/none.csv"], "cannot read"),
    ],
)
def test_inspect_names_what_is_wrong(cli, clips: Path, words: list, message: str) -> None:
    code, out, err = cli("data", "inspect", *words)
    assert (code, out) == (1, "") and err.startswith(f"error: {message}") and err.count("\n") == 1


def test_encode_keeps_what_can_be_used_and_resumes(cli, clips: Path, model: Path) -> None:
    words = ("data", "encode", "clips", "--model", model, "-o", "shards", "--seconds", 1, "--clips-per-shard", 2)
    code, out, err = cli(*words)
    assert (code, err) == (0, "")
    assert out.startswith("kept 5 of 7\n") and out.endswith("\nshards\n")
    before = {path.name: path.read_bytes() for path in Path("shards").iterdir()}
    assert [name for name in sorted(before) if name.endswith(".safetensors")] == [
        f"shard-0000{number}.safetensors" for number in range(3)
    ]
    for name in ("shard-00001.safetensors", "shard-00001.json"):
        Path("shards", name).unlink()
    assert cli(*words)[1] == out
    assert {path.name: path.read_bytes() for path in Path("shards").iterdir()} == before
    encoded = LatentDataset(Path("shards"))
    assert (encoded.size(4), encoded.size(1)) == (4, 5)
    sample = encoded.request(4, 0, (0,)).read()
    assert sample.content.shape == (4, 8, 8, 8) and sample.text.tokens.shape == (12, 16)
    for changed, message in (
        (["--seconds", 2], "holds clips of other settings: window was"),
        (["--no-text"], "holds clips of other settings: text was"),
        (["--views", 0], "views and clips a shard are 1 or more"),
        (["--engine", "spark"], "--engine must be one of local, ray"),
        (["--actors", "2"], "--actors 2 are Ray's: add --engine ray"),
        (["--engine", "ray", "--device", "cuda:1"], "Ray deals out the GPUs"),
    ):
        code, out, err = cli(*words, *changed)
        assert (code, out) == (1, "") and message in err and err.startswith("error: ")


ENCODE = ("data", "encode", "clips", "--seconds", "1", "--clips-per-shard", "2", "--device", "cpu", "--model")


def encoded(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_encoding_by_several_processes_makes_the_same_shards(cli, clips: Path, model: Path) -> None:
    assert cli(*ENCODE, model, "-o", "alone")[0] == 0
    with Processes(command_line, *ENCODE, str(model), "-o", "together", processes=2) as processes:
        finish(processes)
    assert processes.printed().count("kept 5 of 7") == 1
    assert encoded("together") == encoded("alone")


@pytest.mark.slow
def test_encoding_by_ray_makes_the_same_shards(cli, clips: Path, model: Path) -> None:
    assert cli(*ENCODE, model, "-o", "alone")[0] == 0
    code, out, err = cli(*ENCODE, model, "-o", "ray", "--engine", "ray", "--actors", 2)
    assert code == 0, err
    assert out.startswith("kept 5 of 7\n")
    assert encoded("ray") == encoded("alone")


def tiny_run(model: Path, *words: object) -> list[object]:
    return [
        "train",
        RECIPES / "finetune-folder.yaml",
        f"model={model}",
        "data=clips",
        "data.seconds=1",
        "steps=3",
        "batch_size=2",
        "sample_steps=2",
        "sample_prompts=[a red star]",
        "trackers=[]",
        "save_every=2",
        "optimizer={learning_rate: 1e-3, warmup_steps: 1}",
        "compute={precision: fp32, device: cpu}",
        *words,
    ]


def test_a_folder_fine_tunes_a_model(cli, clips: Path, model: Path) -> None:
    code, out, err = cli(*tiny_run(model, "output=run"))
    assert code == 0, err
    assert out.endswith("run/model\n")
    report = json.loads(Path("run/data.json").read_text())
    (source,) = report["sources"]
    assert (source["clips"], source["images"], source["unused_images"]) == (4, 0, 1) and report["replaced"] == []
    assert "clips: 4 clips, 1 images not used, since image_share is 0, 2 refused\n" in out
    refused = {Path(each["name"]).name: each["kind"] for each in source["refused"]}
    assert refused == {"text.mp4": "damaged", "silent.mp4": "missing-caption"}
    assert cli("generate", "a red star", "--model", "run", "--steps", 2, "-o", "x.gif")[0] == 0
    add_clip(Path("clips"), "more.mp4", "red")
    code, _, err = cli(*tiny_run(model, "output=run", "steps=4"))
    assert code == 1 and "more.mp4 is another row than it was; choose another output" in err


def test_footage_can_be_decoded_at_each_step_and_mixed_with_what_is_encoded(cli, clips: Path, model: Path) -> None:
    words = ("--model", model, "--seconds", 1)
    assert cli("data", "encode", "clips", "-o", "shards", *words)[0] == 0
    raw = "data=[{source: clips, encode: false, seconds: 1, weight: 2}, shards]"
    code, _, err = cli(*tiny_run(model)[:3], raw, *tiny_run(model)[5:], "output=run", "image_share=0.5")
    assert code == 0, err
    report = json.loads(Path("run/data.json").read_text())
    assert [(each["clips"], each["images"]) for each in report["sources"]] == [(5, 1), (4, 1)]
    assert {Path(each["name"]).name for each in report["replaced"]} == {"text.mp4"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=none"], "none is no folder"),
        (["output=clips"], "clips is the folder of the data, and the run would write its samples among the clips"),
        (["data=empty"], "empty holds no video or image with a caption"),
        (["data.short=maybe"], "data.short: must be 'refuse', 'hold' or 'shorten', not 'maybe'"),
        (
            ["data.seconds=9"],
            "clips holds no clips of 4 frames that can be used; it has images, and image_share is 0 (1)",
        ),
        (["model=none"], "there is no folder none, and it is not a hub id"),
        (["data=[]"], "cannot set data.seconds: data is a list; set the complete list"),
    ],
)
def test_training_names_what_is_wrong_with_the_data(cli, clips: Path, model: Path, words: list, message: str) -> None:
    Path("empty").mkdir()
    code, out, err = cli(*tiny_run(model, "output=run"), *words)
    assert (code, out) == (1, "") and message in err and err.startswith("error: ") and err.count("\n") == 1


def test_clips_unused_by_validation_are_reported(cli, clips: Path, model: Path) -> None:
    held_out = "validation={every: 2, clips: 1, bands: 1, data: {source: clips, seconds: 1}}"
    code, out, err = cli(*tiny_run(model, "output=run", "steps=2", held_out))
    assert code == 0, err
    assert "validation: clips: 4 clips, 1 images not used, since validation is of clips alone, 2 refused\n" in out
    (report,) = json.loads(Path("run/data.json").read_text())["validation"]
    assert {Path(each["name"]).name for each in report["refused"]} >= {"text.mp4"}


def test_encoded_clips_refuse_settings_of_how_clips_are_taken(cli, clips: Path, model: Path) -> None:
    assert cli("data", "encode", "clips", "-o", "shards", "--model", model, "--seconds", 1)[0] == 0
    words = tiny_run(model, "output=run")
    words[3] = "data=shards"
    code, _, err = cli(*words)
    assert code == 1 and "shards holds clips that are encoded already: data.seconds can't be set for it" in err
    del words[4]
    assert cli(*words)[0] == 0
    assert cli("train", "run/recipe.yaml", "steps=4")[0] == 0  # as it was resolved
    Path("shards").rename("elsewhere")
    assert cli("train", "run/recipe.yaml", "steps=5", "data=elsewhere")[0] == 0
    assert cli("data", "encode", "clips", "-o", "others", "--model", model, "--seconds", 0.5)[0] == 0
    code, _, err = cli("train", "run/recipe.yaml", "steps=6", "data=others")
    assert code == 1 and "run began with another data 1 than what is named now" in err


def test_shards_of_another_model_are_refused(cli, clips: Path, model: Path, tmp_path: Path) -> None:
    assert cli("data", "encode", "clips", "-o", "shards", "--model", model, "--seconds", 1)[0] == 0
    for part, what in (("vae", "another autoencoder"), ("text_encoder", "another text encoder")):
        other = tmp_path / part
        subprocess.run(["cp", "-r", str(model), str(other)], check=True)
        (file,) = (other / part).glob("*.safetensors")
        save_file({name: value + 1 for name, value in load_file(file).items()}, file, metadata={"format": "pt"})
        words = tiny_run(other, f"output=run-{part}", "train_text_encoder=false")
        words[3:5] = ["data=shards"]
        code, _, err = cli(*words)
        assert code == 1 and f"shards was encoded by {what} than this model's" in err


@pytest.mark.parametrize("base", ["sdxl_folder", "ldm_folder"])
def test_encoders_take_memory_for_samples_alone(base: str, cli, request: pytest.FixtureRequest) -> None:
    """Clips that bring their text leave training no use for the encoders; samples are those of the whole pipeline."""
    folder = request.getfixturevalue(base)
    add_clip(Path("clips"), "a.mp4", "a red star")
    assert cli("data", "encode", "clips", "-o", "shards", "--model", folder, "--seconds", 1)[0] == 0
    words = [f"model={folder}", "data=shards", "output=run", "train_text_encoder=false", "batch_size=1"]
    words += ["sample_steps=2", "sample_prompts=[a red star]", "weights=float32", "compute={device: cpu}"]
    recipe = load_recipe(RECIPES / "finetune-folder.yaml", words)
    stage = VideoStage(recipe, torch.device("cpu"))
    pipeline, encoders = stage.pipeline, stage.pipeline.text_encoders.encoders

    def away() -> list[bool]:
        return [part.device.type == "meta" for part in (pipeline.vae, *pipeline.text_encoders.encoders)]

    assert all(away()) and pipeline.unet.device.type == "cpu"
    stage.objective(next(stage.batches(1)))["loss"].backward()
    stage.sample(Path("samples"), 1)
    assert all(away())
    whole = LatentShiftPipeline.from_pretrained(folder)
    whole.set_progress_bar_config(disable=True)
    (video,) = whole("a red star", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).frames
    expected = side_by_side([as_clip(video)])
    write_video("expected.mp4", expected, fps=whole.config.fps)
    assert Path("samples/step-00000001.mp4").read_bytes() == Path("expected.mp4").read_bytes()
    with stage.offloaded.loaded():
        assert not any(away()) and len(pipeline.text_encoders.encoders) == len(encoders)
    stage.export(Path("run"))
    made = LatentShiftPipeline.from_pretrained("run/model")
    for name in ("vae", "text_encoder", "text_encoder_2"):
        if (part := getattr(whole, name)) is not None:
            after = getattr(made, name).state_dict()
            assert all(torch.equal(value, after[key]) for key, value in part.state_dict().items())
    shutil.copytree(folder, "changing")
    stage = VideoStage(load_recipe(RECIPES / "finetune-folder.yaml", [*words, "model=changing"]), torch.device("cpu"))
    (file,) = Path("changing", "vqvae" if base == "ldm_folder" else "vae").glob("*.safetensors")
    save_file({name: value + 1 for name, value in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="the vae of the base has changed while the run was going on"):
        stage.sample(Path("samples"), 2)

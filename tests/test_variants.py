"""Folders whose weight files are of a variant, as ``model.fp16.safetensors``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from latentshift import LatentShiftPipeline
from latentshift.models.storage.weight_files import weight_files
from latentshift.video import read_video

UNET = "diffusion_pytorch_model"
ONE_IMAGE = ("--seen=0", "--held-out=0", "--images=1", "--shift-off=0")
SPRITES = ("sprites", "clips=4", "--seconds", 2)


@pytest.fixture(scope="module")
def fp16_folder(sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock image pipeline with weights of the variant fp16 alone."""
    folder = tmp_path_factory.mktemp("variant")
    StableDiffusionPipeline.from_pretrained(sd1_folder).save_pretrained(folder, variant="fp16")
    return folder


def test_every_command_reads_a_variant_and_names_it_where_it_is_the_only_one(cli, fp16_folder: Path) -> None:
    made = ("generate", "red", "--steps", 2, "--frames", 2, "--seed", 1)
    commands = {
        "info": ("info", fp16_folder, "--json"),
        "init": ("init", "--base", fp16_folder, "-o", "new"),
        "generate": (*made, "--model", fp16_folder, "-o", "clip.gif"),
        "evaluate": ("evaluate", "sprites", fp16_folder, *ONE_IMAGE, "-o", "study"),
        "encode": ("data", "encode", *SPRITES, "--model", fp16_folder, "-o", "shards", "--device", "cpu", "--size", 64),
    }
    for command in commands.values():
        code, _, err = cli(*command)
        message = err.splitlines()[-1]
        assert (
            code == 1
            and f"{UNET}.fp16.safetensors" in message
            and "use --variant fp16, or variant=fp16 in a recipe" in message
        )
        code, _, err = cli(*command, "--variant", "fp16")
        # It has been loaded where a study refuses its frames of 16 pixels.
        assert code == 0 or (command[0] == "evaluate" and "sprites are drawn at 32 pixels or more" in err), err
    assert cli(*made, "--model", "new", "-o", "same.gif")[0] == 0  # init's folder needs no variant
    assert np.array_equal(read_video(Path("same.gif"))[0], read_video(Path("clip.gif"))[0])
    code, _, err = cli("info", fp16_folder, "--variant", "bf16")
    assert code == 1 and "no weights of the variant 'bf16': it has fp16" in err
    code, _, err = cli("info", "--variant", "fp16")
    assert code == 1 and "its files have none" in err
    code, _, err = cli("init", "--family", "sd1", "--random-weights", "--variant", "fp16", "-o", "other")
    assert code == 1 and "--variant has no effect with --random-weights" in err


def test_a_variant_is_trained_as_the_same_weights_without_one(cli, fp16_folder: Path, sd1_folder: Path) -> None:
    """The autoencoder and text encoder too, which are read again for samples: the shards have text."""
    encode = ("data", "encode", *SPRITES, "-o", "shards", "--device", "cpu", "--size", 16)
    assert cli(*encode, "--model", sd1_folder)[0] == 0
    recipe = Path(__file__).parent.parent / "recipes" / "finetune-folder.yaml"
    words = ["data=shards", "batch_size=2", "steps=1", "optimizer.warmup_steps=0", "optimizer.decay_steps=0"]
    words += ["sample_steps=2", "sample_prompts=[red]", "exports=[model, delta]", "compute={device: cpu}"]
    code, _, err = cli("train", recipe, "output=run", f"model={fp16_folder}", *words)
    assert code == 1 and "use --variant fp16, or variant=fp16 in a recipe" in err and not Path("run/model").exists()
    assert cli("train", recipe, "output=run", f"model={fp16_folder}", "variant=fp16", *words)[0] == 0
    assert cli("train", recipe, "output=same", f"model={sd1_folder}", *words)[0] == 0
    assert Path("run/samples/step-00000001.mp4").read_bytes() == Path("same/samples/step-00000001.mp4").read_bytes()
    for file in ("delta.safetensors", f"model/unet/{UNET}.safetensors"):
        ours, expected = load_file(Path("run", file)), load_file(Path("same", file))
        assert ours.keys() == expected.keys() and all(torch.equal(value, expected[key]) for key, value in ours.items())


def test_a_part_with_one_variant_beside_parts_without(sd1_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(sd1_folder, folder)
    (folder / "unet" / f"{UNET}.safetensors").rename(folder / "unet" / f"{UNET}.fp16.safetensors")
    with pytest.raises(ValueError, match="mixed/unet has weights of a variant only"):
        LatentShiftPipeline.from_pretrained(folder)
    loaded = LatentShiftPipeline.from_pretrained(folder, variant="fp16").unet.state_dict()
    plain = LatentShiftPipeline.from_pretrained(sd1_folder).unet.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in plain.items())


def test_a_damaged_file_is_not_made_good_by_one_of_another_variant(fp16_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "both"
    shutil.copytree(fp16_folder, folder)
    for part in (each.parent for each in fp16_folder.glob("*/*.safetensors")):
        for file in part.glob("*.fp16.safetensors"):
            shutil.copy(file, folder / part.name / file.name.replace(".fp16", ""))
    unet = folder / "unet" / f"{UNET}.safetensors"
    tensors = load_file(unet)
    del tensors["conv_in.weight"]
    save_file(tensors, unet, metadata={"format": "pt"})
    assert LatentShiftPipeline.from_pretrained(folder, variant="fp16") is not None
    with pytest.raises(ValueError, match=r"are incomplete: conv_in\.weight is missing"):
        LatentShiftPipeline.from_pretrained(folder)


def test_files_are_known_by_their_names(tmp_path: Path) -> None:
    names = {
        None: ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        "fp16": [f"{UNET}.fp16-00001-of-00002.safetensors", f"{UNET}-00002-of-00002.fp16.safetensors"],
        "non_ema": [f"{UNET}.non_ema.safetensors"],
    }
    for files in names.values():
        for name in files:
            (tmp_path / name).touch()
    (tmp_path / "notes.safetensors").write_text(json.dumps({}))
    for variant, files in names.items():
        assert sorted(file.name for file in weight_files(tmp_path, variant)) == sorted(files)
    assert weight_files(tmp_path, "bf16") == weight_files(tmp_path)

"""Motion learned on one model and used on another fine-tune of its family: ``init --lora`` and ``init --delta``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from latentshift import LatentShiftPipeline
from latentshift.models.adapters.video_adapter import load_adapter
from test_video_adapter import LORA, OTHER_SHIFT, tune

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def sibling(sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tune of the base: other weights, the same architecture."""
    folder = tmp_path_factory.mktemp("sibling") / "style"
    pipe = StableDiffusionPipeline.from_pretrained(sd1_folder)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in pipe.unet.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def motion(sd1_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run on the base has learned, as a LoRA and as a delta."""
    folder = tmp_path_factory.mktemp("motion")
    tune(sd1_folder, folder, LORA, *OTHER_SHIFT, "exports=[lora, delta]")
    return folder


def unet_of(folder: Path) -> dict[str, torch.Tensor]:
    return LatentShiftPipeline.from_pretrained(folder).unet.state_dict()


@pytest.mark.parametrize("words", [("--lora",), ("--delta", "--other-base")])
def test_what_training_added_to_one_is_added_to_the_other(
    words: tuple[str, ...], cli: Cli, sd1_folder: Path, sibling: Path, motion: Path
) -> None:
    option, *more = words
    file = motion / f"{option.removeprefix('--')}.safetensors"
    code, _, err = cli("init", "--base", sibling, option, file, *more, "-o", "moving", "--frames", 3)
    assert code == 0, err
    tuned = LatentShiftPipeline.from_pretrained(sd1_folder)
    load_adapter(tuned, file)
    before, after = unet_of(sd1_folder), tuned.unet.state_dict()
    own, moved = unet_of(sibling), unet_of(Path("moving"))
    changed = 0
    for name, value in before.items():
        torch.testing.assert_close(moved[name] - own[name], after[name] - value, rtol=1e-3, atol=1e-5)
        changed += not torch.equal(after[name], value)
    assert changed > 8
    made = LatentShiftPipeline.from_pretrained("moving")
    assert made.config.shift == tuned.config.shift and made.config.num_frames == 3
    assert cli("generate", "red", "--model", "moving", "--steps", 2, "-o", "clip.gif")[0] == 0


def test_a_model_that_it_is_not_for_is_refused_and_left_as_it_was(
    cli: Cli, sibling: Path, sdxl_folder: Path, motion: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other-prediction"
    shutil.copytree(sibling, other)
    file = other / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "prediction_type": "v_prediction"}))
    lora, delta = motion / "lora.safetensors", motion / "delta.safetensors"
    another = "was trained on a model with the prediction type epsilon, and this one has v_prediction"
    for base, words, message in (
        (sdxl_folder, ("--lora", lora), "is a LoRA of another model than this one: down_blocks_0_"),
        (sdxl_folder, ("--delta", delta, "--other-base"), "is of another kind of model than this one"),
        (sibling, ("--delta", delta), "was made of another base than this one"),
        (other, ("--lora", lora), another),
        (other, ("--delta", delta, "--other-base"), another),
    ):
        code, _, err = cli("init", "--base", base, *words, "-o", "moving")
        assert code == 1 and message in err.splitlines()[-1] and "Traceback" not in err, err
        assert not Path("moving").exists()
    pipe = LatentShiftPipeline.from_pretrained(sdxl_folder)
    before = {name: value.clone() for name, value in pipe.unet.state_dict().items()}
    with pytest.raises(ValueError, match=r"was made of another kind of base: .* does not fit"):
        load_adapter(pipe, delta, other_base=True)
    assert all(torch.equal(value, before[name]) for name, value in pipe.unet.state_dict().items())


def test_a_file_says_what_its_base_predicts(motion: Path) -> None:
    for kind in ("lora", "delta"):
        with safe_open(motion / f"{kind}.safetensors", framework="pt") as file:
            assert json.loads(file.metadata()["latentshift"])["base_prediction_type"] == "epsilon"

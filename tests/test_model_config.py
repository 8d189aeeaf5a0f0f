"""Wrong values in a model's configuration files end in one sentence with file and setting, whatever opens the model."""

from __future__ import annotations

import json
import math
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

import diffusers
import pytest
from diffusers import AutoencoderKL, UNet2DConditionModel

from latentshift import LatentShiftPipeline
from latentshift.diffusion.schedulers import KNOWN_SCHEDULERS
from latentshift.models.storage.config_schema import PARTS, PIPELINE
from latentshift.models.storage.families import FAMILIES, unet_config, vae_config
from latentshift.models.storage.meta_init import meta_components
from latentshift.models.storage.model_config import check_config_files

# None of these is a value of any setting, but for the exceptions.
NEVER = (-(10**12), 10**12 + 0.5, math.nan, math.inf, {"a": 1}, [], [[[[1]]]], ["a", 1], "x" * 100_000)
EXCEPTIONS = {
    "shift": ({"a": 1},),
    "model_max_length": (10**12 + 0.5, math.inf),
    "lambda_min_clipped": (10**12 + 0.5, math.nan, math.inf),
}
SETTINGS = [
    *(("model_index.json", setting) for setting in PIPELINE),
    *(
        (f"{part}/{name}", setting)
        for part, (name, kinds) in PARTS.items()
        if part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
        for setting in kinds
    ),
]


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "changed"))


def put(folder: Path, file: str, **settings: Any) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def test_impossible_values_of_every_setting_are_refused(folder: Path) -> None:
    for file, setting in SETTINGS:
        before = (folder / file).read_text()
        for value in NEVER:
            if value in EXCEPTIONS.get(setting, ()):
                continue
            put(folder, file, **{setting: value})
            with pytest.raises(ValueError, match=f"{setting} must be") as caught:
                check_config_files(folder)
            message = str(caught.value)
            assert message.startswith(str(folder / file)) and "\n" not in message and len(message) < 600
        (folder / file).write_text(before)
    check_config_files(folder)


@pytest.mark.parametrize("name", FAMILIES)
def test_published_models_hold(name: str, folder: Path) -> None:
    """As their classes write them, defaults included."""
    import torch

    family = FAMILIES[name]
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**unet_config(family)), AutoencoderKL(**vae_config(family))
    (folder / "unet" / "config.json").write_text(unet.to_json_string())
    (folder / "vae" / "config.json").write_text(vae.to_json_string())
    for text in family.text_encoders:
        (folder / "text_encoder" / "config.json").write_text(text.config(**text.sizes).to_json_string(use_diff=False))
        check_config_files(folder)


@pytest.mark.parametrize("name", sorted(KNOWN_SCHEDULERS))
def test_known_schedulers_hold_as_they_are_written(name: str, folder: Path) -> None:
    kind = getattr(diffusers, name)
    if getattr(kind, "_is_dummy", False) or "dummy" in kind.__module__:
        pytest.skip("needs a library that is not installed")
    kind().save_pretrained(folder / "scheduler")
    check_config_files(folder)


WRONG = [
    ("model_index.json", {"num_frames": "sixteen"}, "num_frames must be a whole number"),
    ("model_index.json", {"num_frames": 0}, "num_frames must be a whole number"),
    ("model_index.json", {"fps": True}, "fps must be a number"),
    ("model_index.json", {"shift": {"fold": 1}}, "shift: fold must be a whole number from 2 to"),
    ("model_index.json", {"shift": {"place": "norm1"}}, "shift: place must be one of conv1, conv2, block, not 'norm1'"),
    ("model_index.json", {"shift": {"padding": "mirror"}}, "shift: padding must be one of zeros, circular, replicate"),
    ("model_index.json", {"shift": "yes"}, "shift must be a group of settings, or null, not 'yes'"),
    ("model_index.json", {"unet": None}, "unet must be [library, class], not None"),
    ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**9}, "num_train_timesteps must be a whole number"),
    ("scheduler/scheduler_config.json", {"timestep_spacing": "even"}, "timestep_spacing must be one of linspace"),
    ("unet/config.json", {"sample_size": None}, "sample_size must be a whole number"),
    ("unet/config.json", {"block_out_channels": [8, 10**9]}, "block_out_channels must be"),
    ("unet/config.json", {"layers_per_block": 10**6}, "layers_per_block must be"),
    ("text_encoder/config.json", {"encoder_layers": 10**6}, "encoder_layers must be"),
    ("tokenizer/tokenizer_config.json", {"model_max_length": 1.5}, "model_max_length must be a whole number"),
]


@pytest.mark.parametrize(("file", "settings", "message"), WRONG)
def test_every_command_says_so(cli, folder: Path, file: str, settings: dict[str, Any], message: str) -> None:
    put(folder, file, **settings)
    recipe = Path(__file__).parent.parent / "recipes" / "finetune-folder.yaml"
    words = ("output=run", f"model={folder}", "data={source: sprites, options: {clips: 4}}", "compute={device: cpu}")
    commands = (
        ("info", folder),
        ("generate", "red", "--model", folder, "-o", "clip.mp4"),
        ("init", "--base", folder, "-o", "new"),
        ("train", recipe, *words, "batch_size=2"),
        ("train", recipe, *words, "batch_size=2", "--dry-run"),
    )
    for command in commands:
        code, _, err = cli(*command)
        assert code == 1 and message in err.splitlines()[-1] and str(folder) in err and "Traceback" not in err, err


BETWEEN = [
    ("unet/config.json", {"act_fn": "sixteen"}, r"changed/unet can't be used as it is configured: .*sixteen"),
    ("unet/config.json", {"norm_num_groups": 3}, r"changed/unet can't be used as it is configured: "),
    ("unet/config.json", {"conv_in_kernel": 2}, r"changed/unet/config.json describes another model.*conv_in.weight"),
    ("text_encoder/config.json", {"activation_function": "sixteen"}, r"changed/text_encoder can't be used.*sixteen"),
    ("text_encoder/config.json", {"vocab_size": 7}, r"changed/text_encoder/config.json describes another model"),
    ("vae/config.json", {"layers_per_block": 3}, r"the weights in .*changed/vae are incomplete"),
]


@pytest.mark.parametrize(("file", "settings", "message"), BETWEEN)
def test_a_setting_that_the_weights_or_the_class_contradict(
    folder: Path, file: str, settings: dict[str, Any], message: str
) -> None:
    put(folder, file, **settings)
    with pytest.raises(ValueError, match=message) as caught:
        LatentShiftPipeline.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_files_that_hold_no_settings(folder: Path) -> None:
    for content, message in (
        ("[1]", "must hold a group of settings"),
        ("[" * 300_000, "nested more than"),
        ('{"a": ' + " " * 2**22 + "1}", "longer than"),
        ("{", "is no JSON"),
    ):
        for file in ("unet/config.json", "model_index.json"):
            before = (folder / file).read_text()
            (folder / file).write_text(content)
            for open_model in (LatentShiftPipeline.from_pretrained, lambda path: meta_components(str(path))):
                with pytest.raises(ValueError, match=message) as caught:
                    open_model(folder)
                assert str(folder / file) in str(caught.value) and "\n" not in str(caught.value)
            (folder / file).write_text(before)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux")
def test_nothing_is_allocated_for_a_number(folder: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    put(folder, "scheduler/scheduler_config.json", num_train_timesteps=10**9)
    with pytest.raises(ValueError, match="num_train_timesteps"):
        LatentShiftPipeline.from_pretrained(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_settings_of_the_class_are_checked_like_a_files(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"^num_frames must be a whole number"):
        LatentShiftPipeline.from_pretrained(folder, num_frames="sixteen")
    with pytest.raises(ValueError, match="guidance_scale must be a number"):
        LatentShiftPipeline.from_pretrained(folder, guidance_scale=math.nan)


def test_a_tokenizer_of_another_text_encoder_is_refused(cli, folder: Path) -> None:
    file = folder / "tokenizer" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["x" * 90] = len(vocabulary)
    file.write_text(json.dumps(tokenizer))
    for command in (("info", folder), ("generate", "red", "--model", folder, "-o", "clip.mp4")):
        code, _, err = cli(*command)
        message = err.splitlines()[-1]
        assert code == 1 and "the tokenizer does not belong to its text encoder" in message and "vocab_size" in message
        assert str(folder) in message and "x" * 50 not in message


def test_a_prompt_of_another_encoding_is_refused(cli, model: Path) -> None:
    latin = "a caf\udce9 on black"  # as Python takes the bytes of a terminal in Latin-1
    for command in (("generate", latin), ("generate", "red", "--negative", latin)):
        code, _, err = cli(*command, "--model", model, "-o", "clip.mp4")
        assert code == 1 and "is not UTF-8 text: a caf\\udce9 on black" in err
    pipeline = LatentShiftPipeline.from_pretrained(model)
    for arguments in ({"prompt": latin}, {"prompt": "red", "negative_prompt": latin}):
        with pytest.raises(ValueError, match="is not UTF-8 text"):
            pipeline(**arguments, num_inference_steps=2)


def test_a_folder_of_a_short_name_does_not_hide_what_is_wrong(cli, ldm_folder: Path) -> None:
    shutil.copytree(ldm_folder, "b")
    file = Path("b/bert/config.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "vocab_size": 5}))
    code, _, err = cli("info", "b")
    assert code == 1 and "b/bert/config.json describes another model than the weights beside it" in err

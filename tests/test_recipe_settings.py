"""A recipe's settings: what holds, what is refused, and with which sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from latentshift.data.sources import parse_source
from latentshift.training.recipe_file import dump_recipe, load_recipe
from tiny_runs import RECIPES


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
        ("lerning_rate=1", "is not valid: lerning_rate: unknown setting; did you mean optimizer.learning_rate?"),
        ("data.sed=1", "is not valid: data.sed: unknown setting; did you mean data.seed?"),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate: must be more than 0.0, not -1"),
        ("steps=many", "steps: must be a whole number, not 'many'"),
        ("stage=sound", "'stage' must be one of 'autoencoder', 'image', 'video', 'controlnet', not 'sound'"),
        ("stage=", "'stage' must be one of"),
        ("optimizer=3", "optimizer: must be a group of settings, as {name: value}, not 3"),
        ("shift=3", "shift: must be a group of settings, as {name: value}, not 3"),
        ("optimizer.betas=[0.9, 1]", "optimizer.betas.1: must be less than 1.0, not 1"),
        ("seed=9223372036854775808", "seed: must be less than 9223372036854775808"),
        ("data=[]", "data: must hold 1 or more, not 0"),
        ("validation={data: []}", "validation.data: must hold 1 or more, not 0"),
        ("data={weight: 2}", "is not valid: data.source: is required"),
        ("steps", "not of the form key=value"),
        ("steps.more=1", "steps is a single value"),
        ("data=[", "is not YAML"),
        ("shift.fold=1", "shift: the shift's fold must be"),
        ("shift.padding=mirror", 'shift: the shift\'s padding must be one of "zeros", "circular", "replicate"'),
        ("shift.pad=2", "shift: the shift has the settings"),
        (
            "steps=100",
            "is not valid: optimizer.warmup_steps 200 and optimizer.decay_steps 5000 are more than the 100 steps",
        ),
        ("frame_curriculum={1: 9}", "is not valid: frame_curriculum: each key must be 2 or more, not 1"),
        ("frame_curriculum={four: 9}", "is not valid: frame_curriculum: each key must be a whole number, not 'four'"),
        ("frame_curriculum={4: true}", "frame_curriculum.4: must be a whole number, not True"),
        ("frame_curriculum={true: 4}", "frame_curriculum: each key must be a whole number, not True"),
        ("steps=true", "is not valid: steps: must be a whole number, not True"),
        ("seed=false", "is not valid: seed: must be a whole number, not False"),
        ("image_share=false", "is not valid: image_share: must be a number, not False"),
        ("optimizer.betas=[0.9, true]", "optimizer.betas.1: must be a number, not True"),
        ("optimizer.max_grad_norm=true", "optimizer.max_grad_norm: must be a number, not True"),
        ("data={source: sprites, views: true}", "is not valid: data.views: must be a whole number, not True"),
        ("data=[sprites, {source: sprites, views: 0}]", "is not valid: data.1.views: must be 1 or more, not 0"),
        ("validation={data: {source: sprites, views: 0}}", "is not valid: validation.data.views: must be 1 or more"),
        ("lora={rank: true}", "lora.rank: must be a whole number, not True"),
        ("train_text_encoder=1.5", "train_text_encoder: must be true or false, not 1.5"),
        ("frame_curriculum={4: 0}", "is not valid: frame_curriculum.4: must be 1 or more, not 0"),
        ("frame_curriculum=[4, 8]", "frame_curriculum: must be a group of settings, as {name: value}, not [4, 8]"),
        ("frame_curriculum={4: 9, 8: 20000}", "takes 20,009 steps of 20,000, and none is left for whole clips"),
        ("num_frames=8", "frame_curriculum has 8 frames, and a whole clip has 8"),
        ("noise_share=-1", "noise_share: must be 0.0 or more, not -1"),
        ("noise_share=.inf", "noise_share: must be"),
        ("sample_steps=2000", "sample_steps: must be 1000 or less, not 2000"),
        ("model=null", "model: must be a word or a sentence, not nothing"),
        ("data.sorce=x", "is not valid: data.sorce: unknown setting; did you mean data.source?"),
    ],
)
def test_settings_that_do_not_hold_are_named(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load_recipe(RECIPES / "sprites-video.yaml", [override])


def test_what_is_like_no_setting_of_the_stage_has_no_suggestion() -> None:
    with pytest.raises(ValueError, match=r"is not valid: shift: unknown setting$"):  # it is one of stage video
        load_recipe(RECIPES / "sprites-controlnet.yaml", ["shift.padding=replicate"])


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
    levels["unet"] |= {"attention": [False, True, False], "layers_per_block": [1, 2]}
    (tmp_path / "levels.yaml").write_text(yaml.safe_dump(levels))
    with pytest.raises(ValueError, match="channels names 3 levels and layers_per_block 2"):
        load_recipe(tmp_path / "levels.yaml")
    with pytest.raises(ValueError, match=r"not valid: unet\.layers_per_block\.list\.0: must be more than 0, not 0$"):
        load_recipe(RECIPES / "sprites-image.yaml", ["unet.layers_per_block=[0, 1, 2]"])
    with pytest.raises(ValueError, match=r"not valid: unet\.layers_per_block\.int: must be a whole number, not 'two'$"):
        load_recipe(RECIPES / "sprites-image.yaml", ["unet.layers_per_block=two"])
    with pytest.raises(ValueError, match="set prediction_type to v_prediction"):
        load_recipe(RECIPES / "sprites-image.yaml", ["zero_terminal_snr=true", "prediction_type=epsilon"])


@pytest.mark.parametrize(
    ("override", "may_change"),
    [
        ("steps=20001", True),
        ("log_every=3", True),
        ("compute.precision=fp32", True),
        ("optimizer.learning_rate=1e-5", True),
        ("optimizer.weight_decay=0.1", False),
        ("model=another", True),
        ("data.latents=elsewhere", True),
        ("data.seconds=1", False),
        ("validation={every: 5}", True),
        ("guidance_scale=2", True),
        ("seed=1", False),
        ("shift.fold=4", False),
        ("noise_share=2", False),
        ("frame_curriculum={4: 1500}", False),
        ("shift.padding=replicate", False),
        ("lora.rank=2", False),
    ],
)
def test_a_setting_says_whether_it_may_change_when_a_run_is_resumed(override: str, may_change: bool) -> None:
    path = RECIPES / "sprites-video.yaml"
    before, now = (
        load_recipe(path, ["train_text_encoder=false"]),
        load_recipe(path, ["train_text_encoder=false", override]),
    )
    assert before != now and (before.fixed() == now.fixed()) == may_change


def test_the_options_of_a_source_take_no_truth_value_for_a_number() -> None:
    with pytest.raises(ValueError, match="the options of sprites are not valid: clips: must be a whole number, not T"):
        parse_source("sprites", {"clips": True})


def test_a_misspelled_option_of_a_source_is_told_what_it_may_mean() -> None:
    with pytest.raises(
        ValueError, match=r"the options of sprites are not valid: clip: unknown setting; did you mean cl"
    ):
        parse_source("sprites", {"clip": 3})

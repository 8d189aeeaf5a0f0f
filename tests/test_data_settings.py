"""The settings of a run's data in one canonical form: what it tells apart, and where its SHA-256 is to be found."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from latentshift.data.sprites import VERSION
from latentshift.hub.training_cost import training_cost
from latentshift.training.data.settings_digest import data_settings, data_settings_sha256
from latentshift.training.recipe_file import load_recipe
from tiny_runs import RECIPES, tiny


def _sha256(words: list[str], recipe: str = "finetune-folder") -> str:
    return data_settings_sha256(load_recipe(RECIPES / f"{recipe}.yaml", words))


def test_it_is_the_sha256_of_a_line_that_can_be_written_by_hand() -> None:
    line = f'{{"data":[{{"options":{{"clips":24000,"seed":0}},"source":"sprites"}}],"sprites_version":{VERSION}}}\n'
    assert _sha256([], "sprites-video") == hashlib.sha256(line.encode()).hexdigest()
    assert _sha256([], "sprites-autoencoder") == hashlib.sha256(b'{"data":{},"sprites_version":1}\n').hexdigest()


@pytest.mark.parametrize(
    "words", [["data=/home/jane doe/clips"], ["data=clips", "data.latents=/tmp/a"], ["data=clips", "data.weight=1"]]
)
def test_paths_and_what_is_at_its_default_do_not_count(words: list[str]) -> None:
    assert _sha256(words) == _sha256(["data=clips", "steps=700", "seed=3", "output=elsewhere"])


def test_a_url_keeps_its_address_alone() -> None:
    recipe = load_recipe(RECIPES / "finetune-folder.yaml", ["data=webdataset:https://jane:secret@a.org/b.tar?sig=0f"])
    assert '"source":"webdataset:https://a.org/b.tar"' in data_settings(recipe)


def test_what_is_another_choice_of_data_counts() -> None:
    words = ["data=boats", "data=webvid:clips", "data=[clips, clips]", "data={source: clips, flip: true}"]
    words += ["data={source: clips, options: {root: a}}", "data={source: clips, seconds: 1}", "data=sprites"]
    assert len({_sha256([word]) for word in ("data=clips", *words)}) == len(words) + 1
    assert "sprites_version" not in data_settings(load_recipe(RECIPES / "finetune-folder.yaml"))


def test_the_model_the_dry_run_info_and_the_card_have_the_same(cli: Any, runs: Path, tmp_path: Path) -> None:
    for stage in ("autoencoder", "image", "video"):
        content = (runs / stage / "model" / "data_settings.json").read_bytes()
        assert content.decode() == data_settings(tiny(stage, runs))
    digest = hashlib.sha256(content).hexdigest()
    words = ["data.options.clips=6", "data.frames=4", f"model={runs}/image", f"output={tmp_path}/new"]
    code, out, errors = cli("train", RECIPES / "sprites-video.yaml", *words, "--dry-run")
    assert code == 0 and out.splitlines()[-1].split() == ["#", "data", "settings,", "SHA-256", digest], errors
    code, out, errors = cli("info", runs / "video", "--json")
    assert code == 0 and json.loads(out)["data_settings_sha256"] == digest, errors
    code, out, errors = cli("push", runs / "video", "me/boats", "--dry-run", "seen")
    assert code == 0 and "data_settings.json" in out.splitlines(), errors
    assert (tmp_path / "seen" / "data_settings.json").read_bytes() == content
    card = (tmp_path / "seen" / "README.md").read_text()
    assert f"SHA-256 of the data's settings (`data_settings.json`): `{digest}`" in card
    assert re.search(r"\n4 steps in 0 minutes on \S.*, 1 threads?; `latentshift train recipe.yaml`, with\n", card)


def test_the_hours_of_a_log(tmp_path: Path) -> None:
    assert training_cost(tmp_path) == ""
    rows = [{"step": 1000, "samples": 8000, "samples_per_second": 2.0}]
    rows += [{"step": 2000, "samples": 24000, "samples_per_second": 4.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert training_cost(tmp_path) == "2,000 steps in 2.2 hours"
    versions = {"device": "NVIDIA A100", "processor": "AMD EPYC", "threads": 8, "processes": 2}
    (tmp_path / "versions.json").write_text(json.dumps(versions))
    assert training_cost(tmp_path) == "2,000 steps in 2.2 hours on 2 processes of NVIDIA A100"
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3000')  # cut by a kill
    assert training_cost(tmp_path).startswith("2,000 steps in 2.2 hours")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write("}\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl line 3 is damaged: repair the log, or move it away"):
        training_cost(tmp_path)


def test_a_log_that_is_damaged_is_one_sentence(cli: Any, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "video", tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    (tmp_path / "run" / "metrics.jsonl").write_bytes(b"\xff\n")
    code, _, errors = cli("push", "run", "me/boats", "--dry-run", "seen")
    assert code == 1 and "metrics.jsonl" in errors and errors.count("\n") == 1


def test_the_models_in_the_repository_name_the_data_of_their_recipes() -> None:
    root = RECIPES.parent
    for recipe, words, card in (
        ("sprites-autoencoder", [], "src/latentshift/bundled_model"),
        ("sprites-video", [], "src/latentshift/bundled_model"),
        ("sprites-image", [], "models/sprites-image"),
        ("sprites-keyframes", ["data.options.clips=12000"], "models/sprites-keyframes"),
    ):
        assert _sha256(words, recipe) in (root / card / "README.md").read_text()

"""A run's folder: what may begin or go on in it, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from latentshift import LatentShiftPipeline
from latentshift.training import run_folder as run_folder_module
from latentshift.training.recipe_file import dump_recipe
from latentshift.training.run import run
from tiny_runs import tiny


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
        with pytest.raises(ValueError, match=f"holds clips of other settings: {what}"):
            run(tiny("video", runs, word, f"output={runs}/other"), quiet=True)


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("optimizer.weight_decay=0.5", r"optimizer\.weight_decay was 0\.0 and is now 0\.5;"),
        ("data.flip=true", "data.flip was False and is now True;"),
        ("lora.rank=4", r"lora was not set and is now \{'rank': 4"),
    ],
)
def test_the_setting_that_differs_is_named_and_not_all_of_its_group(tmp_path: Path, word: str, what: str) -> None:
    recipe, other = (tiny("video", tmp_path, *words) for words in ((), (word,)))
    with pytest.raises(ValueError, match=f"holds a run of another recipe: {what}"):
        other.check_resumes(recipe, 0)


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


def test_a_base_with_other_settings_is_another_base(runs: Path, tmp_path: Path) -> None:
    data = (f"data.latents={tmp_path}/latents", "data.options.clips=2", "data.frames=16")
    words = ("video", runs, f"output={tmp_path}/run", *data, "num_frames=null")
    run(tiny(*words, "steps=2"), quiet=True)
    changes = (
        ("shift", {"shift": {"fold": 8}}),
        ("shift", {"shift": {"place": "conv2"}}),
        ("num_frames", {"num_frames": 8}),
    )
    for number, (what, change) in enumerate(changes):
        other = LatentShiftPipeline.from_pretrained(runs / "image" / "model", **change)
        other.save_pretrained(tmp_path / f"base-{number}")
        with pytest.raises(ValueError, match=f"run began with another {what} than what is named now"):
            run(tiny(*words, f"model={tmp_path}/base-{number}"), quiet=True)
    run(tiny(*words), quiet=True)


def test_what_an_earlier_run_had_replaced_is_not_taken_up_by_a_new_one(runs: Path, tmp_path: Path) -> None:
    recipe = tiny("video", runs, f"output={tmp_path}/run")
    left = {"replaced": [{"name": "gone.mp4", "kind": "damaged", "reason": "it is"}], "short": ["gone.mp4"]}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "data.json").write_text(json.dumps(left))
    (tmp_path / "run" / "recipe.yaml").write_text(dump_recipe(recipe))
    run(recipe, quiet=True)
    report = json.loads((tmp_path / "run" / "data.json").read_text())
    assert report["replaced"] == report["short"] == []


def test_a_disk_without_locks_gives_a_warning_and_a_refused_run_leaves_no_files(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unable(path: Path) -> None:
        path.touch()
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(run_folder_module, "open_locked", unable)
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

"""What an earlier release wrote opens as before: runs are resumed, shards are read (tests/data/*/README.md)."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from latentshift.data.latents.latent_dataset import LatentDataset
from latentshift.training.checkpoints.paths import list_checkpoints
from latentshift.training.recipe_file import load_recipe
from latentshift.training.run import run

EARLIER = Path(__file__).parent / "data" / "runs-2026-11"
EXPECTED = json.loads((EARLIER / "expected.json").read_text())
CLOSE = 1e-3  # machines round differently


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, and the folder that the runs were started in: their recipes have relative paths."""
    folder = Path(shutil.copytree(EARLIER, tmp_path / "earlier"))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("stage", ["autoencoder", "video"])
def test_an_earlier_run_is_resumed_and_ends_as_it_would_have_then(stage: str, earlier: Path) -> None:
    expected = EXPECTED[stage]
    encoded = {path: path.stat().st_mtime_ns for path in earlier.rglob("shard-*.safetensors")}
    run(load_recipe(earlier / stage / "recipe.yaml"), quiet=True)
    newest = list_checkpoints(earlier / stage / "checkpoints")[-1]
    assert newest.name == "step-00000004"
    lines = [json.loads(line) for line in (earlier / stage / "metrics.jsonl").read_text().splitlines()]
    assert [set(line) for line in lines] == [{*line, "waiting_for_data", "samples_per_second"} for line in lines]
    for line, then in zip(lines, expected["metrics"], strict=True):
        assert {name: line[name] for name in then} == pytest.approx(then, rel=CLOSE)
    average = load_file(newest / "average.safetensors")
    for name, norm in expected["average"].items():
        assert float(average[name].double().norm()) == pytest.approx(norm, rel=CLOSE), name
    assert {path: path.stat().st_mtime_ns for path in encoded} == encoded  # nothing is encoded again
    if "validation" in expected:
        log = [json.loads(line) for line in (earlier / stage / "validation.jsonl").read_text().splitlines()]
        assert [line.pop("asked") for line in log] == [line["asked"] for line in expected["validation"]]
        for line, then in zip(log, expected["validation"], strict=True):
            assert line == pytest.approx({name: then[name] for name in line}, rel=CLOSE)
    assert set(os.listdir(earlier / stage)) >= {"recipe.yaml", "data.json", "versions.json", "samples", "checkpoints"}


def test_an_earlier_folder_of_latents_has_the_same_values(earlier: Path) -> None:
    dataset = LatentDataset(earlier / "latents")
    assert dataset.size(2) == 3
    for index, then in enumerate(EXPECTED["latents"]):
        sample = dataset.request(2, index, (0, index)).read()
        assert sample.caption == then["caption"] and sample.content.dtype == np.float16
        assert list(sample.content.shape) == then["shape"]
        assert float(np.abs(sample.content.astype(np.float64)).sum()) == pytest.approx(then["sum"], rel=1e-9)

"""Validation during training, and the best step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from latentshift.training.monitoring.run_log import best_step
from latentshift.training.monitoring.validation import validation_id
from latentshift.training.recipes.settings import ValidationSettings
from latentshift.training.run import run
from latentshift.training.stages.video import VideoStage
from tiny_runs import CPU, tiny


def test_validation_is_the_same_question_every_time(runs: Path, tmp_path: Path) -> None:
    words = (
        "video",
        runs,
        "validation={every: 2, clips: 3, bands: 2, data: {source: sprites, options: {clips: 5, seed: 9}}}",
    )
    for name, rate in (("still", "1e-12"), ("moving", "1e-2")):
        settings = (f"output={tmp_path}/{name}", f"optimizer={{learning_rate: {rate}, warmup_steps: 0}}")
        run(tiny(*words, *settings, "steps=2"), quiet=True)
        run(tiny(*words, *settings), quiet=True)
    still, moving = (
        [json.loads(line) for line in (tmp_path / name / "validation.jsonl").read_text().splitlines()]
        for name in ("still", "moving")
    )
    assert [line["step"] for line in still] == [2, 4]
    assert set(still[0]) == {"step", "asked", "error", "error_0_499", "error_500_999"}
    assert still[0]["error"] == pytest.approx((still[0]["error_0_499"] + still[0]["error_500_999"]) / 2)
    assert still[0]["error"] == pytest.approx(still[1]["error"], rel=1e-4)  # nothing is drawn anew
    assert moving[0]["error"] != pytest.approx(moving[1]["error"], rel=1e-4)


def test_the_best_step_is_kept_and_becomes_the_model(runs: Path, tmp_path: Path) -> None:
    words = ["video", runs, "validation={every: 1, clips: 2, bands: 2}", f"output={tmp_path}/run", "save_every=100"]
    words += [
        "optimizer={learning_rate: 1.0, warmup_steps: 0}",
        "ema_decay=0",
        "keep_checkpoints=1",
        "weights=float32",
    ]
    run(tiny(*words), quiet=True)
    log = [json.loads(line) for line in (tmp_path / "run" / "validation.jsonl").read_text().splitlines()]
    best = min(log, key=lambda line: line["error"])["step"]
    assert best < 4  # such a rate spoils it
    kept = tmp_path / "run" / "checkpoints" / f"step-{best:08d}"
    last, expected = (load_file(kept.with_name(f"step-{step:08d}") / "average.safetensors") for step in (4, best))

    def exported() -> dict[str, torch.Tensor]:
        return load_file(tmp_path / "run" / "model" / "unet" / "diffusion_pytorch_model.safetensors")

    assert all(torch.equal(value, last[f"unet.{name}"]) for name, value in exported().items())
    run(tiny(*words, "export_from=best"), quiet=True)  # the same run again, ended otherwise
    assert all(torch.equal(value, expected[f"unet.{name}"]) for name, value in exported().items())
    with pytest.raises(ValueError, match="export_from is best, and nothing says which step is; set validation"):
        tiny("video", runs, "export_from=best")


@pytest.mark.parametrize(
    ("changed", "digests", "same"),
    [
        ({"every": 7}, ["digest"], True),
        ({"data": {"source": "there", "seconds": 2.0}}, ["digest"], True),  # the digest tells other data
        ({}, ["of other data"], False),
        ({"clips": 3}, ["digest"], False),
        ({"data": {"source": "here", "seconds": 1.0}}, ["digest"], False),
    ],
)
def test_what_is_measured_is_known_by_what_changes_the_error(changed: dict, digests: list[str], same: bool) -> None:
    settings = {"every": 1, "clips": 2, "data": {"source": "here", "seconds": 2.0}}
    before, after = (ValidationSettings.model_validate(each) for each in (settings, settings | changed))
    assert (validation_id(before, ["digest"]) == validation_id(after, digests)) is same


@pytest.mark.parametrize(
    ("lines", "best"),
    [
        ([(1, 0.5, "this"), (2, 0.4, "this"), (3, 0.6, "this")], 2),
        ([(1, float("nan"), "this"), (2, 0.5, "this")], 2),
        ([(1, 0.5, "this"), (2, 0.1, "another")], 1),
        ([(1, 0.5, "this"), (4, 0.1, "this")], 1),  # step 4 has no checkpoint
        ([(4, 0.1, "this")], None),
    ],
    ids=["least error", "no number", "other question", "no checkpoint", "none"],
)
def test_the_best_step_has_the_least_error_of_this_question_and_a_checkpoint(
    lines: list[tuple[int, float, str]], best: int | None, tmp_path: Path
) -> None:
    for step in (1, 2, 3):
        (tmp_path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    (tmp_path / "validation.jsonl").write_text(
        "".join(json.dumps({"step": step, "error": error, "asked": of}) + "\n" for step, error, of in lines)
    )
    assert best_step(tmp_path, "this") == best


def test_a_best_step_that_is_asked_for_late_is_measured(runs: Path, tmp_path: Path) -> None:
    words = ["video", runs, f"output={tmp_path}/run"]
    run(tiny(*words), quiet=True)
    run(tiny(*words, "validation={every: 1, clips: 1, bands: 1}", "export_from=best"), quiet=True)
    (line,) = (tmp_path / "run" / "validation.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 4


def test_validation_data_is_written_down_by_the_main_process_and_reported(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = "{source: sprites, options: {clips: 3, seed: 5}, encode: false}"
    validation = f"validation={{every: 2, clips: 2, bands: 2, data: {held_out}}}"
    recipe = tiny("video", runs, f"output={tmp_path}/run", validation)
    run(recipe)
    report = json.loads((tmp_path / "run" / "data.json").read_text())
    assert [each["clips"] for each in report["validation"]] == [3] and report["replaced_in_validation"] == []
    assert "validation: sprites: 3 clips\n" in capsys.readouterr().out
    (manifest,) = (tmp_path / "run" / "validation").rglob("manifest.jsonl")
    before = manifest.stat().st_mtime_ns
    VideoStage(recipe, CPU, rank=1, ranks=2)
    assert manifest.stat().st_mtime_ns == before
    report["replaced_in_validation"] = [{"name": "gone.mp4", "kind": "damaged", "reason": "it is"}]
    (tmp_path / "run" / "data.json").write_text(json.dumps(report))
    assert VideoStage(recipe, CPU).data_issues()["replaced_in_validation"] == report["replaced_in_validation"]

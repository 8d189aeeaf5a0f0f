"""The settings of an evaluation: one dtype in all workers, told by name when it is another, and in the command."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from latentshift import LatentShiftPipeline
from latentshift.cli.own_command import own_command
from latentshift.evaluation.protocols.evaluation import Evaluation, VideoSet
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.protocols.run import Worker
from latentshift.evaluation.report.schema import System
from latentshift.evaluation.settings_file import FILE_NAME, check_or_write_settings
from latentshift.evaluation.sprites.study import Study
from stand_in_extractors import stand_ins

ADVICE = "dtype was float32 and is now bfloat16; add --dtype float32 to go on"


def start_study(model: Path, folder: Path, dtype: str, worker: Worker) -> None:
    pipeline = LatentShiftPipeline.from_pretrained(model, dtype=getattr(torch, dtype))
    Study(pipeline, "model", folder, 2, worker=worker)


def start_evaluation(model: Path, folder: Path, dtype: str, worker: Worker) -> None:
    videos = VideoSet("the plan", [Item(prompt="a red star", seed=0)], lambda _: iter(()))
    settings = {"contents": f"of weights in {dtype}", "device": "cpu", "dtype": dtype}
    system = System(name="model", kind="video")
    Evaluation(folder, "folder", system, settings, stand_ins(), videos, None, lambda *_: []).prepare(worker)


@pytest.mark.parametrize("start", [start_study, start_evaluation])
def test_a_worker_whose_dtype_is_another_refuses(
    sprites_model: Path, tmp_path: Path, start: Callable[[Path, Path, str, Worker], None]
) -> None:
    def first() -> None:  # is at the barrier when it has written its settings
        start(sprites_model, tmp_path, "float32", Worker(0, 2))

    with pytest.raises(ValueError, match=ADVICE):
        start(sprites_model, tmp_path, "bfloat16", Worker(1, 2, first))
    start(sprites_model, tmp_path, "float32", Worker(1, 2))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"dtype": "bfloat16"}, ADVICE),
        ({"dtype": "bfloat16", "device": "cuda"}, "device was 'cpu' and is now 'cuda'"),
        ({"steps": 25}, "contents was 'a' and is now 'b'"),
    ],
)
def test_device_and_dtype_are_named_before_the_fingerprint_that_follows_from_them(
    tmp_path: Path, changed: dict[str, object], why: str
) -> None:
    settings = {"contents": "a", "device": "cpu", "dtype": "torch.float32", "steps": 100}
    check_or_write_settings(tmp_path, settings)
    with pytest.raises(ValueError, match=why):
        check_or_write_settings(tmp_path, {**settings, "contents": "b", **changed})
    assert json.loads((tmp_path / FILE_NAME).read_text()) == settings


@pytest.mark.parametrize("given", ["", "--dtype auto ", "--dtype=auto ", "--dtype bfloat16 "])
def test_the_command_in_a_report_names_the_dtype(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    words = shlex.split(f"evaluate sprites 'my model' {given}--steps 2")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/latentshift", *words])
    assert own_command("bfloat16") == "latentshift evaluate sprites 'my model' --steps 2 --dtype bfloat16"
    assert own_command() == shlex.join(["latentshift", *words])

"""The sprites study over processes: killed, and resumed by another number of them, it ends in the same numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from latentshift.evaluation.protocols.readings_files import Reading
from latentshift.evaluation.protocols.readings_writer import ReadingsWriter
from latentshift.evaluation.report.schema import Report, read_report
from latentshift.evaluation.sprites import scores
from launch import Processes, command_line, wait_until

COUNTS = ("--seen", 3, "--held-out", 0, "--images", 2, "--shift-off", 0)


def words_of(model: Path, folder: Path) -> list[str]:
    words = ["evaluate", "sprites", model, *COUNTS, "--steps", 2, "--device", "cpu", "-o", folder]
    return [str(each) for each in words]


def evaluate(*words: str) -> None:
    scores._CALIBRATION_CLIPS = 4  # of the reader itself, which other tests look at
    command_line(*words)


def held_after_one(sign: Path, *words: str) -> None:
    """The same, held before another video's reading is written when there is one."""
    append = ReadingsWriter.append

    def append_or_wait(self: ReadingsWriter, reading: Reading, rows: Mapping[str, np.ndarray]) -> None:
        if done(Path(words[-1])) >= 1:
            sign.touch()
            time.sleep(600)
        append(self, reading, rows)

    ReadingsWriter.append = append_or_wait
    evaluate(*words)


def done(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (folder / "readings/seen").glob("*.jsonl"))


def numbers(report: Report) -> object:
    return report.metrics, report.videos, report.notes, report.model_extra


@pytest.fixture(scope="module")
def whole(sprites_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "study"
    with Processes(evaluate, *words_of(sprites_model, folder)) as run:
        assert run.ended() == [0], run.last_words()
    return folder


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed_by_any_number_of_processes(
    sprites_model: Path, whole: Path, tmp_path: Path, processes: int
) -> None:
    words, sign = words_of(sprites_model, tmp_path / "study"), tmp_path / "held"
    with Processes(held_after_one, sign, *words, processes=processes) as run:
        wait_until(run, sign.exists)
        run.kill()
    assert 1 <= done(tmp_path / "study") < 3
    (tmp_path / "study/clips/seen/.cut.part").write_bytes(b"half a clip")  # as a kill within a write leaves it
    with Processes(evaluate, *words, processes=3 - processes) as run:
        assert set(run.ended()) == {0}, run.last_words()
    assert numbers(read_report(tmp_path / "study")) == numbers(read_report(whole))
    assert any(each.name == "sprites-FVD (seen)" for each in read_report(whole).metrics)
    assert {path.name for path in (tmp_path / "study/clips/seen").iterdir()} == {
        path.name for path in (whole / "clips/seen").iterdir()
    }

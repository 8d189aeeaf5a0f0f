"""``latentshift bench``: every benchmark makes rows, which are printed and written alike."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from latentshift.benchmarks import train
from latentshift.benchmarks.length_settings import LengthSettings
from latentshift.benchmarks.model_parts import ModelParts
from latentshift.benchmarks.report import Estimate, report, table
from latentshift.benchmarks.shift_cost import shift_costs
from latentshift.benchmarks.timing import interleaved_timing, median_interval
from latentshift.models.precision import fast_dtype
from latentshift.pipeline import open_pipeline


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_rows_with_the_same_names_are_one_markdown_table() -> None:
    rows = [{"what": "a", "clips_a_second": 12.345}, {"what": "b", "clips_a_second": 12345.6}, {"loss": 0.12345}]
    lines = list(table(rows))
    assert [cells(line) for line in lines if not line.startswith("| -")] == [
        ["what", "clips a second"],
        ["a", "12.35"],
        ["b", "12,346"],
        [""],
        ["loss"],
        ["0.123"],
    ]
    assert lines[1].strip("| ").split(" | ")[1].endswith("-:") and lines[1].startswith("| ---")


def test_rows_are_printed_as_they_come_and_kept_in_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def rows():
        yield {"loss": 1 / 3}
        printed.append(capsys.readouterr().out)
        yield {"loss": 2 / 3}

    printed: list[str] = []
    report("example", rows(), tmp_path / "rows.json")
    assert "0.333" in printed[0]
    facts = json.loads((tmp_path / "rows.json").read_text())
    assert facts["benchmark"] == "example" and facts["rows"] == [{"loss": 1 / 3}, {"loss": 2 / 3}]
    assert facts["machine"]["torch"] == torch.__version__


def test_calls_take_turns_and_their_first_round_is_not_counted() -> None:
    now, taken = 0.0, []

    def call(name: str, seconds: float) -> Callable[[int], None]:
        def work(number: int) -> None:
            nonlocal now
            now += seconds if number else 1000.0
            taken.append(f"{name}{number}")

        return work

    rates = interleaved_timing([call("a", 0.25), call("b", 2.0)], 3, clock=lambda: now)
    assert rates == [4.0, 0.5] and taken == ["a0", "b0", "a1", "b1", "a2", "b2", "a3", "b3"]


def test_the_loops_side_by_side_both_train(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[list[float]] = []
    learn = torch.Tensor.backward

    def backward(loss: torch.Tensor, *args: object, **kwargs: object) -> None:
        losses[-1].append(loss.item())
        learn(loss, *args, **kwargs)

    def timing(calls: Sequence[Callable[[int], None]], rounds: int, clock: object) -> list[float]:
        assert rounds == 1  # --quick
        for call in calls:
            losses.append([])
            for number in range(2):
                call(number)
        return [6.0, 1.5]

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    monkeypatch.setattr(train, "interleaved_timing", timing)
    monkeypatch.setattr(train, "_CLIPS", 1)  # of 8
    code, out, err = cli("bench", "train", "--quick", "--json", tmp_path / "train.json")
    assert code == 0, err
    (row,) = json.loads((tmp_path / "train.json").read_text())["rows"]
    assert {**row, "what": ""} == {"what": "", "unit": "steps/s", "rate": 6.0, "peer": 1.5, "ratio": 4.0}
    assert row["what"].startswith("sprites video stage in ") and row["what"] in out
    assert [len(each) for each in losses] == [2, 2] and all(each[0] > each[-1] for each in losses)


def test_long_videos_are_measured_beside_what_is_expected(cli, model: Path, tmp_path: Path) -> None:
    words = (model, "--quick", "--frames", "2,4", "--paddings", "circular", "--at-once", 2, "--device", "cpu")
    code, _, err = cli("bench", "length", *words, "--json", tmp_path / "length.json")
    assert code == 0, err
    rows = json.loads((tmp_path / "length.json").read_text())["rows"]
    assert [(row["frames"], row["frame_chunk"]) for row in rows] == [(2, 2), (4, 2)]
    assert rows[0]["difference_to_at_once"] == 0 and rows[1]["difference_to_at_once"] is None
    assert all(row["beside_it_mib"]["value"] > row["pass_expected_mib"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("frames", "chunk", "at_once", "chunks"),
    [(16, 16, 64, [16]), (16, 8, 64, [16, 8]), (128, 16, 64, [16]), (128, 128, 64, [128]), (100, 128, 64, [100])],
)
def test_each_length_is_measured_in_one_or_two_chunks(frames: int, chunk: int, at_once: int, chunks: list[int]) -> None:
    settings = LengthSettings("m", (frames,), chunk, at_once, ("zeros",), 1, 1, "cpu", "float32", 1)
    assert settings.chunks_of(frames) == chunks


def test_data_is_read_beside_a_bare_decode_and_a_bare_read(cli, tmp_path: Path) -> None:
    code, _, err = cli("bench", "data", "--quick", "--json", tmp_path / "data.json")
    assert code == 0, err
    rows = json.loads((tmp_path / "data.json").read_text())["rows"]
    assert [row["what"].split(",")[0] for row in rows] == ["H.264 256x256", "encoded", "memory", "memory"]
    assert [row["samples"] for row in rows[2:]] == [200, 2_000]


def test_what_shows_through_the_last_timestep_grows_with_the_latents(cli, tmp_path: Path) -> None:
    code, _, err = cli("bench", "signal", "--quick", "--json", tmp_path / "signal.json")
    assert code == 0, err
    *rows, bundled = json.loads((tmp_path / "signal.json").read_text())["rows"]
    share_of = {row["latent_std"]: row["discrimination_accuracy"] for row in rows}
    assert sorted(share_of.values()) == [share_of[std] for std in sorted(share_of)]
    assert all(0.5 < each <= 1 for each in share_of.values())
    assert bundled["latent_std"] == pytest.approx(0.25, rel=0.1)  # its recipe's latent_std


def test_each_switch_is_timed_with_and_without_it(cli, model: Path, tmp_path: Path) -> None:
    code, _, err = cli("bench", "speed", model, "--quick", "--json", tmp_path / "speed.json")
    assert code == 0, err
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    shift_rows = [row for row in rows if "the_shift" in row]
    switches = [row for row in rows if "switch" in row]
    others = [("text projected once", "a step"), ("channels last", "a step"), ("channels last", "decoding")]
    fast = "bfloat16 in place of float32"
    has_fast = fast_dtype("cpu") == torch.bfloat16
    both = [(fast, "a step"), (fast, "decoding")] if has_fast else []
    assert [(row["switch"].split(",")[0], row["of"]) for row in switches] == [*both, *others, ("together", "a step")]
    for row in switches:
        assert row["off_to_on"]["value"] == pytest.approx(row["off_s"]["value"] / row["on_s"]["value"])
    _check_shift_rows(shift_rows, has_fast)


def _check_shift_rows(rows: list[dict[str, Any]], has_fast: bool) -> None:
    steps = ["a step, bfloat16", "a step, float32"] if has_fast else ["a step, float32"]
    training = "a training step, bfloat16 autocast" if has_fast else "a training step, float32"
    assert [row["the_shift"] for row in rows] == [*steps, training]
    for row in rows:  # one turn
        assert (row["turns"], row["threads"], row["clock"]) == (1, 1, "processor")
        assert row["cost_percent"]["value"] == pytest.approx(100 * row["with_s"] / row["without_s"] - 100)


def test_the_shift_can_be_timed_alone(cli, model: Path, tmp_path: Path) -> None:
    code, _, err = cli("bench", "speed", model, "--shift-only", "--quick", "--json", tmp_path / "speed.json")
    assert code == 0, err
    _check_shift_rows(json.loads((tmp_path / "speed.json").read_text())["rows"], fast_dtype("cpu") == torch.bfloat16)


@torch.no_grad()
def test_the_shift_is_timed_in_compiled_code_that_shifts_beside_code_that_does_not(model: Path) -> None:
    torch.compiler.reset()
    parts, results = ModelParts(open_pipeline(str(model))), []
    eager = [each.pass_() for each in (parts, parts.without_shift())]
    compiled: list[ModelParts] = []

    def compile_parts(each: ModelParts) -> None:
        each.compile(backend="eager")
        compiled.append(each)

    def call(each: ModelParts) -> None:
        results.append((each, each.pass_()))

    (row,) = shift_costs("a pass, compiled", call, parts, seconds=0, compile_parts=compile_parts)
    assert (row["the_shift"], row["turns"], len(compiled)) == ("a pass, compiled", 1, 2)
    assert [each for each, _ in results[:3]] == [*compiled, compiled[1]]  # the control is the same code once more
    for each, output in results:
        torch.testing.assert_close(output, eager[compiled.index(each)])
    assert not torch.allclose(*eager)


def test_compiled_code_is_timed_with_the_shift_alone(cli, model: Path) -> None:
    code, out, err = cli("bench", "speed", model, "--compiled", "--quick")
    assert code == 2 and "needs --shift-only" in err and not out


def test_several_threads_have_a_row_in_time_of_the_wall_and_stay_as_many(model: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        parts = ModelParts(open_pipeline(str(model)))
        with torch.no_grad():
            rows = list(shift_costs("a pass", ModelParts.pass_, parts, seconds=1e-9))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert [(row["threads"], row["clock"], row["turns"]) for row in rows] == [(1, "processor", 15), (2, "wall", 15)]
    for row in rows:
        assert row["cost_percent"].low <= row["cost_percent"].value <= row["cost_percent"].high


def test_a_model_without_the_shift_has_no_cost_of_it(cli, model: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(str(model))
    pipeline.set_method("latent-vdm")
    pipeline.save_pretrained(tmp_path / "vdm")
    code, out, err = cli("bench", "speed", tmp_path / "vdm", "--shift-only", "--quick")
    assert code != 0 and "has no temporal shift" in err and "Traceback" not in err and not out


@pytest.mark.parametrize(("n", "low", "high"), [(1, 0, 0), (5, 0, 4), (6, 0, 5), (9, 1, 7), (20, 5, 14), (100, 39, 60)])
def test_the_interval_of_a_median_is_that_of_published_tables(n: int, low: int, high: int) -> None:
    values = random.Random(n).sample(range(n), n)
    assert median_interval(values) == Estimate((n - 1) / 2, low, high)


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, out, err = cli("bench", "train", "--json", tmp_path / "file" / "train.json")
    assert code != 0 and "Traceback" not in err and not out

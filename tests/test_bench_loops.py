"""What ``bench loops`` measures, on clips where it is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from latentshift.benchmarks.loops import measure_loop


def clip(*levels: float) -> np.ndarray:
    """Frames of one level each."""
    return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), 4, 4, 3))


def test_the_last_step_is_measured_beside_the_others() -> None:
    assert measure_loop(clip(10, 12, 13, 17, 250)) == {
        "wrap": 240,
        "neighbours": 3,  # the median of 2, 1, 4 and 233
        "mean_neighbours": 60,
        "largest": 233,
        "excess": 237,
    }


def test_a_step_down_counts_as_one_up_and_over_all_pixels_and_colours() -> None:
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    frames[1, 0, 0, 0] = 240  # one value of twelve
    values = measure_loop(frames)
    assert values["neighbours"] == values["largest"] == 20 and values["wrap"] == 0 and values["excess"] == -20


def test_of_a_turning_clip_no_step_stands_out() -> None:
    turning = np.stack([np.roll(np.arange(0, 240, 10, dtype=np.uint8), at) for at in range(24)])
    values = measure_loop(np.repeat(turning[:, None, :, None], 3, axis=3))
    assert values["excess"] == 0 and values["wrap"] == values["largest"] > 0


def test_the_command_compares_paddings_and_resumes(cli, tmp_path: Path) -> None:
    words = ("bench", "loops", "--steps", 2, "--frames", 3, "--dtype", "float32", "-o", tmp_path / "loops")
    code, _, err = cli(*words, "--videos", 1, "--paddings", "zeros")
    assert code == 0, err
    kept = next((tmp_path / "loops" / "zeros").glob("*.jsonl")).read_bytes()
    code, _, err = cli(*words, "--videos", 2, "--json", tmp_path / "loops.json")
    assert code == 0, err
    assert next((tmp_path / "loops" / "zeros").glob("*.jsonl")).read_bytes().startswith(kept)
    circular, zeros = json.loads((tmp_path / "loops.json").read_text())["rows"]
    assert [circular["padding"], zeros["padding"], circular["videos"], zeros["videos"]] == ["circular", "zeros", 2, 2]
    assert circular["median_wrap"]["value"] < zeros["median_wrap"]["value"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--frames", 2), "--frames must be 3 or more for a loop to be compared, not 2"),
        (("--paddings", "round"), "there is no padding 'round'"),
        (("--steps", 2000), "--steps must lie between 2 and 1000, not 2000"),
    ],
)
def test_what_can_not_be_measured_is_refused(cli, words: tuple, message: str) -> None:
    code, out, err = cli("bench", "loops", *words)
    assert code != 0 and message in err and not out and "Traceback" not in err

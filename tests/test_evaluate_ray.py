"""Evaluations on a local Ray: any number of actors ends in the numbers of one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from latentshift.data.sprites import Sprites
from latentshift.evaluation.report.schema import read_report
from latentshift.video import write_video

SPRITES = ("--seen", 3, "--held-out", 0, "--images", 1, "--shift-off", 0, "--steps", 2, "--dtype", "float32")


@pytest.fixture(scope="module")
def _cluster() -> Iterator[None]:
    """One for all tests of this file: starting takes longer than what they do with it."""
    import ray

    ray.init(logging_level="error", log_to_driver=False, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    sprites = Sprites(size=32, seed=3, num_frames=16)
    for number in range(4):
        write_video(tmp_path / "clips" / f"{number}.webp", sprites[number][0])
        write_video(tmp_path / "true" / f"{number}.webp", sprites[4 + number][0])
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"no video at all")
    return tmp_path / "clips"


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
def test_clips_of_a_folder(cli, clips: Path) -> None:
    words = ("evaluate", "folder", "clips", "--reference", "true", "--extractors", "sprites-frames", "--device", "cpu")
    code, _, err = cli(*words, "-o", "alone")
    assert code == 0, err
    code, _, err = cli(*words, "-o", "spread", "--engine", "ray", "--actors", 4)
    assert code == 0, err
    alone, spread = read_report(Path("alone")), read_report(Path("spread"))
    assert spread.metrics == alone.metrics and spread.rejected == alone.rejected and spread.settings == alone.settings
    assert spread.command.endswith("-o spread --engine ray --actors 4")
    assert len(list(Path("spread/readings").glob("*.jsonl"))) == 4
    code, _, err = cli(*words, "-o", "spread", "--size", 16, "--engine", "ray", "--actors", 4)
    assert code == 1 and err.splitlines()[-1].startswith("error: spread holds a result with other settings: size was ")


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
def test_a_study_of_sprites(cli, sprites_model: Path) -> None:
    words = ("evaluate", "sprites", sprites_model, *SPRITES, "--device", "cpu")
    code, alone_out, _ = cli(*words, "-o", "alone")
    assert code == 0
    code, out, err = cli(*words, "-o", "spread", "--engine", "ray", "--actors", 2)
    assert code == 0, err
    alone, spread = read_report(Path("alone")), read_report(Path("spread"))
    assert spread.metrics == alone.metrics and spread.model_extra == alone.model_extra
    assert out.replace("spread", "alone") == alone_out
    assert spread.command.endswith("-o spread --engine ray --actors 2 --dtype float32")
    assert len(list(Path("spread/readings/seen").glob("*.jsonl"))) == 2

"""Status lines and bars: moving on a terminal, silent elsewhere."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from latentshift import progress
from latentshift.cli.app import app
from latentshift.training.recipe_file import load_recipe
from latentshift.training.run import run
from timed_video import write_video_at
from tiny_runs import RECIPES
from waiting import PATIENCE


class Terminal(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.twice = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.getvalue().count("loading the model") >= 3:  # as it begins, and by the clock
            self.twice.set()
        return written


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())  # no fixture: pytest replaces it after the setup
    return terminal


def test_a_status_moves_while_the_work_gives_no_sign_and_then_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    with progress.status("loading the model"):
        assert terminal.twice.wait(PATIENCE)
    assert terminal.getvalue().rstrip("\r").rsplit("\r", 1)[-1].strip() == ""
    assert not [thread for thread in threading.enumerate() if thread.name == "status"]


def test_a_status_ends_with_its_work_when_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    open_terminal(monkeypatch)
    with pytest.raises(ValueError, match="no such model"), progress.status("loading the model"):
        raise ValueError("no such model")
    assert not [thread for thread in threading.enumerate() if thread.name == "status"]


def test_a_bar_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    assert list(progress.progress_bar(iter("abc"), total=3, text="encode", unit="clip", mininterval=0)) == list("abc")
    assert "encode" in terminal.getvalue() and "3/3" in terminal.getvalue()


def test_nothing_is_shown_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)

    def show(shown: bool = True) -> None:
        with progress.status("loading the model", shown=shown):
            pass
        list(progress.progress_bar([1], text="encode", unit="clip", shown=shown))

    show(shown=False)
    progress.set_quiet(True)
    try:
        show()
    finally:
        progress.set_quiet(False)
    assert terminal.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", pipe := io.StringIO())
    show()
    assert pipe.getvalue() == ""


def test_making_a_video_shows_its_progress(sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    options = ["--frames", "2", "--steps", "2", "--size", "16", "--seed", "0", "-o", str(tmp_path / "star.gif")]
    app(["generate", "star", "--model", str(sd1_folder), *options], standalone_mode=False)
    shown = terminal.getvalue()
    stages = [shown.index(each) for each in (f"loading {sd1_folder}", "sampling", "decoding", "writing")]
    assert stages == sorted(stages) and "/2 [" in shown


def test_a_new_model_shows_its_progress(sd1_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    app(["init", "--base", str(sd1_folder), "-o", str(tmp_path / "new")], standalone_mode=False)
    shown = terminal.getvalue()
    assert shown.index(f"loading {sd1_folder}") < shown.index("writing the model")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    frames = [np.full((32, 32, 3), 5 * number, dtype=np.uint8) for number in range(20)]
    write_video_at(folder / "a.mp4", np.arange(20) / 8, frames)
    (folder / "a.txt").write_text("a red star")
    return folder


@pytest.mark.parametrize(
    ("words", "stages"),
    [
        (
            "data inspect CLIPS --size 32 --model MODEL",
            ("listing", "inspect", "loading MODEL", "counting the captions"),
        ),
        ("data split CLIPS -o OUT.jsonl", ("listing", "split")),
        (
            "data encode CLIPS -o OUT --model MODEL --device cpu",
            ("loading libraries", "loading MODEL", "listing", "counting the captions", "encode"),
        ),
    ],
    ids=["inspect", "split", "encode"],
)
def test_preparing_data_shows_its_progress(
    words: str, stages: tuple[str, ...], model: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = open_terminal(monkeypatch)
    named = {"CLIPS": clips, "MODEL": model, "OUT": tmp_path / "out"}

    def filled(text: str) -> str:
        for name, path in named.items():
            text = text.replace(name, str(path))
        return text

    app(filled(words).split(), standalone_mode=False)
    shown = terminal.getvalue()
    places = [shown.index(f"\r{filled(stage)}") for stage in stages]
    assert places == sorted(places) and "1/1 [" in shown


@pytest.mark.parametrize("quiet", [False, True])
def test_training_shows_each_of_its_parts_or_nothing(
    quiet: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = open_terminal(monkeypatch)
    words = [f"output={tmp_path}/run", f"model={model}", "data={source: sprites, options: {clips: 4}}", "steps=1"]
    words += ["batch_size=2", "sample_steps=2", "sample_prompts=[red]", "validation={every: 1, clips: 1, bands: 1}"]
    words += ["trackers=[]", "optimizer={warmup_steps: 0}", "compute={device: cpu, threads: 1}"]
    run(load_recipe(RECIPES / "finetune-folder.yaml", words), quiet=quiet)
    shown = terminal.getvalue()
    if quiet:
        assert all(line.startswith("warning: ") for line in shown.splitlines())
    else:
        parts = [shown.index(each) for each in ("preparing", "encode", "video", "validation", "samples", "exporting")]
        assert parts == sorted(parts)
    assert progress.is_shown()

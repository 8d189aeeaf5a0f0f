"""A run that is asked to end saves first, and one run at a time is at work in a folder."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from latentshift.training.checkpoint import checkpoint_step, list_checkpoints, load_newest_checkpoint
from latentshift.training.recipe import load_recipe
from latentshift.training.run import run
from latentshift.training.termination import EXIT_CODE
from launch import AUTOENCODER, RECIPES, TINY, apart, train


def test_sigterm_saves_and_ends_with_a_code_of_its_own(whole: Path, tmp_path: Path) -> None:
    words = [str(AUTOENCODER), *TINY, f"output={tmp_path}/run", "steps=100000", "save_every=100000"]
    process = train(*words)
    log = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 3):
        time.sleep(0.05)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODE and time.monotonic() - start < 30
    assert "ended by SIGTERM after step" in err and "Traceback" not in err
    checkpoint, complaints = load_newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None and complaints == []
    assert checkpoint.step >= log.read_text().count("\n")  # no step that was told of is lost


def test_one_run_at_a_time_is_at_work_in_a_folder(tmp_path: Path) -> None:
    """Else two would write one another's metrics and checkpoints, as after a launcher was killed and begun again."""
    words = [str(AUTOENCODER), *TINY, f"output={tmp_path}/run", "steps=100000", "save_every=100000"]
    process = train(*words)
    log = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 3):
        time.sleep(0.05)
    recipe = load_recipe(AUTOENCODER, [*words[1:-2], "steps=1"])
    with pytest.raises(ValueError, match=rf"another run is at work in .*run \(process {process.pid} on "):
        run(recipe, quiet=True)
    process.kill()  # which leaves the file, and holds nothing any more
    process.communicate()
    assert (tmp_path / "run" / ".running").exists()
    run(recipe, quiet=True)
    assert not (tmp_path / "run" / ".running").exists()


def test_sigterm_to_several_processes_saves_too(tmp_path: Path) -> None:
    words = [str(AUTOENCODER), *TINY, f"output={tmp_path}/run", "steps=100000", "save_every=100000"]
    process = train(*words, processes=2)
    log = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 3):
        time.sleep(0.05)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)  # torchrun hands it on, and ends with a code of its own
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0 and time.monotonic() - start < 30
    assert "ended by SIGTERM after step" in err
    checkpoint, complaints = load_newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None and complaints == []
    assert checkpoint.step >= log.read_text().count("\n")


def test_sigterm_does_not_wait_for_data_of_one_of_several_processes(tmp_path: Path) -> None:
    """As of a disk that does not answer."""
    process = apart(
        tmp_path,
        f"""
quick = AutoencoderStage._batch
def slow(self, step):
    time.sleep(600 if rank and step == 4 else 0)
    return quick(self, step)
AutoencoderStage._batch = slow
try:
    train({str(tmp_path / "run")!r}, "steps=9", "save_every=9")
except Terminated as ended:
    print(ended)
""",
    )
    log = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and (not log.exists() or log.read_text().count("\n") < 3):
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert "ended by SIGTERM after step 3" in out, err[-3000:]
    assert [checkpoint_step(path) for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == [3]


def test_sigterm_does_not_wait_for_samples(model: Path, tmp_path: Path) -> None:
    words = [str(RECIPES / "finetune-folder.yaml"), f"model={model}", "data={source: sprites, options: {clips: 4}}"]
    words += ["steps=2", "batch_size=2", "sample_every=1", "sample_steps=1000", "compute={device: cpu, threads: 1}"]
    words += ["optimizer={learning_rate: 1e-3, warmup_steps: 0}", "log_every=1", f"output={tmp_path}/run"]
    process = train(*words)
    while process.poll() is None and not list_checkpoints(tmp_path / "run" / "checkpoints"):
        time.sleep(0.05)
        if (tmp_path / "run" / "metrics.jsonl").exists() and (tmp_path / "run" / "metrics.jsonl").read_text():
            break
    time.sleep(2)  # now it samples
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODE and time.monotonic() - start < 10, err
    assert "ended by SIGTERM after step 1" in err
    assert not (tmp_path / "run" / "samples" / "step-00000001.png").exists()
    checkpoint, complaints = load_newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None and checkpoint.step == 1 and complaints == []

"""A run that is asked to end saves first, and one run at a time is at work in a folder."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from latentshift.preemption import EXIT_CODE, SigtermHandler, Terminated
from latentshift.training.checkpoints.checkpoint import load_newest_checkpoint
from latentshift.training.checkpoints.paths import checkpoint_step, list_checkpoints
from latentshift.training.losses import FrameBatch
from latentshift.training.recipe_file import load_recipe
from latentshift.training.run import run
from latentshift.training.stages.video import VideoStage
from launch import AUTOENCODER, RECIPES, TINY, Processes, command_line, train, wait_for_steps, wait_until
from tiny_runs import change_batches

ENDLESS = [str(AUTOENCODER), *TINY, "steps=100000", "save_every=100000"]


def nothing_is_lost(output: Path) -> None:
    """That the newest checkpoint is whole, and of no earlier step than the log tells of."""
    checkpoint, complaints = load_newest_checkpoint(output / "checkpoints")
    assert checkpoint is not None and complaints == []
    assert checkpoint.step >= (output / "metrics.jsonl").read_text().count("\n")


def read_weights() -> None:
    """As diffusers does, with SIGTERM on the way."""
    try:
        signal.raise_signal(signal.SIGTERM)
    except:  # noqa: E722
        raise OSError("unable to load weights") from None


def test_sigterm_in_a_library_that_catches_everything_is_no_fault_of_a_file() -> None:
    """As of diffusers, which would say that the weights it was reading are damaged."""
    with SigtermHandler() as sigterm:
        with pytest.raises(OSError, match="a real fault"), sigterm.interruptible():
            raise OSError("a real fault")
        with pytest.raises(Terminated), sigterm.interruptible():
            read_weights()


def drop_sigterm() -> None:
    """As a library that tries something and takes any failure for an answer."""
    try:
        signal.raise_signal(signal.SIGTERM)
    except:  # noqa: E722
        pass
    else:
        pytest.fail("nothing was raised")


def drop_two_and_send_a_third() -> None:
    drop_sigterm()
    drop_sigterm()
    signal.raise_signal(signal.SIGTERM)
    pytest.fail("a further SIGTERM did not interrupt")


@pytest.mark.parametrize("block", [drop_sigterm, drop_two_and_send_a_third])
def test_sigterm_in_a_library_that_drops_everything_is_not_lost(block: Callable[[], None]) -> None:
    with SigtermHandler() as sigterm:
        with pytest.raises(Terminated), sigterm.interruptible():
            block()
        signal.raise_signal(signal.SIGTERM)  # what follows the block is not interrupted


def test_a_second_sigterm_does_not_interrupt_what_the_first_one_passes() -> None:
    closed = []

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            closed.append(True)

    with SigtermHandler() as sigterm, pytest.raises(Terminated), sigterm.interruptible():
        work()
    assert closed


def test_sigterm_saves_and_ends_with_a_code_of_its_own(tmp_path: Path) -> None:
    with train(*ENDLESS, f"output={tmp_path}/run") as process:
        wait_for_steps(process, tmp_path / "run", 3)
        process.terminate()
        assert process.ended() == [EXIT_CODE]
    assert "ended by SIGTERM after step" in process.errors() and "Traceback" not in process.errors()
    nothing_is_lost(tmp_path / "run")


def torchrun(*words: str) -> None:
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = "120"  # else it kills its processes 30 s after SIGTERM
    from torch.distributed.run import main

    main(list(words))


def test_sigterm_to_torchrun_saves_too(tmp_path: Path) -> None:
    """Its processes are fresh interpreters, as users launch them."""
    launch = ["--standalone", "--nproc-per-node=2", f"--log-dir={tmp_path}/logs", "-m", "latentshift"]
    with Processes(torchrun, *launch, "train", *ENDLESS, f"output={tmp_path}/run") as process:
        wait_for_steps(process, tmp_path / "run", 3)
        process.terminate()  # torchrun hands it on, and ends with a code of its own
        (code,) = process.ended()
    assert code != 0 and "ended by SIGTERM after step" in process.errors()
    nothing_is_lost(tmp_path / "run")


def test_one_run_at_a_time_is_at_work_in_a_folder(tmp_path: Path) -> None:
    """Else two would write one another's metrics and checkpoints, as after a launcher was killed and begun again."""
    output = tmp_path / "run"
    recipe = load_recipe(AUTOENCODER, [*ENDLESS[1:-2], f"output={output}", "steps=1"])
    with train(*ENDLESS, f"output={output}") as process:
        wait_for_steps(process, output, 3)
        with pytest.raises(ValueError, match=rf"another run is at work in .*run \(process {process.pid} on "):
            run(recipe, quiet=True)
        process.kill()  # which leaves the file, and holds nothing any more
    assert (output / ".running").exists()
    run(recipe, quiet=True)
    assert not (output / ".running").exists()


def train_with_data_that_stops(sign: Path, *words: str) -> None:
    def slow(step: int, batch: FrameBatch) -> FrameBatch:
        if os.environ["RANK"] == "1" and step == 4:
            sign.touch()
            time.sleep(600)
        return batch

    change_batches(pytest.MonkeyPatch(), slow)
    command_line("train", *words)


def test_sigterm_does_not_wait_for_data_of_one_of_several_processes(tmp_path: Path) -> None:
    """As of a disk that does not answer."""
    output, sign = tmp_path / "run", tmp_path / "waits"
    words = (str(AUTOENCODER), *TINY, "steps=9", "save_every=9", f"output={output}")
    with Processes(train_with_data_that_stops, sign, *words, processes=2) as processes:
        wait_for_steps(processes, output, 3)
        wait_until(processes, sign.exists)
        processes.terminate()
        assert processes.ended() == [EXIT_CODE, EXIT_CODE]
    assert "ended by SIGTERM after step 3" in processes.errors()
    assert [checkpoint_step(path) for path in list_checkpoints(output / "checkpoints")] == [3]


def train_with_samples_that_never_end(sign: Path, *words: str) -> None:
    sample = VideoStage.sample

    def sample_after_sign(self: VideoStage, folder: Path, step: int) -> None:
        sign.touch()
        while True:
            sample(self, folder / "again", step)

    VideoStage.sample = sample_after_sign
    command_line("train", *words)


def test_sigterm_does_not_wait_for_samples(model: Path, tmp_path: Path) -> None:
    output, sign = tmp_path / "run", tmp_path / "samples"
    words = [str(RECIPES / "finetune-folder.yaml"), f"model={model}", "data={source: sprites, options: {clips: 4}}"]
    words += ["steps=2", "batch_size=2", "sample_every=1", "sample_steps=50", "compute={device: cpu, threads: 1}"]
    words += ["optimizer={learning_rate: 1e-3, warmup_steps: 0}", "log_every=1", f"output={output}"]
    with Processes(train_with_samples_that_never_end, sign, *words) as process:
        wait_until(process, sign.exists)
        process.terminate()
        assert process.ended() == [EXIT_CODE]
    assert "ended by SIGTERM after step 1" in process.errors()
    assert not (output / "samples" / "step-00000001.png").exists()
    checkpoint, complaints = load_newest_checkpoint(output / "checkpoints")
    assert checkpoint is not None and checkpoint.step == 1 and complaints == []

"""A process of a run that hangs or is gone ends the others with a sentence; the main one may work alone for longer."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from latentshift.cli.rank_barrier import RankBarrier, meet
from latentshift.process_group import RankError, check_timeout, other_rank
from latentshift.training.distributed import make_accelerator
from latentshift.training.losses import FrameBatch
from latentshift.training.main_process import main_process_alone
from latentshift.training.recipes.settings import ComputeSettings
from launch import AUTOENCODER, TINY, Processes, command_line, wait_for_steps, wait_until
from tiny_runs import change_batches
from waiting import wait_for

LIMIT = 4  # seconds, for what takes none on a machine that does much else


def train_with_data_that_stops(sign: Path, *words: str) -> None:
    """In the second process, as on a disk that does not answer."""

    def slow(step: int, batch: FrameBatch) -> FrameBatch:
        if os.environ["RANK"] == "1" and step == 3:
            sign.touch()
            time.sleep(600)
        return batch

    change_batches(pytest.MonkeyPatch(), slow)
    command_line("train", *words)


def test_a_run_ends_where_a_process_hangs(tmp_path: Path) -> None:
    output, sign = tmp_path / "run", tmp_path / "waits"
    words = (str(AUTOENCODER), *TINY, "steps=9", "save_every=2", f"compute.rank_timeout={LIMIT}", f"output={output}")
    with Processes(train_with_data_that_stops, sign, *words, processes=2) as processes:
        wait_until(processes, sign.exists)
        first = processes.processes[0]
        wait_for(lambda: not first.is_alive(), processes.last_words)
        assert first.exitcode == 1
    said = f"another process of this run did not answer within {LIMIT} seconds (compute.rank_timeout sets the limit)"
    assert f"error: {said}\n" in processes.errors() and "Traceback" not in processes.errors()
    assert (output / "checkpoints" / "step-00000002").exists()


def test_a_run_ends_where_a_process_is_killed(tmp_path: Path) -> None:
    words = (str(AUTOENCODER), *TINY, "steps=100000", "save_every=100000", f"output={tmp_path}/run")
    with Processes(command_line, "train", *words, processes=2) as processes:
        wait_for_steps(processes, tmp_path / "run", 2)
        processes.processes[1].kill()
        first = processes.processes[0]
        wait_for(lambda: not first.is_alive(), processes.last_words)
        assert first.exitcode == 1
    said = "another process of this run has ended too early: its own message says why, or it was killed"
    assert f"error: {said}\n" in processes.errors() and "Traceback" not in processes.errors()


def train_in_the_first_alone(*words: str) -> None:
    if os.environ["RANK"] == "0":
        command_line("train", *words)


def test_a_run_ends_where_a_process_never_comes(tmp_path: Path) -> None:
    words = (str(AUTOENCODER), *TINY, "steps=9", "compute.rank_timeout=1", f"output={tmp_path}/run")
    with Processes(train_in_the_first_alone, *words, processes=2) as processes:
        assert processes.ended() == [1, 0]
    said = "another process of this run did not answer within 1 seconds (compute.rank_timeout sets the limit)"
    assert f"error: {said}\n" in processes.errors() and "Traceback" not in processes.errors()
    assert not (tmp_path / "run").exists()


MEETING = {"RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
LAUNCH = "start several processes with torchrun --nproc-per-node=N -m latentshift train RECIPE"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two, which is no whole number"),
        ({"WORLD_SIZE": "0", **MEETING}, "RANK=0 and WORLD_SIZE=0"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 and no RANK"),
        ({"WORLD_SIZE": "2", **MEETING, "RANK": "2"}, "RANK=2 and WORLD_SIZE=2"),
        ({"WORLD_SIZE": "2", **MEETING, "MASTER_PORT": "x"}, "MASTER_PORT=x, which is no whole number"),
    ],
)
def test_environments_that_no_launcher_makes(
    environment: dict[str, str], message: str, cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cli("train", AUTOENCODER) == (1, "", f"error: the environment has {message}: {LAUNCH}\n")


def test_a_mistake_is_said_by_one_process(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentshift.cli.ranks._before_meeting", None)  # and as it was for the tests that follow
    for name, value in {"WORLD_SIZE": "2", **MEETING}.items():
        monkeypatch.setenv(name, value)
    wrong = ("train", AUTOENCODER, "batch_size=7")
    assert cli(*wrong) == (1, "", "error: a batch_size of 7 can't be shared evenly by 2 processes\n")
    monkeypatch.setenv("RANK", "1")
    assert cli(*wrong) == (1, "", "")


def work_alone(folder: Path) -> None:
    """The main process for longer than the limit, and then it stops."""
    accelerator = make_accelerator(ComputeSettings(device="cpu", rank_timeout=LIMIT))
    with main_process_alone(accelerator) as alone:
        if alone:
            time.sleep(LIMIT + 2)
            (folder / "done").touch()
    assert (folder / "done").exists()  # the others have waited
    with main_process_alone(accelerator) as alone:
        assert alone == accelerator.is_main_process
    (folder / f"reached by {accelerator.process_index}").touch()
    try:
        with main_process_alone(accelerator) as alone:
            if alone:
                os.kill(os.getpid(), signal.SIGSTOP)
    except RankError as error:
        (folder / "error").write_text(str(error))
    os._exit(0)


def test_the_main_process_works_alone_as_long_as_it_gives_signs_of_life(tmp_path: Path) -> None:
    with Processes(work_alone, tmp_path, processes=2) as processes:
        waiting = processes.processes[1]
        wait_for(lambda: not waiting.is_alive(), processes.last_words)  # so that what it writes is whole
    assert {path.name for path in tmp_path.iterdir()} == {"done", "error", "reached by 0", "reached by 1"}
    said = (
        f"the main process of this run gave no sign of life for {LIMIT} seconds (compute.rank_timeout sets the limit)"
    )
    assert (tmp_path / "error").read_text() == said


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e9])
def test_limits_that_are_none(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"--limit must be above 0 and at most 2,592,000 seconds \(30 days\), not"):
        check_timeout(seconds, "--limit")


def test_other_failures_are_left_as_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), other_rank("rank 1", check_timeout(1, "it"), "it"):
        raise RuntimeError("shapes differ")


def stop_after_one(sign: Path, *words: str) -> None:
    """In the second process, as one that waits for a disk: its threads go on."""
    from latentshift.data.latents.partial_shard import PartialShard
    from latentshift.evaluation.protocols.readings_writer import ReadingsWriter
    from latentshift.evaluation.sprites import scores

    scores._CALIBRATION_CLIPS = 4  # of the reader itself, which other tests look at
    for kind in (PartialShard, ReadingsWriter):

        def append_or_wait(self: object, *record: object, append: object = kind.append) -> None:
            if os.environ["RANK"] == "1":
                sign.touch()
                time.sleep(600)
            append(self, *record)  # type: ignore[operator]

        kind.append = append_or_wait  # type: ignore[method-assign, assignment]
    command_line(*words)


SPRITES = ("--seen", "2", "--held-out", "0", "--images", "0", "--shift-off", "0", "--steps", "2", "--device", "cpu")


@pytest.mark.parametrize("verb", ["evaluate", "encode"])
def test_who_shares_clips_out_ends_where_a_process_hangs(verb: str, sprites_model: Path, tmp_path: Path) -> None:
    sign, output, limit = tmp_path / "waits", str(tmp_path / "result"), ("--rank-timeout", str(LIMIT))
    source = ("sprites", "clips=4", "--clips-per-shard", "2", "--no-text", "--device", "cpu", "--seconds", "1")
    words = {
        "evaluate": ("evaluate", "sprites", str(sprites_model), *SPRITES),
        "encode": ("data", "encode", *source, "--model", str(sprites_model)),
    }[verb]
    with Processes(stop_after_one, sign, *words, *limit, "-o", output, processes=2) as processes:
        wait_until(processes, sign.exists)
        first = processes.processes[0]
        wait_for(lambda: not first.is_alive(), processes.last_words)
        assert first.exitcode == 1
    said = (
        f"rank 1 of 2 gave no sign of life for {LIMIT} seconds: it hangs or has ended (--rank-timeout sets the limit)"
    )
    assert f"error: {said}\n" in processes.errors() and "Traceback" not in processes.errors()


def wait_in_turns(folder: Path) -> None:
    """The first one is late by more than the limit, at work that has no items, and then with those that it finishes."""
    timeout = check_timeout(1, "it")
    state = meet("cpu", timeout)
    barrier = RankBarrier(state, timeout)
    if state.is_main_process:
        time.sleep(2)
    barrier.wait()
    assert list(barrier.items(iter("ab"))) == ["a", "b"]
    for _ in barrier.items(range(8 if state.is_main_process else 0)):
        time.sleep(0.25)
    barrier.wait()
    (folder / f"reached by {state.process_index}").touch()
    if state.is_main_process:
        with pytest.raises(RankError, match=r"^rank 1 of 2 has ended too early: its own message says why$"):
            barrier.wait()
    else:
        barrier.end()


def test_those_who_give_signs_of_life_are_waited_for_and_those_who_end_are_not(tmp_path: Path) -> None:
    with Processes(wait_in_turns, tmp_path, processes=2) as processes:
        assert processes.ended() == [0, 0], processes.last_words()
    assert {path.name for path in tmp_path.iterdir()} == {"reached by 0", "reached by 1"}


def evaluate_in_the_first_alone(*words: str) -> None:
    if os.environ["RANK"] == "0":
        command_line(*words)


def test_an_evaluation_ends_where_a_process_never_comes(sprites_model: Path, tmp_path: Path) -> None:
    words = ("evaluate", "sprites", str(sprites_model), *SPRITES, "--rank-timeout", "1", "-o", str(tmp_path / "result"))
    with Processes(evaluate_in_the_first_alone, *words, processes=2) as processes:
        assert processes.ended() == [1, 0]
    said = "one of the ranks did not answer within 1 seconds (--rank-timeout sets the limit)"
    assert f"error: {said}\n" in processes.errors() and "Traceback" not in processes.errors()


@pytest.mark.parametrize("verb", [("evaluate", "sprites", "bundled"), ("data", "encode", "sprites")])
@pytest.mark.parametrize("limit", ["0", "nan"])
def test_a_limit_that_is_none_is_refused_at_once(verb: tuple[str, ...], limit: str, cli, tmp_path: Path) -> None:
    code, out, err = cli(*verb, "--rank-timeout", limit, "-o", tmp_path / "result")
    assert (code, out) == (1, "") and err.startswith(
        "error: --rank-timeout must be above 0 and at most 2,592,000 seconds"
    )
    assert not (tmp_path / "result").exists()

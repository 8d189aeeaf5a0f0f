"""Training runs in processes of their own, one or several, and what they left behind.

They are forked from a process that has imported everything already: in a fresh interpreter the imports take seconds,
many times what a tiny run does.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.distributed import TCPStore

from latentshift.training.checkpoints.paths import list_checkpoints
from latentshift.training.recipe_file import load_recipe
from latentshift.training.run import run
from waiting import PATIENCE, wait_for

RECIPES = Path(__file__).parent.parent / "recipes"
TINY = [
    "model={channels: [8, 8], layers_per_block: 1, latent_channels: 4, norm_groups: 4}",
    "data.size=32",
    "batch_size=8",
    "sample_every=1000",
    "save_every=2",
    "log_every=1",
    "trackers=[]",
    "optimizer={learning_rate: 1e-3, warmup_steps: 1}",
    "compute={device: cpu, precision: fp32, threads: 1}",
]
AUTOENCODER = RECIPES / "sprites-autoencoder.yaml"

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "latentshift.cli.app",
        "latentshift.cli.train",
        "latentshift.training.run",
        "latentshift.benchmarks.own_process",  # which forks from the same process,
        "latentshift.benchmarks.generation.time_model",  # and what it needs
    ]
)


class Processes:
    """Processes that call the same function, each with its rank in the environment, as ``torchrun`` gives it.

    What they print goes to files; ``ended`` waits for all of them. At the end of a ``with`` none is left.
    """

    def __init__(self, function: Callable[..., None], *arguments: object, processes: int = 1) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="latentshift-processes-")  # gone with this object
        self._folder = Path(self._temporary.name)
        group: dict[str, object] = {"OMP_NUM_THREADS": 1}
        if processes > 1:
            # As torchrun does: they meet at a store that is there before them, so that nobody else takes its port.
            self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            group |= {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1"}
            group |= {"MASTER_PORT": self._store.port, "TORCHELASTIC_USE_AGENT_STORE": True}
            group["TORCHELASTIC_RESTART_COUNT"] = 0
        self.processes = []
        for rank in range(processes):
            environment = {**group, "RANK": rank, "LOCAL_RANK": rank} if processes > 1 else group
            words = (function, arguments, environment, self._folder / f"{rank}")
            self.processes.append(_FORKS.Process(target=_call, args=words))
        for process in self.processes:
            process.start()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Of the first one."""
        return self.processes[0].pid

    def are_alive(self) -> bool:
        return all(each.is_alive() for each in self.processes)

    def terminate(self) -> None:
        for each in self.processes:
            os.kill(each.pid, signal.SIGTERM)

    def kill(self) -> None:
        for each in self.processes:
            each.kill()
            each.join()

    def ended(self, seconds: float = PATIENCE) -> list[int]:
        """The exit codes of all; whoever has not ended by then is killed, and the test fails."""
        deadline = time.monotonic() + seconds
        late = list(self.processes)
        while late and time.monotonic() < deadline:
            wait([each.sentinel for each in late], timeout=max(0.0, deadline - time.monotonic()))
            late = [each for each in late if each.is_alive()]
        self.kill()
        assert not late, f"not ended after {seconds:g} s: {self.last_words()}"
        return [each.exitcode for each in self.processes]

    def printed(self) -> str:
        return "".join(path.read_text() for path in sorted(self._folder.glob("*.out")))

    def errors(self) -> str:
        return "".join(path.read_text() for path in sorted(self._folder.glob("*.err")))

    def last_words(self) -> str:
        """Of each of them, for a test that fails."""
        return "\n".join(path.read_text()[-2000:] for path in sorted(self._folder.glob("*.err")))


def _call(
    function: Callable[..., None], arguments: tuple[object, ...], environment: dict[str, object], prints: Path
) -> None:
    os.environ.update({name: str(value) for name, value in environment.items()})
    for stream, suffix in ((sys.stdout, ".out"), (sys.stderr, ".err")):
        stream.flush()
        os.dup2(os.open(prints.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream.fileno())
    try:
        function(*arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def run_code(code: str) -> None:
    """As ``python -c`` does."""
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


def command_line(*words: str) -> None:
    """``latentshift`` with these words."""
    from latentshift.cli.app import main

    sys.argv = ["latentshift", *words]
    main()


def train(*words: str, processes: int = 1) -> Processes:
    """``latentshift train`` with these words."""
    return Processes(command_line, "train", *words, processes=processes)


def train_here(*words: str) -> None:
    """In this process, with what a test has changed in it."""
    run(load_recipe(Path(words[0]), list(words[1:])), quiet=True)


def finish(processes: Processes) -> None:
    assert set(processes.ended()) == {0}, processes.last_words()


def wait_until(processes: Processes, holds: Callable[[], bool]) -> None:
    """That it holds, while all of them are alive."""
    wait_for(lambda: holds() or not processes.are_alive(), processes.last_words)
    assert processes.are_alive(), processes.last_words()


def wait_for_steps(processes: Processes, output: Path, steps: int) -> None:
    """Until so many are logged."""
    log = output / "metrics.jsonl"
    wait_until(processes, lambda: log.exists() and log.read_text().count("\n") >= steps)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(list_checkpoints(folder / "checkpoints")[-1] / "weights.safetensors")

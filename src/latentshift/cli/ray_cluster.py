"""A Ray cluster that a command spreads its work over: its actors, where they wait for each other, and their errors.

What they need is on disks that all machines share: the folder of the result, and the directory where the command runs
if paths are relative to it.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
_POLL_SECONDS = 1.0
_REACH_SECONDS = 10.0


@dataclass(frozen=True)
class Member:
    """One actor among those that share the work; seen from within it.

    Attributes:
        number: 0 … ``count`` - 1.
        count: of all.
    """

    number: int
    count: int
    _meeting: Any

    def wait(self) -> None:
        """Until all actors have called this as often."""
        self._ask("wait")

    def take(self) -> int:
        """The next piece of work that nobody has taken: 0, 1, 2, …."""
        taken: int = self._ask("take")
        return taken

    def report(self, count: int) -> None:
        """Tell the command of so many more pieces that are done."""
        self._meeting.report.remote(count)

    def _ask(self, method: str) -> Any:
        import ray

        return ray.get(getattr(self._meeting, method).remote())


@contextmanager
def _failures_as_sentences() -> Iterator[None]:
    """What Ray raises becomes what an actor raised, or one sentence on what failed.

    Raises:
        ValueError: if an actor is lost, or Ray itself fails.
        BaseException: what an actor raised.
    """
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        raised = (isinstance(error, ray.exceptions.RayTaskError) and error.cause) or error
        if isinstance(raised, ray.exceptions.RayActorError):  # also in an actor that asked one that is gone
            what = "an actor of Ray is lost, perhaps killed for lack of memory"
        elif isinstance(raised, ray.exceptions.RayError):
            what = "Ray itself failed"
        else:
            raise raised from None
        raise ValueError(f"{what}; the same command resumes ({_first_line(raised)})") from None


class Cluster:
    """A cluster that is connected.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        actors: number of them.

    Attributes:
        device: of each actor: ``cpu``, or ``cuda`` for a GPU of its own.

    Raises:
        ValueError: if there are fewer GPUs than actors.
    """

    def __init__(self, device: str, actors: int) -> None:
        import ray

        gpus = int(ray.cluster_resources().get("GPU", 0))
        self.device = ("cuda" if gpus else "cpu") if device == "auto" else device
        self.actors = actors
        if self.device == "cuda" and gpus < actors:  # they wait for each other, and the last ones would never start
            raise ValueError(f"--actors {actors} need a GPU each, and the cluster has {gpus}: name fewer or start more")

    def dtype_name(self, dtype: str) -> str:
        """What ``--dtype`` comes to: that of one actor's machine holds for all."""
        import ray

        if dtype != "auto":
            return dtype
        asked = ray.remote(_dtype_name).options(num_cpus=0, num_gpus=self._gpus).remote(self.device)
        name: str = ray.get(asked)
        return name

    @_failures_as_sentences()
    def run(self, work: Callable[[Member, str], T], each_second: Callable[[int], object]) -> T:
        """Call a function in each actor; returns what the first actor's call does.

        Args:
            work: called with the actor among the others, and its device.
            each_second: called with how many pieces were reported since the last time.

        Raises:
            ValueError: if an actor is lost, or Ray itself fails.
            BaseException: what an actor's call raises, as it raises it.
        """
        import ray

        # No CPUs are asked for: actors that wait for more of them than there are would keep the others waiting.
        meeting = ray.remote(_Meeting).options(num_cpus=0).remote(self.actors)
        pool = ray.remote(_Actor).options(num_cpus=0, num_gpus=self._gpus, scheduling_strategy="SPREAD")
        actors: list[Any] = [pool.remote(os.getcwd()) for _ in range(self.actors)]
        calls = [
            actor.run.remote(work, Member(number, self.actors, meeting), self.device)
            for number, actor in enumerate(actors)
        ]
        running = list(calls)
        try:
            while running:
                ended, running = ray.wait(running, timeout=_POLL_SECONDS)
                ray.get(ended)
                each_second(ray.get(meeting.reported.remote()))
            first: T = ray.get(calls[0])
            return first
        finally:
            for each in (*actors, meeting):  # others may wait for one that is gone
                ray.kill(each)

    @property
    def _gpus(self) -> int:  # of an actor
        return int(self.device == "cuda")


@contextmanager
def connect(device: str, actors: int) -> Iterator[Cluster]:
    """Connect to the cluster that ``RAY_ADDRESS`` names, or start a local one.

    Args:
        device: as for :class:`Cluster`.
        actors: likewise.

    Raises:
        ValueError: if Ray can't be reached or started, there are fewer GPUs than actors, or Ray fails inside the block.
    """
    os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")  # it aborts the process at SIGTERM
    import ray

    with ExitStack() as stack, _failures_as_sentences():
        if not ray.is_initialized():
            _check_reachable(os.environ.get("RAY_ADDRESS", ""))
            # The thread must outlive Ray, whose processes end with the thread that started them.
            own_thread = stack.enter_context(ThreadPoolExecutor(1))
            stack.callback(ray.shutdown)
            _start(own_thread)
        yield Cluster(device, actors)


def _start(own_thread: Executor) -> None:
    """``ray.init`` in a thread, where no signal interrupts it and it sets no handler for SIGTERM.

    Raises:
        ValueError: if Ray can't be reached or started.
    """
    import ray

    begun = own_thread.submit(ray.init, logging_level="error", log_to_driver=False, include_dashboard=False)
    try:
        begun.result()
    except Exception as error:  # Ray raises bare ones too
        place = os.environ.get("RAY_ADDRESS")
        what = f"no Ray cluster answers at RAY_ADDRESS={place}" if place else "Ray can't be started here"
        raise ValueError(f"{what}: {_first_line(error)}") from error
    finally:
        wait([begun])  # what it has started by then is shut down


def _check_reachable(address: str) -> None:
    """Refuse a ``HOST:PORT`` where nothing listens: Ray would try there for many minutes."""
    if (parts := re.fullmatch(r"([\w.-]+):(\d{1,5})", address)) is None:
        return
    try:
        socket.create_connection((parts[1], int(parts[2])), timeout=_REACH_SECONDS).close()
    except (OSError, OverflowError) as error:  # a port beyond 65535
        raise ValueError(f"no Ray cluster answers at RAY_ADDRESS={address}: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _dtype_name(device: str) -> str:
    """What ``--dtype auto`` comes to on the machine where this runs."""
    from latentshift.cli.models import load_dtype

    return str(load_dtype("auto", device)).removeprefix("torch.")


class _Actor:
    """A process of the cluster.

    Args:
        directory: where the command runs.
    """

    def __init__(self, directory: str) -> None:
        if os.path.isdir(directory):  # else paths are absolute, or the first one says that it is missing
            os.chdir(directory)

    def run(self, work: Callable[[Member, str], T], member: Member, device: str) -> T:
        return work(member, device)


class _Meeting:
    """An actor that all others know: it holds each until all are there, and gives work out."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._waiting = self._taken = self._reported = 0
        self._all_here = asyncio.Event()

    async def wait(self) -> None:
        """Return when all have called; then it begins anew."""
        all_here = self._all_here
        self._waiting += 1
        if self._waiting == self._count:
            self._waiting, self._all_here = 0, asyncio.Event()
            all_here.set()
        await all_here.wait()

    async def take(self) -> int:
        self._taken += 1
        return self._taken - 1

    async def report(self, count: int) -> None:
        self._reported += count

    async def reported(self) -> int:
        """What was reported since the last call."""
        reported, self._reported = self._reported, 0
        return reported

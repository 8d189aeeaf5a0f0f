"""Evaluation on a cluster: Ray's actors share the videos that are left, as processes of ``torchrun`` do.

All machines of the cluster must share the folder of the result, and the directory where the command runs if paths are
relative to it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from latentshift.evaluation.protocols.run import Worker
from latentshift.progress import progress_bar

T = TypeVar("T")
_POLL_SECONDS = 1.0


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
        asked = ray.remote(_dtype_name).options(num_gpus=int(self.device == "cuda")).remote(self.device)
        name: str = ray.get(asked)
        return name

    def run(self, work: Callable[[Worker, str], T], count_done: Callable[[], int], total: int) -> T:
        """Call a function in each actor, with a progress bar; returns what the first actor's call does.

        Args:
            work: called with the worker that the actor is, and its device.
            count_done: videos that are done, of all workers.
            total: videos.

        Raises:
            ValueError: if an actor is lost, or as an actor raises it.
        """
        import ray

        # No CPUs are asked for: actors that wait for more of them than there are would keep the others waiting.
        barrier = ray.remote(_Barrier).options(num_cpus=0).remote(self.actors)
        gpus = int(self.device == "cuda")
        pool = ray.remote(_Actor).options(num_cpus=0, num_gpus=gpus, scheduling_strategy="SPREAD")
        actors: list[Any] = [pool.remote(os.getcwd()) for _ in range(self.actors)]
        calls = [
            actor.run.remote(work, number, self.actors, barrier, self.device) for number, actor in enumerate(actors)
        ]
        running = list(calls)
        try:
            with progress_bar(total=total, initial=min(count_done(), total), text="videos", unit="video") as bar:
                while running:
                    ended, running = ray.wait(running, timeout=_POLL_SECONDS)
                    ray.get(ended)
                    bar.update(min(count_done(), total) - bar.n)
            first: T = ray.get(calls[0])
            return first
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayActorError as error:
            raise ValueError(f"an actor of Ray is lost; the same command resumes ({error})") from None
        finally:
            for each in (*actors, barrier):  # others may wait for one that is gone
                ray.kill(each)


@contextmanager
def connect(device: str, actors: int) -> Iterator[Cluster]:
    """Connect to the cluster that ``RAY_ADDRESS`` names, or start a local one.

    Raises:
        ValueError: if there are fewer GPUs than actors.
    """
    import ray

    if is_own := not ray.is_initialized():
        ray.init(logging_level="error", log_to_driver=False, include_dashboard=False)
    try:
        yield Cluster(device, actors)
    finally:
        if is_own:
            ray.shutdown()


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

    def run(self, work: Callable[[Worker, str], T], number: int, count: int, barrier: Any, device: str) -> T:
        import ray

        return work(Worker(number, count, lambda: ray.get(barrier.wait.remote())), device)


class _Barrier:
    """An actor that holds each caller until all have called; then it begins anew."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._waiting = 0
        self._all_here = asyncio.Event()

    async def wait(self) -> None:
        """Return when all are here."""
        all_here = self._all_here
        self._waiting += 1
        if self._waiting == self._count:
            self._waiting, self._all_here = 0, asyncio.Event()
            all_here.set()
        await all_here.wait()

"""Process untrusted files in worker processes: a hang, a crash or excessive memory costs one item.

Each item has a limit of time and of memory. A worker that exceeds one is killed and replaced; its item comes back as
:class:`Rejected`, and the others are not affected. Knows nothing of videos.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Generic, TypeVar

from latentshift.data.rejected import Rejected

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")

_START_TIMEOUT = 300.0  # seconds
_POLL_SECONDS = 0.5  # how often a closed pool is noticed
# Spawned, so that workers import only what the work needs and inherit no threads or locks.
_PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class WorkerLimits:
    """Limits of each item, and the number of workers.

    Attributes:
        workers: number of processes, 1 or more.
        seconds: time limit of an item.
        memory: address space limit of an item, in bytes.
    """

    workers: int = 2
    seconds: float = 60.0
    memory: int = 4 * 2**30

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"there must be 1 worker or more, not {self.workers}")
        if not self.seconds > 0 or self.memory < 2**28:
            raise ValueError(
                "a clip must be given more than 0 s and 0.25 GiB or more, not "
                f"{self.seconds:g} s and {self.memory / 2**30:g} GiB"
            )


class WorkerPool(Generic[I, R]):
    """Worker processes that apply one function to a stream of items.

    Args:
        work: a function at the top of a module, item -> result; it may raise :class:`Rejected`.
        limits: of each item.
        imports: modules to import before the first item, so that loading them does not count towards its limits.

    Raises:
        ValueError: on first use, if a worker can't be started.
    """

    def __init__(
        self, work: Callable[[I], R], limits: WorkerLimits = WorkerLimits(), imports: Sequence[str] = ()
    ) -> None:
        self.work = work
        self.seconds = limits.seconds
        self._closed = False
        self._workers = [_Worker(work, limits.memory, tuple(imports)) for _ in range(limits.workers)]

    def run(self, items: Iterable[I]) -> Iterator[tuple[I, R | Rejected]]:
        """Each item with its result or a :class:`Rejected`, in the order of the items.

        At most four items a worker are read ahead, so any number of items fits in memory.
        """
        try:
            yield from self._run(items)
        finally:  # closed early: results still in progress must not reach the next run
            for worker in self._workers:
                if worker.task is not None:
                    worker.restart()

    def _run(self, items: Iterable[I]) -> Iterator[tuple[I, R | Rejected]]:
        source = enumerate(items)
        waiting: dict[int, I] = {}
        done: dict[int, R | Rejected] = {}
        order: deque[int] = deque()
        exhausted = False
        while not self._closed:
            for worker in self._workers:
                if worker.task is None and not exhausted and len(order) < 4 * len(self._workers):
                    number, item = next(source, (-1, None))
                    if number < 0:
                        exhausted = True
                        break
                    waiting[number] = item  # type: ignore[assignment]
                    order.append(number)
                    worker.submit(number, item, self.seconds)
            while order and order[0] in done:
                number = order.popleft()
                yield waiting.pop(number), done.pop(number)
            if not order:
                if exhausted:
                    return
                continue
            self._gather(done)

    def close(self) -> None:
        """Kill the processes; a ``run`` in another thread ends too."""
        self._closed = True
        for worker in self._workers:
            worker.end()

    def __enter__(self) -> WorkerPool[I, R]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _gather(self, done: dict[int, Any]) -> None:
        """Wait for the next result, crash or deadline."""
        busy = [worker for worker in self._workers if worker.task is not None]
        rest = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
        ready = set(wait([worker.connection for worker in busy], timeout=min(rest, _POLL_SECONDS)))
        for worker in busy:
            task = worker.task
            if self._closed or task is None:
                return
            if worker.connection in ready:
                done[task] = worker.receive()
            elif time.monotonic() >= worker.deadline:
                done[task] = Rejected("timed-out", f"it took longer than {self.seconds:g} s")
                worker.restart()


class _Worker:
    """One process, the pipe to it, and the item it is at."""

    def __init__(self, work: Callable[[Any], Any], memory: int, imports: tuple[str, ...]) -> None:
        self._arguments = (work, memory, imports)
        self.task: int | None = None
        self.deadline = 0.0
        self._lock = Lock()  # it may be ended by another thread than the one that uses it
        self._ended = False
        self._ready: bool
        self.connection: Connection
        self._start()

    def submit(self, task: int, item: object, seconds: float) -> None:
        try:
            self._send(item)
        except OSError:  # it died between two items
            self.restart()
            self._send(item)
        self.task = task
        self.deadline = time.monotonic() + seconds

    def receive(self) -> Any:
        """The received result, or :class:`Rejected` if the process crashed."""
        try:
            result = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            result = Rejected("crashed", f"its decoder crashed ({how})")
            self.restart()
        self.task = None
        return result

    def restart(self) -> None:
        """Replace the process, unless the pool is closed."""
        with self._lock:
            if not self._ended:
                self._kill()
                self._start()

    def end(self) -> None:
        with self._lock:
            self._ended = True
            self._kill()

    def _kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()
        self.task = None

    def _send(self, item: object) -> None:
        if not self._ready:  # startup and imports do not count towards the item's time limit
            try:
                if not self.connection.poll(_START_TIMEOUT):
                    raise EOFError
                self.connection.recv()
            except EOFError:
                raise ValueError(
                    "the processes that decode can't be started; a script of your own must guard its main part with "
                    'if __name__ == "__main__":'
                ) from None
            self._ready = True
        self.connection.send(item)

    def _start(self) -> None:
        self.task = None
        self._ready = False
        self.connection, theirs = _PROCESSES.Pipe()
        process = _PROCESSES.Process(target=_serve, args=(theirs, *self._arguments), daemon=True)
        with _signals_blocked():
            process.start()
        self.process = process
        theirs.close()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Start processes with SIGTERM and SIGINT blocked.

    The parent handles those signals and ends its workers; a worker killed by one would blame the item it was decoding.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # it begins with the first process, and unblocks them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def attempt(work: Callable[[I], R], item: I) -> R | Rejected:
    """The result, or :class:`Rejected` for any error, so that it costs only this item."""
    try:
        return work(item)
    except Rejected as rejected:
        return Rejected(rejected.kind, rejected.reason)  # without its traceback
    except MemoryError:
        return Rejected("out-of-memory", "it needs more memory than it may have")
    except Exception as error:  # decoders of broken files raise nearly anything
        return Rejected("crashed", f"reading it failed: {type(error).__name__}: {error}")


def _serve(connection: Connection, work: Callable[[Any], Any], memory: int, imports: tuple[str, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    _die_with_parent()
    for name in imports:
        import_module(name)
    _limit(memory)
    with suppress(OSError):
        connection.send(None)
    while True:
        try:
            item = connection.recv()
        except (EOFError, OSError):
            return
        try:
            connection.send(attempt(work, item))
        except OSError:  # the parent has ended
            return


def _limit(memory: int) -> None:
    """Limit the process to ``memory`` bytes more than it uses now."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        used = 0
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = used + memory if hard == resource.RLIM_INFINITY else min(used + memory, hard)
    with suppress(ValueError, OSError, OverflowError):  # macOS knows no such limit; or it is beyond any memory
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _die_with_parent() -> None:
    """Exit if the parent is killed; a hanging worker would never notice."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    Thread(target=watch, daemon=True).start()

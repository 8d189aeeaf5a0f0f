"""Work on files that nobody vouches for, in processes of its own: what hangs, crashes or swells costs one item.

Each item is given to a worker process with a limit of time and of memory. A worker that breaks one is killed and
replaced; its item comes back as a refusal, and all others as if nothing had been. Knows nothing of videos.
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

_MOST_TO_START = 300.0  # seconds
_GLANCE = 0.5  # seconds between two looks at whether the pool was closed
# Workers import what the work needs and nothing of what the caller has loaded; threads and locks do not come along.
_PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class WorkerLimits:
    """What one item may cost, and how many are worked on side by side.

    Attributes:
        workers: processes, 1 or more.
        seconds: that an item may take.
        memory: bytes of address space that an item may take.
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
    """A few worker processes that do the same work on one item after another.

    Args:
        work: a function at the top of a module, item -> result; it may raise :class:`Rejected`.
        limits: of each item.
        imports: modules that the work imports, so that loading them is not on an item's time and memory.

    Raises:
        ValueError: when a worker is first used, if it can't be started.
    """

    def __init__(
        self, work: Callable[[I], R], limits: WorkerLimits = WorkerLimits(), imports: Sequence[str] = ()
    ) -> None:
        self.work = work
        self.seconds = limits.seconds
        self._closed = False
        self._workers = [_Worker(work, limits.memory, tuple(imports)) for _ in range(limits.workers)]

    def run(self, items: Iterable[I]) -> Iterator[tuple[I, R | Rejected]]:
        """Each item with its result, or with why there is none, in the items' order.

        Reads ahead by a few items a worker and no further, so that any number of them fits in memory.
        """
        try:
            yield from self._run(items)
        finally:  # given up before its end: what is still at work would answer to the next run
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
                    worker.give(number, item, self.seconds)
            while order and order[0] in done:
                number = order.popleft()
                yield waiting.pop(number), done.pop(number)
            if not order:
                if exhausted:
                    return
                continue
            self._gather(done)

    def close(self) -> None:
        """End the processes, whatever they are at; a ``run`` in another thread ends too."""
        self._closed = True
        for worker in self._workers:
            worker.end()

    def __enter__(self) -> WorkerPool[I, R]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _gather(self, done: dict[int, Any]) -> None:
        """Wait for the next answer, death or deadline."""
        busy = [worker for worker in self._workers if worker.task is not None]
        rest = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
        ready = set(wait([worker.connection for worker in busy], timeout=min(rest, _GLANCE)))
        for worker in busy:
            task = worker.task
            if self._closed or task is None:
                return
            if worker.connection in ready:
                done[task] = worker.take()
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

    def give(self, task: int, item: object, seconds: float) -> None:
        try:
            self._send(item)
        except OSError:  # it died between two items, which is no item's fault
            self.restart()
            self._send(item)
        self.task = task
        self.deadline = time.monotonic() + seconds

    def take(self) -> Any:
        """The answer that has come, or that the process died of the item."""
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            answer = Rejected("crashed", f"its decoder crashed ({how})")
            self.restart()
        self.task = None
        return answer

    def restart(self) -> None:
        """Another process in this one's place, unless it is all over."""
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
        if not self._ready:  # its start and its imports are not on the item's time
            try:
                if not self.connection.poll(_MOST_TO_START):
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
    """A process that is started inside never hears what is sent to all processes of a run to end them.

    That is for the parent, which ends this one; a decoder that died of it would blame the item that it was at.
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
    """The result, or why there is none: whatever goes wrong costs this item and no other."""
    try:
        return work(item)
    except Rejected as refused:
        return Rejected(refused.kind, refused.reason)  # without its traceback
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
        except OSError:  # whoever asked has ended, and says so itself
            return


def _limit(memory: int) -> None:
    """Let the process have so many bytes more than it has now."""
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
    with suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _die_with_parent() -> None:
    """Watch for a parent that was killed: a worker that hangs would never notice."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_GLANCE)
        os._exit(1)

    Thread(target=watch, daemon=True).start()

"""``torchrun … latentshift``: this process among others, and what goes wrong in several of them, which is said once.

Of ``generate`` all run the command and make each video together; the first one checks the outputs, writes and prints.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from latentshift.frame_parallel.split import count_parts, split_frames
from latentshift.models.storage.model_paths import has_temporal_attention, read_video_size
from latentshift.process_group import LaunchedProcess, RankError, check_timeout, drain_process_group

if TYPE_CHECKING:
    import numpy as np

DEFAULT_TIMEOUT = 600.0  # seconds
_UNTIL_TORCHRUN_ENDS_IT = 20.0  # seconds
_LAUNCH = "torchrun --nproc-per-node=N -m latentshift generate …"

_current: Ranks | None = None
_before_meeting: LaunchedProcess | None = None


class Ranks:
    """The processes that a launcher has started, as its environment says.

    Args:
        timeout: seconds that a process waits for another.
        guidance_parallel: whether half of the processes predict for the prompt and half for what to avoid.

    Attributes:
        rank: of this process.
        count: of all.

    Raises:
        ValueError: for a setting that does not go, or an environment that no launcher makes.
    """

    def __init__(self, timeout: float = DEFAULT_TIMEOUT, *, guidance_parallel: bool = False) -> None:
        global _current
        launched = LaunchedProcess.from_environment("generate …")
        self.rank, self.local_rank, self.count = launched.rank, launched.local_rank, launched.count
        self._guidance_parallel = guidance_parallel
        self._store: Any = None
        _current = self
        self._timeout = check_timeout(timeout, "--rank-timeout")
        if guidance_parallel and self.count == 1:
            raise ValueError(f"--guidance-parallel needs several processes: {_LAUNCH}")
        count_parts(self.count, guidance_parallel=guidance_parallel)

    @property
    def has_met_others(self) -> bool:
        """Whether there are others, and connections to them."""
        return self._store is not None

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def check(
        self, folder: Path | None, frames: int | None, *, guidance: float | None, device: str, refused: dict[str, Any]
    ) -> None:
        """Refuse what can't be made by several processes, as far as it is known before the model is loaded.

        Args:
            folder: of the model; None for a hub id.
            frames: of a video; None: the model's.
            guidance: the scale; None: the model's.
            device: name of it.
            refused: option -> its value, of those that don't go with several processes.

        Raises:
            ValueError: for the first that does not go.
        """
        if self.count == 1:
            return
        for option, value in refused.items():
            if value is not None:
                raise ValueError(f"{option} is for a single process, and here are {self.count}")
        if self._guidance_parallel and guidance == 1:
            raise ValueError("--guidance-parallel needs a guidance scale other than 1")
        if ":" in device:
            raise ValueError(
                f"{self.count} processes can't share --device {device}: choose cuda, which gives each its own"
            )
        if folder is not None and has_temporal_attention(folder):
            raise ValueError(
                "a video can't be split over processes with Latent-VDM: its temporal attention looks at all frames at "
                "once"
            )
        if frames is None and folder is not None:
            frames = read_video_size(folder)[0]
        if frames is not None:
            split_frames(frames, count_parts(self.count, guidance_parallel=self._guidance_parallel))

    def start(self, seed: int) -> int:
        """Meet the others.

        Args:
            seed: of this process.

        Returns:
            That of the first process.

        Raises:
            RankError: if one does not come.
        """
        if self.count == 1:
            return seed
        import torch
        import torch.distributed
        from torch.distributed.rendezvous import rendezvous

        dist: Any = torch.distributed
        try:
            self._store = next(rendezvous("env://", timeout=self._timeout))[0]
            store = dist.PrefixStore("frames", self._store)
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
                store=store,
                rank=self.rank,
                world_size=self.count,
                timeout=self._timeout,
            )
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, _raise_rank_error)
            if self.is_first:
                self._store.set("seed", str(seed))
            return int(self._store.get("seed"))
        except RuntimeError as error:
            limit = self._timeout.total_seconds()
            raise RankError(
                f"the {self.count} processes have not met within {limit:g} seconds (--rank-timeout)"
            ) from error

    def device(self, name: str) -> str:
        """The device of this process: each on a machine has a GPU of its own.

        Raises:
            ValueError: if there are too few.
        """
        if self.count == 1 or name not in ("auto", "cuda"):
            return name
        import torch

        if name == "auto" and not torch.cuda.is_available():
            return "cpu"
        if self.local_rank >= (found := torch.cuda.device_count()):
            raise ValueError(
                f"this machine has {found} GPUs, and more processes than that: start one for each, or use --device cpu"
            )
        return f"cuda:{self.local_rank}"

    def split(self, pipeline: Any) -> None:
        """Split the videos of a ``LatentShiftPipeline`` over the processes; each call then returns its own frames."""
        if self.count > 1:
            if pipeline.device.type == "cuda":
                import torch

                torch.cuda.set_device(pipeline.device)
            pipeline.enable_frame_parallel(
                guidance_parallel=self._guidance_parallel, gather=False, timeout=self._timeout.total_seconds()
            )

    def in_order(self, pipeline: Any, chunks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The chunks of frames of all processes in the first one, and none in the others."""
        return chunks if self.count == 1 else pipeline.frame_ranks.in_order(chunks)

    def finish(self, pipeline: Any) -> None:
        """Wait for the others, and take the process groups down."""
        if self.count == 1:
            return
        from latentshift.frame_parallel.layout import disconnect

        pipeline.frame_ranks.wait_for_all()
        self._store = None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        pipeline.disable_frame_parallel()
        drain_process_group()
        disconnect()

    def is_said_elsewhere(self, error: Exception, sentence: str) -> bool:
        """Whether another process says this, or something that this error comes from."""
        if self.count == 1:
            return False
        if self._store is None:
            return _is_said_by_the_first_here(self.local_rank)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # this process is about to end
        try:
            is_first_word = self._store.add("errors", 1) == 1
            if isinstance(error, RankError):
                return not is_first_word
            return bool(self._store.add(hashlib.sha256(sentence.encode()).hexdigest(), 1) > 1)
        except RuntimeError:  # whoever kept the store is gone
            return False


@contextmanager
def before_meeting(command: str) -> Iterator[LaunchedProcess]:
    """What all processes of a machine do alike: what is wrong there is said by one of them.

    Args:
        command: to be launched, for messages: ``train RECIPE``.

    Raises:
        ValueError: for an environment that no launcher makes.
    """
    global _before_meeting
    launched = _before_meeting = LaunchedProcess.from_environment(command)
    yield launched
    _before_meeting = None  # and not after an error, which is about to be said


def is_said_elsewhere(error: Exception, sentence: str) -> bool:
    """Of the command that runs: whether an error is said by another of its processes, if there are several."""
    if _before_meeting is not None:
        return _is_said_by_the_first_here(_before_meeting.local_rank)
    return _current is not None and _current.is_said_elsewhere(error, sentence)


def _raise_rank_error(*_: object) -> NoReturn:
    """What SIGTERM does: torchrun sends it when a process has ended, often before the others notice that themselves."""
    raise RankError("ended by its launcher (SIGTERM), as when another process was killed: its video is not finished")


def _is_said_by_the_first_here(local_rank: int) -> bool:
    """Before processes meet: all were given the same, and those of one machine see the same files."""
    if local_rank == 0:
        return False
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun ends them all when one has ended
        time.sleep(_UNTIL_TORCHRUN_ENDS_IT)
        return False
    return True


def end(code: int) -> NoReturn:
    """End with this exit code, and don't wait for other processes, which may be gone."""
    if _current is not None and _current.has_met_others:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)

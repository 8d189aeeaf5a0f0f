"""The loader: batches of samples whose order is a function of the seed alone.

Its whole state is the number of the next step. The global order is the same for any number of ranks and of workers, and
after a run was taken up again in the middle of an epoch: a sample's place says which set, epoch and index it is, and
all its draws come from that. Reading goes on ahead, footage in other processes, in worker processes. Knows no
models.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from latentshift.data.dataset import ClipDataset, Request, Sample
from latentshift.data.footage.decode import IMPORTS
from latentshift.data.prefetch import prefetch, prefetch_if_slow
from latentshift.data.rejected import Rejected
from latentshift.data.sample_order import interleaved, rng_for, shuffled_place, whole_weights
from latentshift.data.worker_pool import WorkerLimits, WorkerPool, attempt

_MOST_IN_A_ROW = 32
_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class BatchSpec:
    """What a step takes: ``samples`` of ``num_frames`` each, from position ``start`` of their kind on.

    Single frames and clips go each through an order of their own.
    """

    samples: int
    num_frames: int
    start: int


@dataclass(frozen=True)
class Batch:
    """What one rank learns from in one step.

    Attributes:
        samples: all of the same number of frames, each from a set that is encoded or each from one that is not.
        requests: that gave them.
        places: for each its (kind, set, epoch, index), with kind 1 for single frames; what else is drawn for the sample
            should be drawn from that.
    """

    samples: list[Sample]
    requests: list[Request]
    places: list[tuple[int, ...]]


class Loader:
    """Batches of a few sets of clips, mixed by weight.

    Args:
        sets: where samples come from.
        take: step (1, 2, …) -> what it takes, over all ranks.
        seed: of the order and of every draw.
        weights: of the sets; by default all alike. Sets without samples of the wanted kind are passed over.
        rank: which part of each batch is this process's, 0 … ``ranks`` - 1.
        ranks: how many processes share each batch.
        limits: of reading footage, in processes of its own; None to read it in this process, without a pool. What is
            encoded is always read in this process.

    Raises:
        ValueError: for weights that are not above 0, or ranks that do not divide a batch.
    """

    def __init__(
        self,
        sets: Sequence[ClipDataset],
        take: Callable[[int], BatchSpec],
        seed: int,
        weights: Sequence[float] | None = None,
        rank: int = 0,
        ranks: int = 1,
        limits: WorkerLimits | None = None,
    ) -> None:
        self.sets = sets
        self.take = take
        self.seed = seed
        self.weights = whole_weights(weights or [1] * len(sets))
        self.rank, self.ranks = rank, ranks
        self.limits = limits
        self.left_out: dict[str, Rejected] = {}
        self.short: set[str] = set()
        if len(self.weights) != len(sets) or not sets or min(self.weights) <= 0:
            raise ValueError(f"each set of clips has a weight above 0, not {weights}")

    def batches(self, step: int = 1) -> Generator[Batch]:
        """The batches of this rank, endlessly, from that of ``step`` on.

        A clip that can't be used is replaced by another one, drawn for its place, and noted in ``left_out``; the names
        of those that were shorter than the window stand in ``short``.

        Raises:
            ValueError: if there is nothing of the wanted kind, or 32 clips in a row can't be used.
        """
        if self.limits is None or all(each.encoded for each in self.sets):
            yield from prefetch_if_slow(self._batches(step, _read_here, _read_here), _BATCHES_AHEAD)
            return
        with WorkerPool(fulfil, self.limits, IMPORTS) as pool, _Again(self.limits) as again:

            def stop() -> None:
                pool.close()
                again.close()

            yield from prefetch(self._batches(step, pool.run, again.run), _BATCHES_AHEAD, stop)

    def _batches(self, step: int, read: _Reading, again: _Reading) -> Iterator[Batch]:
        """``read`` is for footage; what is encoded lies ready, and is read in this process."""
        places = self._places(step)
        answers: Iterator[tuple[Request, Sample | Rejected]] = iter(())
        if not all(each.encoded for each in self.sets):  # else nothing would ever take from the second of the pair
            places, later = itertools.tee(places)
            footage = (each for each in later if not self.sets[each[1][1]].encoded)
            answers = read(self._request(num_frames, place) for num_frames, place in footage)
        for number in itertools.count(step):
            batch = Batch([], [], [])
            for _ in range(self._mine(self.take(number))[1]):
                num_frames, place = next(places)
                if self.sets[place[1]].encoded:
                    request = self._request(num_frames, place)
                    answer = attempt(fulfil, request)
                else:
                    request, answer = next(answers)
                request, sample = self._usable(request, answer, num_frames, place, again)
                batch.samples.append(sample)
                batch.requests.append(request)
                batch.places.append(place)
            yield batch

    def _usable(
        self, request: Request, answer: Sample | Rejected, num_frames: int, place: tuple[int, ...], again: _Reading
    ) -> tuple[Request, Sample]:
        """The sample, or the first one that can be used of those that are drawn for its place, and what gave it."""
        for again_drawn in range(1, _MOST_IN_A_ROW + 1):
            if not isinstance(answer, Rejected):
                if answer.short:
                    self.short.add(request.name)
                return request, answer
            if self.sets[place[1]].encoded:  # it was usable once
                raise ValueError(f"{request.name}: {answer.reason}")
            self.left_out[request.name] = answer
            request, answer = next(iter(again(iter([self._request(num_frames, place, again_drawn)]))))
        raise ValueError(
            f"{_MOST_IN_A_ROW} clips in a row can't be used ({request.name}: {answer}); latentshift data inspect says "
            "what is wrong with which"
        )

    def _places(self, step: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Number of frames and (kind, set, epoch, index) of every sample of this rank."""
        for number in itertools.count(step):
            take = self.take(number)
            first, count = self._mine(take)
            kind = int(take.num_frames == 1)
            sizes = [each.size(take.num_frames) for each in self.sets]
            weights = [weight if size else 0 for weight, size in zip(self.weights, sizes, strict=True)]
            if not any(weights):
                what = "single frames" if kind else f"clips of {take.num_frames} frames"
                raise ValueError(f"the data holds no {what}; latentshift data inspect says what it holds")
            for position in range(first, first + count):
                which, within = interleaved(position, weights)
                epoch, index = shuffled_place(within, sizes[which], self.seed, kind, which)
                yield take.num_frames, (kind, which, epoch, index)

    def _mine(self, take: BatchSpec) -> tuple[int, int]:
        """Where this rank's part begins, and how many samples it is."""
        count, rest = divmod(take.samples, self.ranks)
        if rest:
            raise ValueError(f"a batch of {take.samples} can't be shared evenly by {self.ranks} processes")
        return take.start + self.rank * count, count

    def _request(self, num_frames: int, place: tuple[int, ...], attempt: int = 0) -> Request:
        _, which, _, index = place
        if attempt:
            index = int(rng_for(self.seed, *place, attempt, 0).integers(self.sets[which].size(num_frames)))
        return self.sets[which].ask(num_frames, index, (self.seed, *place, attempt))


_Reading = Callable[[Iterator[Request]], Iterator[tuple[Request, Sample | Rejected]]]


def fulfil(request: Request) -> Sample:
    """What a worker does."""
    return request.read()


def _read_here(requests: Iterator[Request]) -> Iterator[tuple[Request, Sample | Rejected]]:
    for request in requests:
        yield request, attempt(fulfil, request)


class _Again:
    """A second pool for what replaces refused clips, started when it is first needed: the other one is at work."""

    def __init__(self, limits: WorkerLimits) -> None:
        self.limits = replace(limits, workers=1)
        self.pool: WorkerPool[Request, Sample] | None = None
        self.closed = False

    def run(self, requests: Iterator[Request]) -> Iterator[tuple[Request, Sample | Rejected]]:
        if self.pool is None and not self.closed:
            self.pool = WorkerPool(fulfil, self.limits, IMPORTS)
        return iter(()) if self.pool is None else self.pool.run(requests)

    def __enter__(self) -> _Again:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True
        if self.pool is not None:
            self.pool.close()

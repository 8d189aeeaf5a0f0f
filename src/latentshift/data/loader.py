"""The data loader: batches of samples whose order is a function of the seed alone.

Its only state is the number of the next step. The global order is the same for any number of ranks and of workers, and
after a run was resumed in the middle of an epoch: a sample's place is its dataset, epoch and index, and its random
stream depends on that alone. Batches are prefetched, and videos are decoded in worker processes. Knows no models.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from latentshift.data.dataset import ClipDataset, Request, Sample
from latentshift.data.footage.decode import IMPORTS
from latentshift.data.prefetch import prefetch, prefetch_if_slow
from latentshift.data.rejected import Rejected
from latentshift.data.sample_order import integer_weights, interleaved, rng_for, shuffled_index
from latentshift.data.worker_pool import WorkerLimits, WorkerPool, attempt

_MAX_RETRIES = 32
_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class BatchSpec:
    """The batch of a step: ``samples`` of ``num_frames`` each, from position ``start`` in the order of their kind.

    Single frames and clips have separate orders. Of each clip ``kept_frames`` are used, evenly spread from its first to
    its last; None: all.
    """

    samples: int
    num_frames: int
    start: int
    kept_frames: int | None = None


class Place(NamedTuple):
    """Where a sample stands in the order of the data; its numbers, in this order, are the key of its random stream.

    Attributes:
        kind: 1 for single frames, else 0.
        dataset: its number, 0, 1, ….
        epoch: of its dataset, 0, 1, ….
        sample_index: in the dataset.
    """

    kind: int
    dataset: int
    epoch: int
    sample_index: int


@dataclass(frozen=True)
class Batch:
    """The samples of one rank in one step.

    Attributes:
        samples: all of the same number of frames; each holds frames or latent moments, as its dataset does.
        requests: that they were read from.
        places: of each.
    """

    samples: list[Sample]
    requests: list[Request]
    places: list[Place]


class Loader:
    """Batches from one or more datasets, mixed by weight.

    Args:
        datasets: the datasets.
        batch_spec: step (1, 2, …) -> its batch, over all ranks.
        seed: of the order and of all random streams.
        weights: of the datasets; equal by default. Datasets without samples of the requested kind are skipped.
        rank: of this process, 0 … ``ranks`` - 1.
        ranks: number of processes that share each batch.
        limits: of the worker processes that decode videos; None to decode in this process. Encoded latents are always
            read in this process.

    Raises:
        ValueError: for weights that are not positive.
    """

    def __init__(
        self,
        datasets: Sequence[ClipDataset],
        batch_spec: Callable[[int], BatchSpec],
        seed: int,
        weights: Sequence[float] | None = None,
        rank: int = 0,
        ranks: int = 1,
        limits: WorkerLimits | None = None,
    ) -> None:
        self.datasets = datasets
        self.batch_spec = batch_spec
        self.seed = seed
        self.weights = integer_weights(weights or [1] * len(datasets))
        self.rank, self.ranks = rank, ranks
        self.limits = limits
        self.rejected: dict[str, Rejected] = {}
        self.short: set[str] = set()
        if len(self.weights) != len(datasets) or not datasets or min(self.weights) <= 0:
            raise ValueError(f"each dataset has a weight above 0, not {weights}")

    def batches(self, step: int = 1) -> Generator[Batch]:
        """An endless iterator over this rank's batches, starting at ``step``.

        A clip that can't be used is replaced by another random one and recorded in ``rejected``; the names of clips
        shorter than the window are added to ``short``.

        Raises:
            ValueError: if no dataset has samples of the requested kind, 32 clips in a row can't be used, or ``ranks``
                does not divide a batch.
        """
        if self.limits is None or all(each.encoded for each in self.datasets):
            yield from prefetch_if_slow(self._batches(step, _read_in_process, _read_in_process), _BATCHES_AHEAD)
            return
        with WorkerPool(read_request, self.limits, IMPORTS) as pool, _ReplacementPool(self.limits) as replacements:

            def stop() -> None:
                pool.close()
                replacements.close()

            yield from prefetch(self._batches(step, pool.run, replacements.run), _BATCHES_AHEAD, stop)

    def _batches(self, step: int, read: _Reading, read_replacement: _Reading) -> Iterator[Batch]:
        """``read`` decodes videos; encoded latents are read in this process."""
        places = self._places(step)
        results: Iterator[tuple[Request, Sample | Rejected]] = iter(())
        if not all(each.encoded for each in self.datasets):  # else nothing would consume the second iterator
            places, later = itertools.tee(places)
            results = read(
                self._request(num_frames, place)
                for num_frames, place in later
                if not self.datasets[place.dataset].encoded
            )
        for number in itertools.count(step):
            batch, spec = Batch([], [], []), self.batch_spec(number)
            for _ in range(self._rank_share(spec)[1]):
                num_frames, place = next(places)
                if self.datasets[place.dataset].encoded:
                    request = self._request(num_frames, place)
                    result = attempt(read_request, request)
                else:
                    request, result = next(results)
                request, sample = self._usable_sample(request, result, num_frames, place, read_replacement)
                batch.samples.append(sample if spec.kept_frames is None else sample.subsampled(spec.kept_frames))
                batch.requests.append(request)
                batch.places.append(place)
            yield batch

    def _usable_sample(
        self,
        request: Request,
        result: Sample | Rejected,
        num_frames: int,
        place: Place,
        read_replacement: _Reading,
    ) -> tuple[Request, Sample]:
        """The sample and its request, or the first usable random replacement for it."""
        for attempt_number in range(1, _MAX_RETRIES + 1):
            if not isinstance(result, Rejected):
                if result.short:
                    self.short.add(request.name)
                return request, result
            if self.datasets[place.dataset].encoded:  # it was usable when it was encoded
                raise ValueError(f"{request.name}: {result.reason}")
            self.rejected[request.name] = result
            request, result = next(iter(read_replacement(iter([self._request(num_frames, place, attempt_number)]))))
        raise ValueError(
            f"{_MAX_RETRIES} clips in a row can't be used ({request.name}: {result}); latentshift data inspect "
            "says what is wrong with which"
        )

    def _places(self, step: int) -> Iterator[tuple[int, Place]]:
        """Number of frames and place of every sample of this rank."""
        for number in itertools.count(step):
            spec = self.batch_spec(number)
            first, count = self._rank_share(spec)
            kind = int(spec.num_frames == 1)
            sizes = [each.size(spec.num_frames) for each in self.datasets]
            weights = [weight if size else 0 for weight, size in zip(self.weights, sizes, strict=True)]
            if not any(weights):
                what = "single frames" if kind else f"clips of {spec.num_frames} frames"
                raise ValueError(f"the data holds no {what}; latentshift data inspect says what it holds")
            for position in range(first, first + count):
                which, within = interleaved(position, weights)
                epoch, index = shuffled_index(within, sizes[which], self.seed, kind, which)
                yield spec.num_frames, Place(kind, which, epoch, index)

    def _rank_share(self, spec: BatchSpec) -> tuple[int, int]:
        """The first position and the number of samples of this rank."""
        count, rest = divmod(spec.samples, self.ranks)
        if rest:
            raise ValueError(f"a batch of {spec.samples} can't be shared evenly by {self.ranks} processes")
        return spec.start + self.rank * count, count

    def _request(self, num_frames: int, place: Place, attempt: int = 0) -> Request:
        dataset, index = self.datasets[place.dataset], place.sample_index
        if attempt:
            index = int(rng_for(self.seed, *place, attempt, 0).integers(dataset.size(num_frames)))
        return dataset.request(num_frames, index, (self.seed, *place, attempt))


_Reading = Callable[[Iterator[Request]], Iterator[tuple[Request, Sample | Rejected]]]


def read_request(request: Request) -> Sample:
    """Read a sample; runs in worker processes."""
    return request.read()


def _read_in_process(requests: Iterator[Request]) -> Iterator[tuple[Request, Sample | Rejected]]:
    for request in requests:
        yield request, attempt(read_request, request)


class _ReplacementPool:
    """A second pool that reads replacements of rejected clips, started when first needed: the other pool is busy."""

    def __init__(self, limits: WorkerLimits) -> None:
        self.limits = replace(limits, workers=1)
        self.pool: WorkerPool[Request, Sample] | None = None
        self.closed = False

    def run(self, requests: Iterator[Request]) -> Iterator[tuple[Request, Sample | Rejected]]:
        if self.pool is None and not self.closed:
            self.pool = WorkerPool(read_request, self.limits, IMPORTS)
        return iter(()) if self.pool is None else self.pool.run(requests)

    def __enter__(self) -> _ReplacementPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True
        if self.pool is not None:
            self.pool.close()

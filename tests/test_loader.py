"""The loader: one order, whatever reads it."""

from __future__ import annotations

import itertools
import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest

from latentshift.data.dataset import Sample
from latentshift.data.loader import Batch, BatchSpec, Loader
from latentshift.data.rejected import Rejected
from latentshift.data.sample_order import integer_weights, interleaved, rng_for, shuffled_index
from latentshift.data.worker_pool import WorkerLimits


@dataclass(frozen=True)
class Numbered:
    """A set of samples that say which they are; some of them can't be used."""

    name: str
    clips: int
    bad: tuple[int, ...] = ()
    fatal: tuple[int, ...] = ()
    encoded: bool = False

    def size(self, num_frames: int) -> int:
        return self.clips

    def caption(self, num_frames: int, index: int) -> str:
        return f"{self.name} {index}"

    def request(self, num_frames: int, index: int, place: tuple[int, ...]) -> Ask:
        return Ask(self, num_frames, index, place)


@dataclass(frozen=True)
class Ask:
    source: Numbered
    num_frames: int
    index: int
    rng_key: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.source.name} {self.index}"

    def read(self) -> Sample:
        if self.index in self.source.bad:
            raise Rejected("damaged", "it is damaged")
        if self.index in self.source.fatal:
            os.kill(os.getpid(), signal.SIGSEGV)
        value = rng_for(*self.rng_key).integers(256, dtype=np.uint8)
        return Sample(np.full((self.num_frames, 1, 1, 3), value), self.name)


def take(step: int) -> BatchSpec:
    """Every third step learns single frames."""
    if step % 3:
        return BatchSpec(8, 2, 8 * (step - 1 - step // 3))
    return BatchSpec(16, 1, 16 * (step // 3 - 1))


def seen(batch: Batch) -> list[tuple]:
    both = zip(batch.samples, batch.places, strict=True)
    return [(s.caption, *s.content.shape, *s.content[0, 0, 0], p) for s, p in both]


def steps(loader: Loader, first: int, last: int) -> list[list[tuple]]:
    return [seen(batch) for batch in itertools.islice(loader.batches(first), last - first)]


SETS = [Numbered("a", 23), Numbered("b", 7)]
WEIGHTS = [3.0, 1.0]


@pytest.fixture(scope="module")
def order() -> list[list[tuple]]:
    return steps(Loader(SETS, take, seed=5, weights=WEIGHTS), 1, 25)


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_ranks_share_one_order(ranks: int, order: list[list[tuple]]) -> None:
    shares = [steps(Loader(SETS, take, 5, WEIGHTS, rank, ranks), 1, 25) for rank in range(ranks)]
    assert [list(itertools.chain(*batches)) for batches in zip(*shares, strict=True)] == order


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_change_nothing(workers: int, order: list[list[tuple]]) -> None:
    assert steps(Loader(SETS, take, 5, WEIGHTS, limits=WorkerLimits(workers)), 1, 10) == order[:9]


@pytest.mark.parametrize("step", [2, 3, 13])
def test_a_run_resumes_in_the_middle_of_an_epoch(step: int, order: list[list[tuple]]) -> None:
    assert steps(Loader(SETS, take, 5, WEIGHTS), step, 25) == order[step - 1 :]


def test_each_epoch_shows_everything_once(order: list[list[tuple]]) -> None:
    clips = [place for step, batch in enumerate(order, 1) if step % 3 for *_, place in batch]
    assert len(clips) == 128 and sum(place[1] == 0 for place in clips) == 96
    for which, size in ((0, 23), (1, 7)):
        of_this = [place[2:] for place in clips if place[1] == which]
        for epoch in range(len(of_this) // size):
            assert sorted(index for e, index in of_this if e == epoch) == list(range(size))
    other = steps(Loader(SETS, take, seed=6, weights=WEIGHTS), 1, 25)
    assert other != order


def test_clips_that_cannot_be_used_are_replaced_and_named() -> None:
    sets = [Numbered("a", 23, bad=(3, 4, 5), fatal=(11,))]
    loader = Loader(sets, take, 5, limits=WorkerLimits(2))
    batches = steps(loader, 1, 7)
    rejected = {"a 3", "a 4", "a 5", "a 11"}
    assert {name for name, *_ in itertools.chain(*batches)} == {f"a {k}" for k in range(23)} - rejected
    assert set(loader.rejected) == rejected and loader.rejected["a 11"].kind == "crashed"
    again = Loader(sets, take, 5, limits=WorkerLimits(1))
    assert steps(again, 1, 7) == batches
    whole = steps(Loader([Numbered("a", 23)], take, 5), 1, 7)
    for batch, complete in zip(batches, whole, strict=True):  # all others are where they were
        for one, other in zip(batch, complete, strict=True):
            assert one == other or other[0] in rejected


def test_data_that_cannot_be_learned_from() -> None:
    with pytest.raises(ValueError, match=r"32 clips in a row can't be used .*it is damaged"):
        next(Loader([Numbered("a", 4, bad=(0, 1, 2, 3))], take, 5).batches())
    with pytest.raises(ValueError, match=r"a \d: it is damaged"):  # what was encoded was usable once
        next(Loader([Numbered("a", 4, bad=(0, 1, 2, 3), encoded=True)], take, 5).batches())
    with pytest.raises(ValueError, match="holds no clips of 2 frames"):
        next(Loader([Numbered("a", 0)], take, 5).batches())
    with pytest.raises(ValueError, match="a batch of 8 can't be shared evenly by 3 processes"):
        next(Loader(SETS, take, 5, ranks=3).batches())
    with pytest.raises(ValueError, match="a weight above 0"):
        Loader(SETS, take, 5, weights=[1, 0])


def test_a_mixture_keeps_its_weights_over_any_stretch() -> None:
    weights = integer_weights([0.5, 2, 0, 1.25])
    assert weights == [2, 8, 0, 5]
    order = [interleaved(position, weights) for position in range(3000)]
    for which, weight in enumerate(weights):
        places = [place for stream, place in order if stream == which]
        assert places == list(range(len(places)))
        share = weight / sum(weights)
        counts = np.cumsum([stream == which for stream, _ in order])
        assert np.abs(counts - share * np.arange(1, 3001)).max() < 2


def test_an_order_is_a_permutation_in_each_epoch() -> None:
    places = [shuffled_index(position, 7, 3) for position in range(21)]
    assert [epoch for epoch, _ in places] == [0] * 7 + [1] * 7 + [2] * 7
    for epoch in range(3):
        assert sorted(index for e, index in places if e == epoch) == list(range(7))
    assert rng_for(0, 1, 2).random() == rng_for(0, 1, 2).random() != rng_for(0, 2, 1).random()

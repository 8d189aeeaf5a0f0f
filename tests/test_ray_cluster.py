"""A local Ray: its actors share work out, wait for each other, and their errors and deaths are one sentence."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from latentshift.cli.ray_cluster import Cluster, Member, connect

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    before = signal.getsignal(signal.SIGTERM)
    with connect("cpu", 2) as connected:
        assert signal.getsignal(signal.SIGTERM) is before
        yield connected


def test_each_piece_is_taken_once_and_reported(cluster: Cluster) -> None:
    def work(member: Member, device: str) -> list[int]:
        member.wait()
        taken = []
        while (piece := member.take()) < 40:
            taken.append(piece)
            member.report(1)
        member.wait()
        return [member.count, device == "cpu", len(set(taken)) == len(taken)]

    reported: list[int] = []
    assert cluster.run(work, reported.append) == [2, True, True]
    assert sum(reported) == 40


def test_what_an_actor_raises_is_raised(cluster: Cluster) -> None:
    def work(member: Member, device: str) -> None:
        if member.number == 1:
            raise ValueError("clips holds nothing: name another")
        member.wait()  # for one that never comes

    with pytest.raises(ValueError, match=r"^clips holds nothing: name another$"):
        cluster.run(work, lambda _: None)


def test_a_killed_actor_is_told_in_a_sentence(cluster: Cluster) -> None:
    def work(member: Member, device: str) -> None:
        if member.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        member.wait()

    with pytest.raises(ValueError, match=r"^an actor of Ray is lost, .* the same command resumes \([^\n]*\)$"):
        cluster.run(work, lambda _: None)


def test_actors_without_a_gpu_are_refused(cluster: Cluster) -> None:
    with pytest.raises(ValueError, match="--actors 2 need a GPU each, and the cluster has 0"):
        Cluster("cuda", 2)

"""A local Ray: its actors share work out, wait for each other, and their errors and deaths are one sentence."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from latentshift.cli.ray_cluster import Cluster, Member, connect
from launch import Processes, command_line


@pytest.mark.parametrize("port", ["free", "65536"])
def test_an_address_where_nothing_listens_is_refused_at_once(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray alone tries there for minutes."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1] if port == 'free' else port}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with (
            pytest.raises(ValueError, match=rf"^no Ray cluster answers at RAY_ADDRESS={address}: ."),
            connect("cpu", 1),
        ):
            pass


def _evaluate_with_sigterm_while_ray_starts() -> None:
    import ray

    start = ray.init

    def init(**options: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        start(**options)
        print("started:", ray.is_initialized(), flush=True)

    ray.init = init
    command_line("evaluate", "sprites", "--quick", "--engine", "ray", "--actors", "1", "-o", "new")


@pytest.mark.slow
def test_sigterm_while_ray_starts_ends_the_command_when_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's processes would be left otherwise."""
    monkeypatch.chdir(tmp_path)
    with Processes(_evaluate_with_sigterm_while_ray_starts) as command:
        assert command.ended() == [75], command.last_words()
        assert "started: True" in command.printed()
        assert (
            command.errors()
            == "stopped by SIGTERM; new keeps what is measured, and the same command resumes from there\n"
        )


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("OutOfMemoryError", "Ray itself failed"),
        ("LocalRayletDiedError", "Ray itself failed"),
        ("RpcError", "Ray itself failed"),
    ],
)
def test_a_failure_of_ray_is_one_sentence(kind: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", dict)
    error = getattr(ray.exceptions, kind)
    with pytest.raises(ValueError, match=rf"^{sentence}; the same command resumes \([^\n]+\)$"), connect("cpu", 1):
        raise error("gone\nfar away")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    before = signal.getsignal(signal.SIGTERM)
    with connect("cpu", 2) as connected:
        assert signal.getsignal(signal.SIGTERM) is before
        yield connected


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_an_actor_raises_is_raised(cluster: Cluster) -> None:
    def work(member: Member, device: str) -> None:
        if member.number == 1:
            raise ValueError("clips holds nothing: name another")
        member.wait()  # for one that never comes

    with pytest.raises(ValueError, match=r"^clips holds nothing: name another$"):
        cluster.run(work, lambda _: None)


@pytest.mark.slow
def test_a_killed_actor_is_told_in_a_sentence(cluster: Cluster) -> None:
    def work(member: Member, device: str) -> None:
        if member.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        member.wait()

    with pytest.raises(ValueError, match=r"^an actor of Ray is lost, .* the same command resumes \([^\n]*\)$"):
        cluster.run(work, lambda _: None)


@pytest.mark.slow
def test_actors_without_a_gpu_are_refused(cluster: Cluster) -> None:
    with pytest.raises(ValueError, match="--actors 2 need a GPU each, and the cluster has 0"):
        Cluster("cuda", 2)

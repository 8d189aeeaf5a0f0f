"""What ``data encode`` and the protocols of ``evaluate`` run on: processes of this machine, or Ray's actors."""

from __future__ import annotations

import os
from importlib.util import find_spec

import typer

from latentshift.cli.shared_options import RANK_TIMEOUT_SECONDS

ENGINES = ("local", "ray")
ENGINE = typer.Option(
    "local",
    "--engine",
    help="local, also under torchrun or accelerate launch; or ray, with the extra latentshift[ray].",
)
ACTORS = typer.Option(1, "--actors", help="With ray: number of actors, processes of a cluster that share the videos.")


def check_engine(engine: str, actors: int, device: str, rank_timeout: float) -> None:
    """Refuse what does not go before anything heavy is imported.

    Args:
        engine: as given, one of ``local`` and ``ray``.
        actors: of Ray.
        device: as given.
        rank_timeout: as given.

    Raises:
        ValueError: for the first that does not go, or if Ray is not installed.
    """
    from latentshift.cli.data.common import one_of

    one_of("--engine", engine, ENGINES)
    if actors < 1:
        raise ValueError(f"--actors must be 1 or more, not {actors}")
    if engine == "local":
        if actors > 1:
            raise ValueError(f"--actors {actors} are Ray's: add --engine ray, or start processes with torchrun")
        return
    if rank_timeout != RANK_TIMEOUT_SECONDS:
        raise ValueError(
            "--rank-timeout is for the processes of torchrun or accelerate launch: leave it out with --engine ray, "
            "whose actors wait for each other as long as all of them live"
        )
    if (started := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise ValueError(
            f"--engine ray shares the work out by itself: start it once, not {started} times by torchrun or "
            "accelerate launch"
        )
    if find_spec("ray") is None:
        raise ValueError("--engine ray needs Ray: pip install 'latentshift[ray]'")
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"with --engine ray, --device is auto, cpu or cuda, not {device}: Ray deals out the GPUs")

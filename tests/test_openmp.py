"""The waiting of OpenMP's threads."""

from __future__ import annotations

import pytest

from latentshift.cli.openmp import limit_spinning


@pytest.mark.parametrize(
    ("environ", "cores", "spins"),
    [
        ({}, 2, "1000"),
        ({}, 64, None),
        ({"GOMP_SPINCOUNT": "7"}, 2, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, 2, None),
    ],
)
def test_threads_spin_less_on_few_cores_unless_the_user_says_otherwise(
    environ: dict[str, str], cores: int, spins: str | None
) -> None:
    limit_spinning(environ, cores)
    assert environ.get("GOMP_SPINCOUNT") == spins

"""How long OpenMP's threads, on which torch calculates, spin while they wait for each other."""

from __future__ import annotations

from collections.abc import MutableMapping

_FEW_CORES = 4
_SPINS = 1000  # some microseconds, about the time between two operations of a small model


def limit_spinning(environ: MutableMapping[str, str], cores: int) -> None:
    """On a machine of few cores let GNU's OpenMP put waiting threads to sleep early; to be called before torch.

    By default they spin for milliseconds. Where another program holds one of the cores, threads share what is left, and
    spin while those that they wait for can't run.

    Args:
        environ: of this process; what it says of OpenMP's waiting already is left as it is.
        cores: of the machine.
    """
    if cores <= _FEW_CORES and "OMP_WAIT_POLICY" not in environ:
        environ.setdefault("GOMP_SPINCOUNT", str(_SPINS))

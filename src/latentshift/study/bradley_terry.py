"""Bradley-Terry strengths of three or more systems from comparisons of pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_MAX_ITERATIONS = 100_000
_TOLERANCE = 1e-10  # of a log strength in one iteration


def bradley_terry(wins: Sequence[Sequence[float]] | np.ndarray, names: Sequence[str] | None = None) -> np.ndarray:
    """Maximum-likelihood log strengths, (S,), with mean 0: i beats j with probability 1 / (1 + exp(s_j - s_i)).

    The MM algorithm of Hunter, "MM algorithms for generalized Bradley-Terry models" (2004), Eq. 3.

    Args:
        wins: how often i beat j, (S, S), diagonal ignored; a tie is half a win for each.
        names: of the systems, for the message.

    Raises:
        ValueError: unless S >= 2 and all are finite and 0 or more; or where no finite maximum exists, because some
            systems never won against the others, or were never compared with them (Ford 1957).
        ArithmeticError: if the iteration does not converge.
    """
    won = np.array(wins, dtype=np.float64)
    if won.ndim != 2 or won.shape[0] != won.shape[1] or len(won) < 2:
        raise ValueError(f"the wins of S systems are a matrix (S, S) with S >= 2, not of shape {won.shape}")
    if not (np.isfinite(won) & (won >= 0)).all():
        raise ValueError("a number of wins must be finite, and 0 or more")
    np.fill_diagonal(won, 0)
    _check_connected(won, names or [f"system {index + 1}" for index in range(len(won))])
    compared = won + won.T
    log_strengths = np.zeros(len(won))
    for _ in range(_MAX_ITERATIONS):
        strengths = np.exp(log_strengths)
        updated = np.log(won.sum(1) / (compared / (strengths[:, None] + strengths)).sum(1))
        updated -= updated.mean()
        if np.abs(updated - log_strengths).max() < _TOLERANCE:
            return updated
        log_strengths = updated
    raise ArithmeticError(f"Bradley-Terry strengths did not converge in {_MAX_ITERATIONS:,} iterations")


def _check_connected(won: np.ndarray, names: Sequence[str]) -> None:
    """Refuse unless each system is reached from each other over wins."""
    reached = (won > 0) | np.eye(len(won), dtype=bool)
    for _ in range(len(won)):
        reached = reached @ reached
    for index, row in enumerate(reached):
        if not row.all():
            beaten = ", ".join(name for name, hit in zip(names, row, strict=True) if not hit)
            raise ValueError(
                f"Bradley-Terry strengths need more answers: {names[index]} never won against {beaten}, not even "
                "by way of others"
            )

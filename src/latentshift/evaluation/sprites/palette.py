"""The palette colour of the sprites world that a measured colour is nearest to."""

from __future__ import annotations

import numpy as np

from latentshift.data.sprites import COLOURS


def nearest_colours(colours: np.ndarray) -> list[str | None]:
    """Words for colours (N, 3) in levels; None for NaN."""
    words, palette = list(COLOURS), np.array(list(COLOURS.values()), dtype=float)
    distances = np.linalg.norm(colours[:, None] - palette, axis=2)
    return [None if np.isnan(row[0]) else words[int(row.argmin())] for row in distances]

"""Edges of frames, as the pictures that an edge ControlNet is trained on and asked with.

Legend of shapes: F frames, H × W pixels.
"""

from __future__ import annotations

import numpy as np

FULL_STEP = 64
"""Levels between two neighbouring pixels, in any colour channel, from which on an edge is white."""


def edge_maps(frames: np.ndarray) -> np.ndarray:
    """The magnitude of Sobel's gradient (Duda & Hart 1973, p. 271), of the colour channel in which it is largest.

    Scaled so that an upright step of :data:`FULL_STEP` levels is white, and limited to that: which colours meet at an
    edge then hardly shows. Each frame's edges depend on that frame alone. Beyond the border its pixels repeat.

    Args:
        frames: uint8 RGB (F, H, W, 3).

    Returns:
        uint8 (F, H, W, 3), three equal channels, white on black.

    Raises:
        ValueError: for another dtype or shape.
    """
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        kind = f"{frames.dtype} {frames.shape}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise ValueError(f"edges are of frames, uint8 (F, H, W, 3), not {kind}")
    padded = np.pad(frames.astype(np.float32), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]  # smoothed down the columns
    columns = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    across, down = rows[:, :, 2:] - rows[:, :, :-2], columns[:, 2:] - columns[:, :-2]
    step = np.hypot(across, down).max(axis=-1) / 4  # the kernel's weights on either side add up to 4
    white = np.rint(np.minimum(step / FULL_STEP, 1) * 255).astype(np.uint8)
    return np.repeat(white[..., None], 3, axis=-1)

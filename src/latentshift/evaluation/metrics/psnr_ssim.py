"""PSNR and SSIM of frames beside a reference. Legend of shapes: F frames, H height, W width, C channels."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

MOST_DECIBELS = 100.0  # that a mean takes for a frame without any error, whose ratio has no bound
_LEVELS = 255.0
_SIGMA, _RADIUS = 1.5, 5  # of the window of 11 × 11 pixels
LEAST_SIDE = 2 * _RADIUS + 1  # of a frame that has an SSIM
_C1, _C2 = (0.01 * _LEVELS) ** 2, (0.03 * _LEVELS) ** 2


def psnr(video: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each frame, (F,) decibels: 10 lg(255² / mean squared error); equal frames: inf.

    Args:
        video, reference: uint8 (F, H, W, C) of one shape.

    Raises:
        ValueError: for other dtypes or shapes.
    """
    _check(video, reference)
    errors = np.array(
        [((a.astype(np.float64) - b) ** 2).mean() for a, b in zip(video, reference, strict=True)], np.float64
    )
    with np.errstate(divide="ignore"):
        decibels: np.ndarray = 10 * np.log10(_LEVELS**2 / errors)
    return decibels


def ssim(video: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Structural similarity of each frame, (F,), -1 … 1: the mean over channels and windows of Eq. 13.

    Wang et al. 2004, IEEE TIP 13(4): Gaussian windows of 11 × 11 pixels with σ = 1.5, K1 = 0.01, K2 = 0.03, range 255,
    only windows that lie within the frame.

    Args:
        video, reference: uint8 (F, H, W, C) of one shape, H, W >= 11.

    Raises:
        ValueError: for other dtypes or shapes.
    """
    _check(video, reference)
    if min(video.shape[1:3]) < LEAST_SIDE:
        raise ValueError(f"SSIM needs frames of at least 11 × 11 pixels, not {video.shape[1]} × {video.shape[2]}")
    return np.array([_ssim(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(video, reference, strict=True)])


def _ssim(x: np.ndarray, y: np.ndarray) -> float:
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    return float((alike / ((mean_x**2 + mean_y**2 + _C1) * (variance_x + variance_y + _C2))).mean())


def _blur(image: np.ndarray) -> np.ndarray:
    blurred: np.ndarray = gaussian_filter(image, _SIGMA, radius=_RADIUS, axes=(0, 1))
    return blurred[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def _check(video: np.ndarray, reference: np.ndarray) -> None:
    for each in (video, reference):
        if each.dtype != np.uint8 or each.ndim != 4 or 0 in each.shape:
            raise ValueError(f"a video is uint8 (F, H, W, C), not {each.dtype} {each.shape}")
    if video.shape != reference.shape:
        raise ValueError(f"a video and its reference have one shape, not {video.shape} and {reference.shape}")

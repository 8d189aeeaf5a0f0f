"""PSNR and SSIM: closed forms, and SSIM against its windows written out."""

from __future__ import annotations

import numpy as np
import pytest

from latentshift.evaluation.metrics.psnr_ssim import psnr, ssim


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def test_psnr_of_each_frame_is_the_closed_form() -> None:
    reference = np.full((3, 4, 4, 3), 200, np.uint8)
    video = reference.copy()
    video[1] -= 10
    video[2] = 0
    video[2, :, :, 0] = 255
    squares = (55**2 + 200**2 + 200**2) / 3
    assert psnr(video, reference) == pytest.approx(
        [np.inf, 10 * np.log10(255**2 / 100), 10 * np.log10(255**2 / squares)]
    )


def test_ssim_of_constant_frames_is_the_closed_form() -> None:
    a, b, c1 = 100.0, 160.0, (0.01 * 255) ** 2
    found = ssim(np.full((2, 11, 14, 3), 100, np.uint8), np.full((2, 11, 14, 3), 160, np.uint8))
    assert found == pytest.approx([(2 * a * b + c1) / (a * a + b * b + c1)] * 2)


def test_ssim_is_the_mean_over_windows_and_channels() -> None:
    video, reference = noise((2, 13, 12, 3)), noise((2, 13, 12, 3), 1) // 2 + noise((2, 13, 12, 3)) // 2
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / np.outer(line, line).sum()
    c1, c2 = 6.5025, 58.5225
    for found, one, other in zip(ssim(video, reference), video.astype(float), reference.astype(float), strict=True):
        values = []
        for row in range(3):
            for column in range(2):
                for channel in range(3):
                    x = one[row : row + 11, column : column + 11, channel]
                    y = other[row : row + 11, column : column + 11, channel]
                    mx, my = (window * x).sum(), (window * y).sum()
                    vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
                    vxy = (window * (x - mx) * (y - my)).sum()
                    top = (2 * mx * my + c1) * (2 * vxy + c2)
                    values.append(top / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
        assert found == pytest.approx(np.mean(values), rel=1e-10)


def test_ssim_is_one_for_equal_frames_and_symmetric() -> None:
    video, reference = noise((1, 16, 16, 3)), noise((1, 16, 16, 3), 1)
    assert ssim(video, video) == pytest.approx([1.0])
    assert ssim(video, reference) == pytest.approx(ssim(reference, video))
    assert abs(ssim(video, reference)[0]) < 0.2
    assert ssim(video, 255 - video)[0] < -0.5


def test_videos_that_do_not_match_are_refused() -> None:
    video = noise((2, 12, 12, 3))
    for measure in (psnr, ssim):
        with pytest.raises(ValueError, match="one shape"):
            measure(video, video[:1])
        with pytest.raises(ValueError, match="uint8"):
            measure(video, video.astype(np.float32))
        with pytest.raises(ValueError, match="uint8"):
            measure(video[:0], video[:0])
    with pytest.raises(ValueError, match="at least 11 × 11 pixels, not 10 × 12"):
        ssim(video[:, :10], video[:, :10])

"""Metrics agree with those of torchmetrics, which others wrote, on random features and frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentshift.evaluation.metrics.frechet import frechet_distance
from latentshift.evaluation.metrics.inception_score import inception_score
from latentshift.evaluation.metrics.kernel import PolynomialKernel, kernel_distance
from latentshift.evaluation.metrics.moments import Moments
from latentshift.evaluation.metrics.psnr_ssim import psnr, ssim
from latentshift.study.agreement import fleiss_kappa

pytest.importorskip("torchmetrics", reason="torchmetrics is not installed: pip install torchmetrics")

WIDTH = 12


class Rows(torch.nn.Module):
    """An extractor whose features are what it is given."""

    num_features = WIDTH

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows


def two_sets(count: int = 60, other: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, WIDTH)), rng.gamma(2.0, size=(other, WIDTH)) @ rng.normal(size=(WIDTH, WIDTH))


@pytest.mark.parametrize("count", [60, 9])  # and of no full rank
def test_the_frechet_distance(count: int) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    ours, theirs = two_sets(count, 40)
    metric = FrechetInceptionDistance(feature=Rows())
    metric.update(torch.from_numpy(theirs), real=True)
    metric.update(torch.from_numpy(ours), real=False)
    sides = []
    for rows in (ours, theirs):
        sides.append(Moments(WIDTH))
        sides[-1].update(rows, videos=len(rows))
    assert frechet_distance(*sides, covariance="N-1") == pytest.approx(float(metric.compute()), rel=1e-5)


def test_the_unbiased_kernel_distance() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance

    ours, theirs = two_sets()
    metric = KernelInceptionDistance(feature=Rows(), subsets=1, subset_size=60)
    metric.update(torch.from_numpy(theirs), real=True)
    metric.update(torch.from_numpy(ours), real=False)
    expected = float(metric.compute()[0])
    found = kernel_distance(ours, theirs, kernel=PolynomialKernel(), estimator="unbiased")
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_inception_score() -> None:
    from torchmetrics.image.inception import InceptionScore

    logits = 3 * two_sets()[0]
    metric = InceptionScore(feature=Rows(), splits=1)
    metric.update(torch.from_numpy(logits))
    assert inception_score(logits, "logits", splits=1, seed=None).mean == pytest.approx(float(metric.compute()[0]))


def test_psnr_and_ssim() -> None:
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, size=(3, 20, 24, 3), dtype=np.uint8)
    reference = (video // 2 + rng.integers(0, 128, size=video.shape)).astype(np.uint8)
    a, b = (torch.from_numpy(each).permute(0, 3, 1, 2).double() for each in (video, reference))
    for found, one, other in zip(psnr(video, reference), a, b, strict=True):
        assert found == pytest.approx(float(peak_signal_noise_ratio(one, other, data_range=255.0)))
    _, windows = structural_similarity_index_measure(a, b, sigma=1.5, data_range=255.0, return_full_image=True)
    expected = windows[..., 5:-5, 5:-5].mean((1, 2, 3))  # without those that reach beyond the frame
    assert ssim(video, reference) == pytest.approx(expected.numpy(), rel=1e-6)


def test_fleiss_kappa() -> None:
    from torchmetrics.functional.nominal import fleiss_kappa as of_torchmetrics

    counts = np.random.default_rng(0).multinomial(5, [0.5, 0.3, 0.2], size=30)
    expected = float(of_torchmetrics(torch.from_numpy(counts), mode="counts"))
    assert fleiss_kappa(counts.tolist()) == pytest.approx(expected, abs=1e-6)  # theirs adds 1e-5 to what it divides by

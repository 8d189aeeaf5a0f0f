"""Inception score: on frames with Inception's classes, on clips with C3D's.

Salimans et al. 2016, arXiv 1606.03498; on clips: Saito et al. 2017, arXiv 1611.06624. Knows no classifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import softmax, xlogy

from latentshift.evaluation.metrics.bootstrap import bootstrap_interval
from latentshift.evaluation.metrics.result import MetricResult, few_videos_warning
from latentshift.evaluation.metrics.video_rows import VideoRows, check_rows

Outputs = Literal["probabilities", "logits"]  # what a classifier gave
RESAMPLES = 200  # of an interval
_TOLERANCE = 1e-3  # of a sum of probabilities, which may come in 16 bits


@dataclass(frozen=True)
class InceptionScore:
    """Mean and population standard deviation of the score over splits; one split has the deviation 0."""

    mean: float
    deviation: float
    splits: int


def to_probabilities(outputs: np.ndarray, kind: Outputs) -> np.ndarray:
    """A classifier's outputs as probabilities, float64 (N, C); logits go through a softmax, probabilities never do.

    ``c3d_ucf101.pt`` gives probabilities: a second softmax would make them almost equal, and the score almost 1.

    Args:
        outputs: floating (N, C).
        kind: what they are.

    Raises:
        ValueError: if they are called logits and are probabilities, or the other way round; or for another shape,
            values that are not finite, an unknown kind.
    """
    check_rows(outputs, "class outputs")
    if kind not in ("probabilities", "logits"):
        raise ValueError(f"class outputs are probabilities or logits, not {kind!r}")
    values = outputs.astype(np.float64)
    sums = values.sum(1)
    normal = bool((values >= 0).all() and (np.abs(sums - 1) <= _TOLERANCE).all())
    if kind == "logits":
        if normal:
            raise ValueError("these class outputs are probabilities already, not logits: a second softmax is wrong")
        return np.asarray(softmax(values, axis=1))
    if not normal:
        raise ValueError("these class outputs are no probabilities: each row must be >= 0 and sum to 1")
    probabilities: np.ndarray = values / sums[:, None]
    return probabilities


class InceptionSums:
    """Sums behind the inception score in constant memory, mergeable over processes.

    A sample's split follows from (samples, splits, seed) and its index alone, so that neither the order of arrival nor
    the number of processes matters.

    Args:
        samples: in all, frames or clips.
        splits: parts of which the score is the mean; sample k of the order is in part ⌊k · splits / samples⌋, up to
            rounding, as in the authors' code.
        seed: of the shuffled order, ``numpy.random.RandomState(seed)``; StyleGAN-V's is 42. None keeps the given order.

    Raises:
        ValueError: unless 1 <= splits <= samples.
    """

    def __init__(self, samples: int, *, splits: int, seed: int | None) -> None:
        if not 1 <= splits <= samples:
            raise ValueError(f"{samples} samples can't be divided into {splits} splits")
        order = np.arange(samples) if seed is None else np.random.RandomState(seed).permutation(samples)
        self._settings = (samples, splits, seed)
        self._split = np.empty(samples, int)
        for part in range(splits):
            self._split[order[part * samples // splits : (part + 1) * samples // splits]] = part
        self._seen = np.zeros(samples, bool)
        self._marginal: np.ndarray | None = None  # (splits, C): sums of p(y|x)
        self._negentropy = np.zeros(splits)  # sums of Σ_y p(y|x) ln p(y|x)

    def add(self, indices: np.ndarray, outputs: np.ndarray, kind: Outputs) -> None:
        """Add samples.

        Args:
            indices: of the samples, int (N,), 0 … samples - 1.
            outputs: floating (N, C), see :func:`to_probabilities`.
            kind: see :func:`to_probabilities`.

        Raises:
            ValueError: as :func:`to_probabilities`; for an index out of range, twice or added before; for another
                number of indices or of classes.
        """
        probabilities = to_probabilities(outputs, kind)
        if indices.shape != (len(probabilities),) or not np.issubdtype(indices.dtype, np.integer):
            raise ValueError(f"{len(probabilities)} samples need as many indices, not {indices.dtype} {indices.shape}")
        if indices.min() < 0 or indices.max() >= len(self._seen):
            raise ValueError(f"indices {indices.min()} to {indices.max()} are not among the {len(self._seen)} samples")
        if self._seen[indices].any():
            raise ValueError(f"sample {indices[self._seen[indices]][0]} was added before")
        if len(np.unique(indices)) < len(indices):
            raise ValueError("a sample is twice among the indices")
        marginal = self._of_classes(probabilities.shape[1])
        np.add.at(marginal, self._split[indices], probabilities)
        np.add.at(self._negentropy, self._split[indices], xlogy(probabilities, probabilities).sum(1))
        self._seen[indices] = True

    def merge(self, other: InceptionSums) -> None:
        """Add the sums of another process, which stay as they are.

        Raises:
            ValueError: if they differ in samples, splits, seed or classes, or have a sample in common.
        """
        if self._settings != other._settings:
            raise ValueError("sums with different samples, splits or seeds can't be merged")
        both = np.flatnonzero(self._seen & other._seen)
        if len(both):
            raise ValueError(f"{len(both)} samples are in both parts, the first is sample {both[0]}")
        if other._marginal is None:
            return
        marginal = self._of_classes(other._marginal.shape[1])
        marginal += other._marginal
        self._negentropy += other._negentropy
        self._seen |= other._seen

    def score(self) -> InceptionScore:
        """exp of the mean over samples of KL(p(y|x) ‖ p(y)), with p(y) the mean within the split; 1 … C.

        Raises:
            ValueError: if a sample is missing.
        """
        missing = int((~self._seen).sum())
        if missing or self._marginal is None:
            raise ValueError(f"{missing} of {len(self._seen)} samples are missing")
        counts = np.bincount(self._split)
        marginal = self._marginal / counts[:, None]
        divergence = self._negentropy / counts - xlogy(marginal, marginal).sum(1)
        scores = np.exp(np.maximum(divergence, 0.0))
        return InceptionScore(float(scores.mean()), float(scores.std()), len(scores))

    def _of_classes(self, classes: int) -> np.ndarray:
        if self._marginal is None:
            self._marginal = np.zeros((len(self._negentropy), classes))
        if self._marginal.shape[1] != classes:
            raise ValueError(f"all samples must have the same classes: {self._marginal.shape[1]} and {classes}")
        return self._marginal


def inception_score(outputs: np.ndarray, kind: Outputs, *, splits: int, seed: int | None) -> InceptionScore:
    """The score of all outputs (N, C); see :class:`InceptionSums` for the arguments, the formula and the errors."""
    sums = InceptionSums(len(outputs), splits=splits, seed=seed)
    sums.add(np.arange(len(outputs)), outputs, kind)
    return sums.score()


def inception_result(
    name: str,
    outputs: VideoRows,
    kind: Outputs,
    *,
    splits: int,
    seed: int | None,
    bootstrap_seed: int = 0,
    resamples: int = RESAMPLES,
) -> MetricResult:
    """The inception score, mean over splits, with a bootstrap interval over videos.

    Args:
        outputs: of each video, (R, C).
        kind, splits, seed: see :class:`InceptionSums`; samples are in the order of the videos' indices.
        bootstrap_seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        ValueError: as :class:`InceptionSums`.
    """
    videos = outputs.by_video()
    rows = to_probabilities(np.concatenate(videos), kind)
    score = inception_score(rows, "probabilities", splits=splits, seed=seed)
    value = score.mean
    ends = np.cumsum([len(each) for each in videos])
    places = [np.arange(end - len(each), end) for each, end in zip(videos, ends, strict=True)]

    def resampled(chosen: np.ndarray) -> float:
        drawn = rows[np.concatenate([places[index] for index in chosen])]
        return inception_score(drawn, "probabilities", splits=min(splits, len(drawn)), seed=seed).mean

    interval = bootstrap_interval(resampled, len(videos), value, seed=bootstrap_seed, resamples=resamples)
    warnings = (
        *few_videos_warning(len(videos)),
        *outputs.repeat_warning("generated"),
        *few_samples_warning(len(rows), rows.shape[1], splits, videos=len(videos)),
    )
    return MetricResult(
        name,
        value,
        len(videos),
        len(rows),
        variant=f"{splits} splits, " + ("in order" if seed is None else f"shuffled with seed {seed}"),
        interval=interval,
        deviation=score.deviation if splits > 1 else None,
        warnings=warnings,
    )


def few_samples_warning(samples: int, classes: int, parts: int, *, videos: int, what: str = "split") -> tuple[str, ...]:
    """A warning if the parts that scores are taken of have fewer samples than there are classes.

    Args:
        samples: in all.
        classes: of the classifier.
        parts: splits, or repeats.
        videos: that the samples are of.
        what: a part is called.
    """
    least, most, of_videos = samples // parts, -(-samples // parts), videos // parts
    if least < classes:
        count = f"{least}" if least == most else f"{least} or {most}"
        return (
            f"a {what} has {count} sample{'' if most == 1 else 's'} for {classes} classes: no score above {most} is "
            f"possible, and it is "
            f"biased downwards; {classes * parts} samples or more are needed.",
        )
    if of_videos < classes:
        return (
            f"the {least:,} samples of a {what} are of {of_videos:,} videos, and frames of one video are alike: for "
            f"{classes} classes take {classes * parts:,} videos or more, or the score may be biased downwards.",
        )
    return ()

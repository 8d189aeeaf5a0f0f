"""The metrics of what was measured, streamed from the files in order of the videos' indices.

So they are the same, bit by bit, for any number of workers and however often those were stopped, and memory does not
grow with the number of videos: what is resampled is bounded. Beyond the bound an interval comes from leaving out one
tenth of the videos at a time, and a kernel distance from a uniform sample of them.

Which metrics there are follows from the extractors: features of frames give FID and KID, features of clips FVD and KVD,
class outputs IS, embeddings CLIPSIM, CMMD and the consistency of frames. With other networks than the field's they have
the network's name in front, as ``sprites-FVD``, since they can't be compared with published ones: so has CMMD, which
is published by another CLIP than CLIPSIM.

Legend of shapes: N videos, R rows of a video, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from latentshift.evaluation.metrics.frechet import frechet_distance, frechet_result
from latentshift.evaluation.metrics.inception_score import (
    InceptionScore,
    InceptionSums,
    Outputs,
    few_samples_warning,
    inception_result,
)
from latentshift.evaluation.metrics.jackknife import GROUPS, jackknife_interval, repeats_interval
from latentshift.evaluation.metrics.kernel import CMMD_SCALE, GaussianKernel, PolynomialKernel, kernel_result
from latentshift.evaluation.metrics.moments import Covariance
from latentshift.evaluation.metrics.result import MetricResult, covariance_warning
from latentshift.evaluation.metrics.video_means import mean_over_videos
from latentshift.evaluation.metrics.video_rows import VideoRows
from latentshift.evaluation.protocols.measure import CLIPSIM, CONSISTENCY, MOTION, ExtractorInfo
from latentshift.evaluation.protocols.metric_names import CMMD, full_name, other_clip_warning
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.streamed_rows import (
    merged_moments,
    moments,
    repeat_warning,
    row_blocks,
    video_rows,
)
from latentshift.evaluation.report.schema import Better, Metric

BOOTSTRAP = "bootstrap over videos"
JACKKNIFE = "jackknife of ten groups of videos"
REPEATS = "Student's t over repeats"

_MOST_NUMBERS = 2**23  # N · R · D that are resampled: 64 MB in float64
_MOST_WIDTH = 512  # D of a covariance that is resampled: each takes two decompositions of (D, D)
_MOST_KERNEL_ROWS = 4096  # N · R of a kernel matrix, which is 128 MB then
_SPLITS, _SPLIT_SEED = 10, 42  # of the inception score, as in StyleGAN-V's code
_BETTER: dict[str, Better] = {"FID": "lower", "KID": "lower", "FVD": "lower", "KVD": "lower", CMMD: "lower"}


@dataclass
class Summary:
    """Metrics, and what is to be said of those that are left out.

    Attributes:
        metrics: in the order of tables.
        notes: sentences.
    """

    metrics: list[Metric] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def summarize(
    readings: Readings,
    extractors: Sequence[ExtractorInfo],
    reference: Readings | None = None,
    *,
    repeats: int = 1,
    seed: int = 0,
) -> Summary:
    """All metrics that the extractors allow.

    Args:
        readings: of the generated videos.
        extractors: whose rows they have.
        reference: of the reference videos; None: no distances.
        repeats: equal parts of the plan, one after another, that are repeats of one experiment: distances and inception
            scores are then means over them (UCF-101's 10 times 2,048).
        seed: of bootstraps and samples.

    Raises:
        ValueError: if a file of the readings is damaged.
    """
    return _Summarizer(readings, reference, repeats, seed).run(extractors)


class _Summarizer:
    def __init__(self, readings: Readings, reference: Readings | None, repeats: int, seed: int) -> None:
        self.readings, self.reference = readings, reference
        self.repeats, self.seed = repeats, seed
        self.made = Summary()

    def run(self, extractors: Sequence[ExtractorInfo]) -> Summary:
        for info in extractors:
            clips = info.per == "clip"
            if info.output == "features":
                self._frechet(info, "FVD" if clips else "FID", "N" if clips else "N-1")
                self._kernel(info, "KVD" if clips else "KID")
            elif info.output == "embeddings":
                self._means(info, CLIPSIM, "higher", "raw cosine, mean over frames")
                self._kernel(info, CMMD)
                self._means(info, CONSISTENCY, "neither", "cosine of neighbouring frames")
            else:
                self._inception(info, ("C3D-IS" if info.name == "c3d" else "clip-IS") if clips else "IS")
        self._means(None, MOTION, "neither", "mean absolute difference of neighbouring frames", unit="levels")
        return self.made

    # Distances to the reference

    def _frechet(self, info: ExtractorInfo, kind: str, covariance: Covariance) -> None:
        name, least = full_name(info, kind), 1 + (covariance == "N-1")
        if self.reference is None or not self._enough(name, info, least):
            return
        generated, theirs = self.readings.with_rows(info.key), self.reference.with_rows(info.key)
        if self.repeats > 1:
            result, how = self._frechet_of_repeats(info, name, covariance), REPEATS
        elif info.width <= _MOST_WIDTH and self._fits(self.readings, info):
            reference = (
                video_rows(self.reference, info, theirs)
                if self._fits(self.reference, info)
                else moments(self.reference, info, theirs)
            )
            rows = video_rows(self.readings, info, generated)
            result = frechet_result(name, rows, reference, covariance=covariance, seed=self.seed)
            how = BOOTSTRAP
        else:
            result, how = self._frechet_of_groups(info, name, covariance), JACKKNIFE
        self._add(result, info, how, _BETTER[kind])

    def _frechet_of_repeats(self, info: ExtractorInfo, name: str, covariance: Covariance) -> MetricResult:
        assert self.reference is not None
        theirs = moments(self.reference, info, self.reference.with_rows(info.key))
        parts = [moments(self.readings, info, part) for part in self._parts(info)]
        values = [frechet_distance(part, theirs, covariance=covariance) for part in parts]
        fewest = min(parts, key=lambda part: part.count)
        return MetricResult(
            name,
            float(np.mean(values)),
            sum(part.videos for part in parts),
            sum(part.count for part in parts),
            variant=f"covariance over {covariance}, mean over repeats",
            interval=_not_below(0.0, repeats_interval(values)),
            n_reference=theirs.videos,
            repeats=len(parts),
            deviation=float(np.std(values)),
            warnings=(
                *self._repeated(info),
                *self._repeated(info, reference=True),
                *covariance_warning(fewest.count, info.width, "generated", videos=fewest.videos),
                *covariance_warning(theirs.count, info.width, "reference", videos=theirs.videos),
            ),
        )

    def _frechet_of_groups(self, info: ExtractorInfo, name: str, covariance: Covariance) -> MetricResult:
        assert self.reference is not None
        theirs = moments(self.reference, info, self.reference.with_rows(info.key))
        indices = self.readings.with_rows(info.key)
        groups = [moments(self.readings, info, indices[number::GROUPS]) for number in range(GROUPS)]
        merged = merged_moments(groups)
        value = frechet_distance(merged, theirs, covariance=covariance)
        left_out = [
            frechet_distance(merged_moments(groups[:number] + groups[number + 1 :]), theirs, covariance=covariance)
            for number in range(GROUPS)
        ]
        return MetricResult(
            name,
            value,
            merged.videos,
            merged.count,
            variant=f"covariance over {covariance}",
            interval=_not_below(0.0, jackknife_interval(value, left_out)),
            n_reference=theirs.videos,
            warnings=(
                *self._repeated(info),
                *self._repeated(info, reference=True),
                *covariance_warning(merged.count, info.width, "generated", videos=merged.videos),
                *covariance_warning(theirs.count, info.width, "reference", videos=theirs.videos),
            ),
        )

    def _kernel(self, info: ExtractorInfo, kind: str) -> None:
        name = full_name(info, kind)
        if self.reference is None or not self._enough(name, info, 1 + (kind != CMMD), of="videos"):
            return
        generated, theirs = (self._sample(each, info) for each in (self.readings, self.reference))
        if kind == CMMD:
            result = kernel_result(
                name,
                generated,
                theirs,
                kernel=GaussianKernel(),
                estimator="biased",
                scale=CMMD_SCALE,
                unit=True,
                seed=self.seed,
            )
        else:
            result = kernel_result(
                name, generated, theirs, kernel=PolynomialKernel(), estimator="unbiased", seed=self.seed
            )
        sampled = tuple(
            f"Computed on a uniform sample of {len(rows):,} of {rows.seen:,} {what} videos."
            for rows, what in ((generated, "generated"), (theirs, "reference"))
            if len(rows) < rows.seen
        )
        self._add(replace(result, warnings=result.warnings + sampled), info, BOOTSTRAP, _BETTER[kind])

    # Metrics without a reference

    def _inception(self, info: ExtractorInfo, kind: str) -> None:
        name = full_name(info, kind)
        if not self._enough(name, info, 2, reference=False):
            return
        outputs = cast(Outputs, info.output)
        indices = self.readings.with_rows(info.key)
        if self.repeats > 1:
            parts = self._parts(info)
            values = [self._score(info, part, splits=1, seed=None).mean for part in parts]
            result = MetricResult(
                name,
                float(np.mean(values)),
                len(indices),
                self.readings.row_count(info.key),
                variant="mean over repeats",
                interval=_not_below(1.0, repeats_interval(values)),
                repeats=len(parts),
                deviation=float(np.std(values)),
                warnings=self._of_classes(info, len(parts), "repeat"),
            )
            self._add(result, info, REPEATS, "higher")
            return
        splits = min(_SPLITS, len(indices))
        if self._fits(self.readings, info):
            rows = video_rows(self.readings, info, indices)
            result = inception_result(name, rows, outputs, splits=splits, seed=_SPLIT_SEED, bootstrap_seed=self.seed)
            self._add(result, info, BOOTSTRAP, "higher")
            return
        score = self._score(info, indices, splits=splits, seed=_SPLIT_SEED)
        value = score.mean
        left_out = [
            self._score(info, np.delete(indices, np.s_[number::GROUPS]), splits=splits, seed=_SPLIT_SEED).mean
            for number in range(GROUPS)
        ]
        result = MetricResult(
            name,
            value,
            len(indices),
            self.readings.row_count(info.key),
            variant=f"{splits} splits, shuffled with seed {_SPLIT_SEED}",
            interval=_not_below(1.0, jackknife_interval(value, left_out)),
            deviation=score.deviation if splits > 1 else None,
            warnings=self._of_classes(info, splits, "split"),
        )
        self._add(result, info, JACKKNIFE, "higher")

    def _of_classes(self, info: ExtractorInfo, parts: int, what: str) -> tuple[str, ...]:
        """Warnings of an inception score."""
        samples, videos = self.readings.row_count(info.key), len(self.readings.with_rows(info.key))
        return (
            *self._repeated(info),
            *few_samples_warning(samples, info.width, parts, videos=videos, what=what),
        )

    def _score(self, info: ExtractorInfo, indices: np.ndarray, *, splits: int, seed: int | None) -> InceptionScore:
        sums = InceptionSums(self.readings.row_count(info.key, indices), splits=splits, seed=seed)
        first = 0
        for rows, _ in row_blocks(self.readings, info, indices):
            sums.add(np.arange(first, first + len(rows)), rows, cast(Outputs, info.output))
            first += len(rows)
        return sums.score()

    def _means(self, info: ExtractorInfo | None, kind: str, better: Better, variant: str, *, unit: str = "") -> None:
        values = self.readings.values(kind)
        if not values:
            return
        name = kind if info is None else full_name(info, kind)
        samples = self.readings.frame_count(np.fromiter(values, np.int64, len(values)))
        result = mean_over_videos(name, values, samples=samples, seed=self.seed, variant=variant)
        if info is not None and kind == CLIPSIM:
            result = replace(result, warnings=(*result.warnings, *other_clip_warning(info)))
        measured = len(self.readings.measured)
        if len(values) < measured:
            missing = f"{measured - len(values):,} of {measured:,} videos have no {name}."
            result = replace(result, warnings=(*result.warnings, missing))
        self._add(result, info, BOOTSTRAP, better, unit=unit)

    # Helpers

    def _add(
        self, result: MetricResult, info: ExtractorInfo | None, how: str, better: Better, *, unit: str = ""
    ) -> None:
        warnings = list(result.warnings)
        if info is not None:
            warnings += info.warnings
        if result.n_reference is not None and self.reference is not None:
            theirs, ours = self.reference.frames, self.readings.frames
            if theirs != ours:
                warnings.append(f"Generated and reference videos differ in frames: {ours} and {theirs} (None: mixed).")
            sizes = [each.size or "several sizes" for each in (self.readings, self.reference)]
            if sizes[0] != sizes[1]:
                warnings.append(
                    f"Generated and reference videos differ in size, {sizes[0]} and {sizes[1]}, and so in sharpness or "
                    "shape: with --size both are resized and cropped alike."
                )
        self.made.metrics.append(
            Metric(
                name=result.name,
                value=result.value,
                interval=result.interval,
                interval_kind=how if result.interval else "",
                unit=unit,
                better=better,
                n=result.n,
                samples=result.samples,
                n_reference=result.n_reference,
                repeats=result.repeats,
                deviation=result.deviation,
                frames=self.readings.frames,
                size=self.readings.size,
                resize="" if info is None else info.resize,
                extractor=None if info is None else info.name,
                extractor_sha256=None if info is None else info.sha256,
                variant=result.variant,
                warnings=tuple(warnings),
            )
        )

    def _enough(
        self, name: str, info: ExtractorInfo, least: int, *, reference: bool = True, of: str = "samples"
    ) -> bool:
        """Whether there are samples, or videos, enough for a metric; if not, a note says so."""
        sides = {"generated": self.readings, **({"reference": self.reference} if reference and self.reference else {})}
        for what, side in sides.items():
            count = side.row_count(info.key) if of == "samples" else len(side.with_rows(info.key))
            if count < least:
                self.made.notes.append(f"{name} is left out: it needs {least} {what} {of} or more, not {count}.")
                return False
        return True

    def _repeated(self, info: ExtractorInfo, *, reference: bool = False) -> tuple[str, ...]:
        side = self.reference if reference else self.readings
        return () if side is None else repeat_warning(side, info, "reference" if reference else "generated")

    def _parts(self, info: ExtractorInfo) -> list[np.ndarray]:
        """The indices of each repeat that has any."""
        indices = self.readings.with_rows(info.key)
        part = indices * self.repeats // self.readings.total
        return [each for number in range(self.repeats) if len(each := indices[part == number])]

    def _fits(self, readings: Readings, info: ExtractorInfo) -> bool:
        return readings.row_count(info.key) * info.width <= _MOST_NUMBERS

    def _sample(self, readings: Readings, info: ExtractorInfo) -> VideoRows:
        indices = readings.with_rows(info.key)
        each = -(-readings.row_count(info.key) // len(indices))
        return video_rows(readings, info, indices, limit=max(2, _MOST_KERNEL_ROWS // each), seed=self.seed)


def _not_below(least: float, interval: tuple[float, float] | None) -> tuple[float, float] | None:
    """An interval that was moved, within what the metric can be."""
    return None if interval is None else (max(interval[0], least), max(interval[1], least))

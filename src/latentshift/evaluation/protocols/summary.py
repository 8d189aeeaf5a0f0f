"""The metrics of what was measured: which there are, and what is said with each.

They are the same, bit by bit, for any number of workers and however often those were stopped: each is computed from the
files, in order of the videos' indices (:mod:`.streamed_distances`, :mod:`.streamed_scores`).

Which metrics there are follows from the extractors: features of frames give FID and KID, features of clips FVD and KVD,
class outputs IS, embeddings CLIPSIM, CMMD and the consistency of frames. With other networks than the field's they have
the network's name in front, as ``sprites-FVD``, since they can't be compared with published ones: so has CMMD, which
is published by another CLIP than CLIPSIM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from latentshift.evaluation.metrics.moments import Covariance
from latentshift.evaluation.metrics.psnr_ssim import LEAST_SIDE, MOST_DECIBELS
from latentshift.evaluation.metrics.result import MetricResult
from latentshift.evaluation.metrics.video_means import mean_over_videos
from latentshift.evaluation.protocols.interval_kinds import BOOTSTRAP
from latentshift.evaluation.protocols.measure import CLIPSIM, CONSISTENCY, MOTION, PSNR, SSIM, ExtractorInfo
from latentshift.evaluation.protocols.metric_names import CMMD, full_name, other_clip_warning
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.streamed_distances import streamed_cmmd, streamed_frechet, streamed_kernel
from latentshift.evaluation.protocols.streamed_scores import streamed_inception
from latentshift.evaluation.report.schema import Better, Metric

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
        self._without_reference: list[str] = []

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
            if info.output == "embeddings" and not self.readings.values(CLIPSIM):
                self.made.notes.append(f"{full_name(info, CLIPSIM)} is left out: no clip has a caption.")
        if names := self._without_reference:
            verb = "is left out: it compares" if len(names) == 1 else "are left out: they compare"
            self.made.notes.append(f"{', '.join(names)} {verb} with true clips, and none are given.")
        self._beside()
        self._means(None, MOTION, "neither", "mean absolute difference of neighbouring frames", unit="levels")
        return self.made

    # Distances to the reference

    def _frechet(self, info: ExtractorInfo, kind: str, covariance: Covariance) -> None:
        name, least = full_name(info, kind), 1 + (covariance == "N-1")
        if not self._is_compared(name) or not self._enough(name, info, least):
            return
        assert self.reference is not None
        result, how = streamed_frechet(
            name, info, self.readings, self.reference, covariance=covariance, repeats=self.repeats, seed=self.seed
        )
        self._add(result, info, how, _BETTER[kind])

    def _kernel(self, info: ExtractorInfo, kind: str) -> None:
        name = full_name(info, kind)
        if not self._is_compared(name) or not self._enough(name, info, 1 + (kind != CMMD), of="videos"):
            return
        assert self.reference is not None
        compute = streamed_cmmd if kind == CMMD else streamed_kernel
        result = compute(name, info, self.readings, self.reference, seed=self.seed)
        self._add(result, info, BOOTSTRAP, _BETTER[kind])

    def _is_compared(self, name: str) -> bool:
        if self.reference is None:
            self._without_reference.append(name)
        return self.reference is not None

    def _beside(self) -> None:
        """Of videos that were measured each beside its own true one."""
        equal = f"mean over frames; a frame without error counts as {MOST_DECIBELS:.0f} dB"
        self._means(None, PSNR, "higher", equal, unit="dB", paired=True)
        self._means(None, SSIM, "higher", "mean over frames; Gaussian windows of 11 pixels", paired=True)
        if self.readings.values(PSNR) and not self.readings.values(SSIM):
            self.made.notes.append(f"{SSIM} is left out: it needs frames of {LEAST_SIDE} pixels a side or more.")

    # Metrics without a reference

    def _inception(self, info: ExtractorInfo, kind: str) -> None:
        name = full_name(info, kind)
        if not self._enough(name, info, 2, reference=False):
            return
        result, how = streamed_inception(name, info, self.readings, repeats=self.repeats, seed=self.seed)
        self._add(result, info, how, "higher")

    def _means(
        self,
        info: ExtractorInfo | None,
        kind: str,
        better: Better,
        variant: str,
        *,
        unit: str = "",
        paired: bool = False,
    ) -> None:
        values = self.readings.values(kind)
        if not values:
            return
        name = kind if info is None else full_name(info, kind)
        samples = self.readings.frame_count(np.fromiter(values, np.int64, len(values)))
        result = mean_over_videos(name, values, samples=samples, seed=self.seed, variant=variant)
        if info is not None and kind == CLIPSIM:
            result = replace(result, warnings=(*result.warnings, *other_clip_warning(info)))
        if paired:
            result = replace(result, n_reference=len(values))
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
            frames = [each.frames or "several numbers" for each in (self.readings, self.reference)]
            if frames[0] != frames[1]:
                warnings.append(
                    f"Generated and reference videos differ in their number of frames, {frames[0]} and {frames[1]}."
                )
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

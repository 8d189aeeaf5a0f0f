"""What a benchmark measures of each video, kept in a folder as it is made, so that the same command resumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from latentshift.benchmarks.report import Estimate, mean_value
from latentshift.evaluation.estimates import mean_of
from latentshift.evaluation.protocols.readings import Readings
from latentshift.evaluation.protocols.readings_files import Reading
from latentshift.evaluation.protocols.readings_writer import ReadingsWriter
from latentshift.evaluation.settings_file import check_or_write_settings
from latentshift.models.storage.fingerprint import model_fingerprint
from latentshift.pipeline import LatentShiftPipeline
from latentshift.progress import progress_bar
from latentshift.settings import ShiftConfig

Measures = Mapping[str, float]  # of one video, by name


def open_folder(folder: Path, pipeline: LatentShiftPipeline, **settings: object) -> None:
    """Write the settings that all videos of a folder share, or check them.

    Args:
        folder: of what is measured.
        pipeline: that makes the videos, with its sampler.
        **settings: of a call, and of the benchmark.

    Raises:
        ValueError: if the folder is of other settings, or of a model whose frames meet, or share noise, in another way.
    """
    own: dict[str, object] = {
        "contents": model_fingerprint(*pipeline.components.values()),
        "sampler": type(pipeline.scheduler).__name__,
        "dtype": str(pipeline.dtype),
    }
    # No part of a model has these two. The paper's are left out, as in folders from before they were compared.
    shift, share = pipeline.config.shift, pipeline.config.noise_share
    if shift is None or ShiftConfig.from_dict(shift) != ShiftConfig():
        own["shift"] = shift or "none"
    if share > 0:
        own["noise_share"] = share
    check_or_write_settings(folder, {**own, **settings})


def measure_missing(
    folder: Path, seeds: Sequence[int], measure: Callable[[int], tuple[np.ndarray, Measures]]
) -> list[Measures]:
    """What was measured of each video, in their order.

    Args:
        folder: where it is kept.
        seeds: of the videos.
        measure: number of a video -> the video, uint8 (F, H, W, 3), and its measures; called for those that are not in
            the folder.
    """
    done = Readings(folder, len(seeds), prefix=True).done
    with ReadingsWriter(folder, 0, {}) as writer:
        for index in progress_bar(np.flatnonzero(~done), text=folder.name, unit="video", leave=False):
            video, values = measure(int(index))
            frames, height, width = video.shape[:3]
            writer.append(Reading(int(index), "", seeds[index], frames, height, width, dict(values)), {})
    kept = Readings(folder, len(seeds), prefix=True)
    return [kept.reading(index).values for index in range(len(seeds))]


def mean_estimate(values: Sequence[Measures], name: str) -> Estimate | float | None:
    """The mean over videos with its 95 % interval; without one where a single video has a value."""
    return mean_value(mean_of([each.get(name) for each in values]))

"""``bench one-clip``: whether a model tuned on one sprites clip gives it back, and its motion to other things.

A model that has learned its clip by heart gives it back for every prompt. So the rows of other prompts count, beside
those of the model as it was before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from latentshift.benchmarks.kept_measures import Measures, mean_estimate, measure_missing, open_folder
from latentshift.benchmarks.report import Result
from latentshift.evaluation.sprites.one_clip_measures import measure_one_clip
from latentshift.evaluation.sprites.prompt_looks import looks_of
from latentshift.evaluation.sprites.reader import LEAST_NAMED
from latentshift.evaluation.sprites.seeded_clip import seeded_clip
from latentshift.evaluation.sprites.study import reconstruct
from latentshift.evaluation.sprites.tracks import track
from latentshift.pipeline import LatentShiftPipeline
from latentshift.video.prompt_slug import prompt_slug

_COLUMNS = ("path_error", "place_error", "seen", "looks", "colour", "thing", "background")


def bench_one_clip(
    pipeline: LatentShiftPipeline,
    name: str,
    clip: np.ndarray,
    prompts: Sequence[str],
    output: Path,
    videos: int,
    steps: int,
    guidance: float | None,
) -> Iterator[Result]:
    """A row for each prompt, and one for the clip through the autoencoder.

    Args:
        pipeline: with or without what was learned, with its sampler.
        name: of it, in the rows and as a folder.
        clip: uint8 RGB (F, S, S, 3) that it is tuned on.
        prompts: its caption, and others.
        output: folder of what was measured; a repeated call makes only what is missing there.
        videos: of each row; seeds 0, 1, ….
        steps: of the sampler.
        guidance: scale; None: the model's.

    Raises:
        ValueError: if the folder is of other settings, or the clip or a prompt is not of the sprites world.
    """
    if (seen := float(track(clip).seen.mean())) < LEAST_NAMED:
        raise ValueError(f"the clip is not of the sprites world: {seen:.0%} of its frames show one thing on a ground")
    pipeline.set_progress_bar_config(disable=True)
    scale = pipeline.config.guidance_scale if guidance is None else guidance
    folder = output / name
    open_folder(folder, pipeline, steps=steps, guidance=scale, clip=sha256(clip.tobytes()).hexdigest())
    for prompt in prompts:
        looks = looks_of(prompt)

        def measure(seed: int, prompt: str = prompt, looks: dict[str, str] = looks) -> tuple[np.ndarray, Measures]:
            frames = seeded_clip(pipeline, prompt, seed, steps=steps, guidance=scale, num_frames=len(clip))
            return frames, measure_one_clip(frames, clip, looks)

        values = measure_missing(folder / prompt_slug(prompt), list(range(videos)), measure)
        yield _row(name, prompt, values)
    decoded = measure_one_clip(reconstruct(pipeline, clip), clip, looks_of(prompts[0]))
    yield _row("the clip through the autoencoder", prompts[0], [decoded])


def _row(name: str, prompt: str, values: Sequence[Measures]) -> Result:
    row: Result = {"model": name, "prompt": prompt, "videos": len(values)}
    return row | {column: mean_estimate(values, column) for column in _COLUMNS}

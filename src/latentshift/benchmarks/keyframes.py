"""``bench keyframes``: how far keyframes reach in sprites videos, by how the U-Net sees them.

The prompts and seeds are those of the sprites study's first part, and a keyframe is a frame of the clip that the prompt
was written for, or the same with another colour of the thing. What was measured of each video is kept as it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from latentshift.benchmarks.kept_measures import Measures, mean_estimate, measure_missing, open_folder
from latentshift.benchmarks.report import Result
from latentshift.data.sprites import COLOURS, NUM_FRAMES, Sprite, Sprites, render
from latentshift.evaluation.sprites.keyframe_measures import DISTANCES, measure_keyframes
from latentshift.evaluation.sprites.parts import part_named, prompts_of, world_of
from latentshift.evaluation.sprites.seeded_clip import seeded_clip
from latentshift.evaluation.sprites.study import reconstruct
from latentshift.pipeline import LatentShiftPipeline

_SEEN = part_named("seen")
_NAMES = {(0,): "first", (0, NUM_FRAMES - 1): "first and last", tuple(range(0, NUM_FRAMES, 5)): "every fifth"}
_FIRST, _ENDS, _FIFTH = _NAMES
_COLUMNS = ("place_beside", "place", *(f"colour_{each}" for each in DISTANCES), "same_colour", "motion", "thing")


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        keyframes: which frames of the true clip are given.
        seen: ``keyframe_input`` of the call; None: no keyframe is given, and the measures are of the same frames.
        recoloured: whether the thing of the keyframes has another colour than the prompt says.
        colourless: whether the prompt says no colour of the thing.
    """

    keyframes: tuple[int, ...]
    seen: str | None
    recoloured: bool = False
    colourless: bool = False

    @property
    def name(self) -> str:
        """Of its row and its folder."""
        return _NAMES[self.keyframes] + ", another colour" * self.recoloured + ", none in the prompt" * self.colourless


CASES = (
    *(Case(_FIRST, seen) for seen in (None, "noisy", "clean")),
    *(Case(_ENDS, seen) for seen in (None, "noisy", "clean")),
    *(Case(_FIFTH, seen) for seen in (None, "noisy", "clean")),
    *(Case(_FIRST, seen, recoloured=True) for seen in ("noisy", "clean")),
    *(Case(_FIRST, seen, recoloured=True, colourless=True) for seen in ("noisy", "clean")),
)


def bench_keyframes(
    pipeline: LatentShiftPipeline,
    output: Path,
    count: int,
    steps: int,
    guidance: float | None,
    given: str | None = None,
) -> Iterator[Result]:
    """A row for each case, and for the true clips through the autoencoder.

    Args:
        pipeline: trained on sprites, with its sampler.
        output: folder of what was measured; a repeated call makes only what is missing there.
        count: videos of each case.
        steps: of the sampler.
        guidance: scale; None: the model's.
        given: only the rows of these keyframes: ``"first"``, ``"first and last"`` or ``"every fifth"``; None: all.

    Raises:
        ValueError: if the folder is of other settings, or the model's videos are not the sprites world's.
    """
    if pipeline.config.num_frames != NUM_FRAMES:
        raise ValueError(f"bench keyframes is for models of {NUM_FRAMES} frames, as the sprites world's clips have")
    pipeline.set_progress_bar_config(disable=True)
    scale = pipeline.config.guidance_scale if guidance is None else guidance
    open_folder(output, pipeline, steps=steps, guidance=scale)
    yield _row("true clips through the autoencoder", None, count, _true_clips(pipeline, output, count))
    for case in CASES:
        if given not in (None, _NAMES[case.keyframes]):
            continue
        yield _row(case.name, case.seen, count, _videos(pipeline, output, case, count, steps, scale))


def _videos(
    pipeline: LatentShiftPipeline, output: Path, case: Case, count: int, steps: int, guidance: float
) -> list[Measures]:
    def make(prompt: str, seed: int, truth: np.ndarray) -> np.ndarray:
        keyframes = {index: Image.fromarray(truth[index]) for index in case.keyframes}
        given = None if case.seen is None else keyframes
        options = {"keyframes": given, "keyframe_input": case.seen or "clean"}
        return seeded_clip(pipeline, prompt, seed, steps=steps, guidance=guidance, **options)

    folder = output / f"{case.name} {case.seen}".replace(",", "").replace(" ", "-")
    return _measured(folder, pipeline.sample_size, case, count, make)


def _true_clips(pipeline: LatentShiftPipeline, output: Path, count: int) -> list[Measures]:
    def make(prompt: str, seed: int, truth: np.ndarray) -> np.ndarray:
        return reconstruct(pipeline, truth)

    return _measured(output / "true-clips", pipeline.sample_size, CASES[0], count, make)


def _measured(
    folder: Path, size: int, case: Case, count: int, make: Callable[[str, int, np.ndarray], np.ndarray]
) -> list[Measures]:
    wanted, world = prompts_of(_SEEN, count, size), world_of(_SEEN, size)

    def measure(index: int) -> tuple[np.ndarray, Measures]:
        sprite, prompt, seed = wanted[index]
        truth, colour = _true_clip(world, index, sprite, recoloured=case.recoloured)
        if case.colourless:
            prompt = f"a {prompt.partition(sprite.colour)[2].strip()}"
        video = make(prompt, seed, truth)
        return video, measure_keyframes(video, truth, case.keyframes, sprite, colour)

    return measure_missing(folder, [seed for _, _, seed in wanted], measure)


def _true_clip(world: Sprites, index: int, sprite: Sprite, *, recoloured: bool) -> tuple[np.ndarray, str]:
    """The clip, and the colour of its thing."""
    described, path, texture = world.describe(index)
    assert described == sprite
    colour = sprite.colour
    if recoloured:
        others = [each for each in COLOURS if each not in (sprite.colour, sprite.background)]
        colour = others[index % len(others)]
    return render(replace(sprite, colour=colour), path, texture), colour


def _row(name: str, seen: str | None, count: int, values: list[Measures]) -> Result:
    row: Result = {"keyframes": name, "seen": seen or "not given", "videos": count}
    return row | {column: mean_estimate(values, column) for column in _COLUMNS}

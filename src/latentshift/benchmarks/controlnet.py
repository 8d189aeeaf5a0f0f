"""``bench controlnet``: whether videos follow the edges of sprites clips, by how frames meet in the ControlNet.

The edges are a clip's, and the prompt is its caption with another colour and background: where the thing is comes from
the edges, what colour it has from the prompt. All rows have the same prompts, edges and noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel
from PIL import Image

from latentshift.benchmarks.controlnet_settings import ControlNetSettings
from latentshift.benchmarks.report import Estimate, Result, mean_value
from latentshift.contact_sheet import contact_sheet
from latentshift.data.sprites import BACKGROUNDS, COLOURS, Sprite, Sprites, Track
from latentshift.evaluation.estimates import mean_of, wilson_interval
from latentshift.evaluation.sprite_reader import LEAST_SEEN, Reading, read_clip
from latentshift.evaluation.sprite_stability import measure_stability
from latentshift.image_pipelines.controlnet import with_controlnet
from latentshift.models.controlnet import trained_shift
from latentshift.pipeline import LatentShiftPipeline, open_pipeline
from latentshift.progress import progress_bar
from latentshift.video import edge_maps, to_uint8, write_video

FOLLOWS = 0.05
"""Of the frame's side: the root mean square distance to the clip's own track up to which a thing follows its edges."""
_SHOWN = 3  # videos of each row in the pictures
_MEASURED = ("distance", "colour_drift", "frame_flicker")


@dataclass(frozen=True)
class Task:
    """A video to make.

    Attributes:
        wanted: what the prompt says.
        track: of the clip that the edges are of.
        edges: uint8 (F, S, S, 3).
        seed: of the noise.
    """

    wanted: Sprite
    track: Track
    edges: np.ndarray
    seed: int


@dataclass(frozen=True)
class Measured:
    """What a video shows.

    Attributes:
        reading: of it.
        distance: root mean square distance to the clip's track, of the frame's side; None where the thing is seen in
            fewer than ``LEAST_SEEN`` of the frames.
        colour_drift: in levels of RGB distance, or None.
        frame_flicker: likewise.
    """

    reading: Reading
    distance: float | None
    colour_drift: float | None
    frame_flicker: float | None


@torch.no_grad()
def bench_controlnet(settings: ControlNetSettings) -> Iterator[Result]:
    """Rows: without a ControlNet, then each of them frame by frame and with the shift, or as it was trained.

    Then the differences of each row to the first that is frame by frame, over the same prompts, edges and noise.

    Raises:
        ValueError: for a model or ControlNet that can't be loaded, or that don't fit each other.
    """
    pipeline = open_pipeline(settings.model).to(settings.device)
    num_frames = int(pipeline.config.num_frames)
    tasks = draw_tasks(settings.seed, settings.videos, pipeline.sample_size, num_frames)
    rows: list[np.ndarray] = [task.edges for task in tasks[:_SHOWN]]
    captions = [f"edges; {task.wanted.caption()}" for task in tasks[:_SHOWN]]
    baseline: list[Measured] = []
    differences: list[Result] = []
    for number, folder in enumerate(settings.controlnets):
        controlnet = _load(folder).to(settings.device)
        ways = ["shifted"] if trained_shift(controlnet) else ["frame by frame", "shifted"]
        for way in (["without"] if number == 0 else []) + ways:
            videos = list(_make(settings, pipeline, controlnet, tasks, way))
            measured = [measure(task, video) for task, video in zip(tasks, videos, strict=True)]
            yield {"controlnet": "none" if way == "without" else str(folder), "way": way, **_row(tasks, measured)}
            if baseline:
                differences.append(_difference(f"{folder}, {way}", baseline, measured))
            elif way == "frame by frame":
                baseline = measured
            rows += videos[:_SHOWN]
            captions += [f"{way}{'' if way == 'without' else f', {folder}'}"] * len(videos[:_SHOWN])
    yield from differences
    if settings.pictures is not None:
        order = sorted(range(len(rows)), key=lambda index: index % min(_SHOWN, len(tasks)))
        sheet = contact_sheet([rows[index] for index in order], [captions[index] for index in order])
        write_video(settings.pictures, sheet[None])


def draw_tasks(seed: int, count: int, size: int, num_frames: int) -> list[Task]:
    """Clips of a stream of the sprites world, and prompts of another colour and background."""
    world = Sprites(size=size, seed=seed, num_frames=num_frames)
    tasks = []
    for index in range(count):
        sprite, track, _ = world.describe(index)
        rng = np.random.default_rng([seed, index, 2])
        colour, ground = (
            str(rng.choice([each for each in known if each != own]))
            for known, own in ((COLOURS, sprite.colour), (BACKGROUNDS, sprite.background))
        )
        wanted = replace(sprite, colour=colour, background=ground)
        tasks.append(Task(wanted, track, edge_maps(world[index][0]), index))
    return tasks


def measure(task: Task, video: np.ndarray) -> Measured:
    """Read a video, uint8 (F, S, S, 3), and how far its thing is from where the edges are."""
    reading, stability = read_clip(video), measure_stability(video)
    assert reading.tracks is not None
    seen, distance = reading.tracks.seen, None
    if np.mean(seen) >= LEAST_SEEN:
        off = np.hypot(reading.tracks.x - task.track.x, reading.tracks.y - task.track.y)[seen]
        distance = float(np.sqrt(np.mean(off**2)))
    return Measured(reading, distance, stability.colour_drift, stability.frame_flicker)


def _load(folder: Path) -> ControlNetModel:
    try:
        return ControlNetModel.from_pretrained(folder, use_safetensors=True).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"the ControlNet {folder} can't be loaded: {str(error).splitlines()[0]}") from None


def _make(
    settings: ControlNetSettings,
    pipeline: LatentShiftPipeline,
    controlnet: ControlNetModel,
    tasks: Sequence[Task],
    way: str,
) -> Iterator[np.ndarray]:
    guidance = pipeline.config.guidance_scale if settings.guidance_scale is None else settings.guidance_scale
    # What adds nothing may work in either way; a ControlNet that was trained with the shift has to have it.
    shifted = trained_shift(controlnet) is not None or way == "shifted"
    video = with_controlnet(pipeline, controlnet, len(tasks[0].edges), shifted=shifted)
    dtype = getattr(torch, settings.dtype)
    try:
        for task in progress_bar(tasks, text=way, unit="video", leave=False):
            with torch.autocast(settings.device.partition(":")[0], dtype, enabled=dtype != torch.float32):
                (frames,) = video(
                    task.wanted.caption(),
                    image=[Image.fromarray(frame) for frame in task.edges],
                    num_inference_steps=settings.steps,
                    guidance_scale=guidance,
                    controlnet_conditioning_scale=0.0 if way == "without" else settings.scale,
                    generator=torch.Generator().manual_seed(task.seed),
                    output_type="np",
                    return_dict=False,
                )[0]
            yield to_uint8(2 * frames - 1)
    finally:
        video.remove()


def _row(tasks: Sequence[Task], measured: Sequence[Measured]) -> Result:
    """Shares with 95 % Wilson intervals, means with 95 % intervals."""
    right = {
        "follows_edges": [each.distance is not None and each.distance <= FOLLOWS for each in measured],
        **{
            name: [
                getattr(each.reading, name) == getattr(task.wanted, name)
                for task, each in zip(tasks, measured, strict=True)
            ]
            for name in ("motion", "thing", "colour", "background")
        },
    }
    row: Result = {"videos": len(tasks)}
    for name, values in right.items():
        row[name] = Estimate(float(np.mean(values)), *wilson_interval(sum(values), len(values)))
    for name in _MEASURED:
        row[name] = mean_value(mean_of([getattr(each, name) for each in measured]))
    return row | {"not_seen": sum(each.distance is None for each in measured)}


def _difference(name: str, first: Sequence[Measured], second: Sequence[Measured]) -> Result:
    """Means, over the videos that both have a value of, of the second's minus the first's."""
    row: Result = {"difference_to_frame_by_frame": name}
    for key in _MEASURED:
        pairs = [(getattr(one, key), getattr(two, key)) for one, two in zip(first, second, strict=True)]
        found = mean_of([None if one is None or two is None else two - one for one, two in pairs])
        row |= {key: mean_value(found), f"videos_{key}": found.n}
    return row

"""``bench controlnet``: whether videos follow the edges of sprites clips, by how frames meet in the ControlNet.

The edges are a clip's, and the prompt is its caption with another colour and background: where the thing is comes from
the edges, what colour it has from the prompt. All rows have the same prompts, edges and noise. What was measured of
each video is kept as it is made.
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
from latentshift.benchmarks.kept_measures import Measures, mean_estimate, measure_missing, open_folder
from latentshift.benchmarks.report import Result, mean_value, share_value
from latentshift.contact_sheet import contact_sheet
from latentshift.data.sprites import BACKGROUNDS, COLOURS, NUM_FRAMES, Sprite, Sprites, Track, render
from latentshift.evaluation.estimates import mean_of
from latentshift.evaluation.sprites.reader import LEAST_SEEN, read_clip
from latentshift.evaluation.sprites.stability import measure_stability
from latentshift.image_pipelines.controlnet import with_controlnet
from latentshift.models.controlnet import trained_shift
from latentshift.models.storage.fingerprint import weights_fingerprint
from latentshift.pipeline import LatentShiftPipeline, open_pipeline
from latentshift.video import edge_maps, read_video, to_uint8, write_video

FOLLOWS = 0.05
"""Of the frame's side: the root mean square distance to the clip's own track up to which a thing follows its edges."""
_SHOWN = 3  # videos of each row in the pictures
_SHARES = ("follows_edges", "motion", "thing", "colour", "background")
_MEANS = ("distance", "colour_drift", "frame_flicker")


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


@torch.no_grad()
def bench_controlnet(settings: ControlNetSettings) -> Iterator[Result]:
    """Rows: without a ControlNet, then each of them frame by frame and with the shift, or as it was trained.

    Then the differences of each row to the first that is frame by frame, over the same prompts, edges and noise; and
    some of the videos as a picture.

    Raises:
        ValueError: for a model or ControlNet that can't be loaded, or that don't fit each other, or a folder of other
            settings.
    """
    pipeline = open_pipeline(settings.model).to(settings.device)
    guidance = pipeline.config.guidance_scale if settings.guidance_scale is None else settings.guidance_scale
    settings = replace(settings, guidance_scale=guidance)
    controlnets = [_load(folder).to(settings.device) for folder in settings.controlnets]
    frames = int(pipeline.config.num_frames)
    open_folder(
        settings.output,
        pipeline,
        controlnets=[[weights_fingerprint(each), trained_shift(each)] for each in controlnets],
        autocast=settings.dtype,
        **{name: getattr(settings, name) for name in ("steps", "guidance_scale", "scale", "seed")},
        # The sprites world's number is left out, as in folders from before it was compared.
        **({} if frames == NUM_FRAMES else {"frames": frames}),
    )
    tasks = draw_tasks(settings.seed, settings.videos, pipeline.sample_size, frames)
    baseline: list[Measures] = []
    differences: list[Result] = []
    shown: list[tuple[str, Path]] = []
    for number, controlnet in enumerate(controlnets):
        ways = ["shifted"] if trained_shift(controlnet) else ["frame by frame", "shifted"]
        for way in [*(["without"] if number == 0 else []), *ways]:
            name = "none" if way == "without" else str(settings.controlnets[number])
            folder = settings.output / (way if way == "without" else f"{number + 1}-{way.replace(' ', '-')}")
            values = _measured(settings, pipeline, controlnet, tasks, way, folder)
            yield {"controlnet": name, "way": way, **_row(values)}
            if baseline:
                differences.append(_difference(f"{name}, {way}", baseline, values))
            elif way == "frame by frame":
                baseline = values
            shown.append((f"{name}, {way}", folder))
    yield from differences
    _write_sheet(settings.output / "videos.png", tasks, shown)


def draw_tasks(seed: int, count: int, size: int, num_frames: int) -> list[Task]:
    """Clips of a stream of the sprites world, and prompts of another colour and background."""
    world = Sprites(size=size, seed=seed, num_frames=num_frames)
    tasks = []
    for index in range(count):
        sprite, track, texture = world.describe(index)
        rng = np.random.default_rng([seed, index, 2])
        colour, ground = (
            str(rng.choice([each for each in known if each != own]))
            for known, own in ((COLOURS, sprite.colour), (BACKGROUNDS, sprite.background))
        )
        wanted = replace(sprite, colour=colour, background=ground)
        tasks.append(Task(wanted, track, edge_maps(render(sprite, track, texture)), index))
    return tasks


def measure(task: Task, video: np.ndarray) -> Measures:
    """What a video shows, by name; left out where there is nothing to measure.

    ``distance`` is the root mean square distance to the clip's track, of the frame's side, where the thing is seen in
    ``LEAST_SEEN`` of the frames or more; ``follows_edges``, ``motion``, ``thing``, ``colour`` and ``background`` are 1
    where they are right, else 0; ``colour_drift`` and ``frame_flicker`` are levels of RGB distance.

    Args:
        task: what it was to show.
        video: uint8 (F, S, S, 3).
    """
    reading, stability = read_clip(video), measure_stability(video)
    assert reading.tracks is not None
    seen, distance = reading.tracks.seen, None
    if np.mean(seen) >= LEAST_SEEN:
        off = np.hypot(reading.tracks.x - task.track.x, reading.tracks.y - task.track.y)[seen]
        distance = float(np.sqrt(np.mean(off**2)))
    right = {name: getattr(reading, name) == getattr(task.wanted, name) for name in _SHARES[1:]}
    means = {"distance": distance, **vars(stability)}
    return {
        "follows_edges": float(distance is not None and distance <= FOLLOWS),
        **{name: float(value) for name, value in right.items()},
        **{name: value for name, value in means.items() if value is not None},
    }


def _load(folder: Path) -> ControlNetModel:
    try:
        controlnet: ControlNetModel = ControlNetModel.from_pretrained(folder, use_safetensors=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"the ControlNet {folder} can't be loaded: {str(error).splitlines()[0]}") from None
    return controlnet.eval()


def _measured(
    settings: ControlNetSettings,
    pipeline: LatentShiftPipeline,
    controlnet: ControlNetModel,
    tasks: Sequence[Task],
    way: str,
    folder: Path,
) -> list[Measures]:
    # What adds nothing may work in either way; a ControlNet that was trained with the shift has to have it.
    shifted = trained_shift(controlnet) is not None or way == "shifted"
    pipe = with_controlnet(pipeline, controlnet, len(tasks[0].edges), shifted=shifted)
    dtype = getattr(torch, settings.dtype)

    def make(index: int) -> tuple[np.ndarray, Measures]:
        task = tasks[index]
        with torch.autocast(settings.device.partition(":")[0], dtype, enabled=dtype != torch.float32):
            (frames,) = pipe(
                task.wanted.caption(),
                image=[Image.fromarray(frame) for frame in task.edges],
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance_scale,
                controlnet_conditioning_scale=0.0 if way == "without" else settings.scale,
                generator=torch.Generator().manual_seed(task.seed),
                output_type="np",
                return_dict=False,
            )[0]
        video = to_uint8(2 * frames - 1)
        if index < _SHOWN:
            write_video(_clip(folder, index), video)
        return video, measure(task, video)

    try:
        return measure_missing(folder, [task.seed for task in tasks], make)
    finally:
        pipe.remove()


def _row(values: Sequence[Measures]) -> Result:
    """Shares with 95 % Wilson intervals, means with 95 % intervals."""
    row: Result = {"videos": len(values)}
    for name in _SHARES:
        row[name] = share_value(round(sum(each[name] for each in values)), len(values))
    row |= {name: mean_estimate(values, name) for name in _MEANS}
    return row | {"not_seen": sum("distance" not in each for each in values)}


def _difference(name: str, first: Sequence[Measures], second: Sequence[Measures]) -> Result:
    """Means, over the videos that both have a value of, of the second's minus the first's."""
    row: Result = {"difference_to_frame_by_frame": name}
    for key in ("follows_edges", "motion", *_MEANS):
        pairs = [(one[key], two[key]) for one, two in zip(first, second, strict=True) if key in one and key in two]
        row[key] = mean_value(mean_of([two - one for one, two in pairs]))
    return row


def _write_sheet(path: Path, tasks: Sequence[Task], shown: Sequence[tuple[str, Path]]) -> None:
    rows, captions = [], []
    for index, task in enumerate(tasks[:_SHOWN]):
        rows += [task.edges, *(read_video(_clip(folder, index))[0] for _, folder in shown)]
        captions += [f"edges, for {task.wanted.caption()}", *(name for name, _ in shown)]
    write_video(path, contact_sheet(rows, captions)[None])


def _clip(folder: Path, index: int) -> Path:
    return folder / f"{index:04d}.webp"

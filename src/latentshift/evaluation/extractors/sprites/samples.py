"""What the shipped extractors learn from: clean and mildly degraded sprites, each drawn from (seed, index) alone.

The world is the whole one, held-out triples included: an extractor is to know everything that a prompt may ask for.
Degradations are those that generated clips suffer from: blur, noise, wrong colours, things that fade or bulge, and in
time jitter, disorder, stutter, flicker, colours that drift and a wrong speed. How strong each one is, is read off, so
that features tell it.

Knows no network. Legend of shapes: F frames, S = 64 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from latentshift.data.sprites import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_SHARE,
    MOTIONS,
    NUM_FRAMES,
    TEXTURE_LEVELS,
    THINGS,
    Track,
    draw_sprite,
    draw_texture,
    draw_track,
    render_mask,
)
from latentshift.evaluation.extractors.sprites.networks import SIZE

UNKNOWN = -100  # of a class that a sample does not show; the loss leaves it out
CLEAN_SHARE = 0.4
LEAST_RADIUS = 0.05  # of what shrinks twice as fast; the world's least is 0.11
SECOND_SHARE = 0.4  # of the degraded samples, with a second degradation

FRAME_CLASSES = {"colour": len(COLOURS), "thing": len(THINGS), "background": len(BACKGROUNDS)}
CLIP_CLASSES = {**FRAME_CLASSES, "motion": len(MOTIONS)}
FRAME_READINGS = ("x", "y", "radius", "texture", "blur", "noise", "red", "green", "blue", "fade", "bulge")
CLIP_READINGS = (
    *FRAME_READINGS,
    *("right", "down", "growth", "turn", "way"),
    *("speed", "jitter", "disorder", "stutter", "flicker", "drift"),
)


@dataclass
class Sample:
    """A clip, or one frame as a clip of one, while it is made.

    Attributes:
        track: of the thing.
        order: which moment each frame shows, int (F,).
        texture: (S, S) in levels.
        opacity: of the thing, 0 … 1.
        colour, ground: RGB of each frame, (F, 3).
        classes: index of each class by name.
        readings: what there is to be read off, about 1 at most in space and 2 in time; 0 unless set.
        finish: what is done with the picture (F, S, S, 3), in levels, at the end.
    """

    track: Track
    order: np.ndarray
    texture: np.ndarray
    colour: np.ndarray
    ground: np.ndarray
    classes: dict[str, int]
    opacity: float = 1.0
    bulge: float = 0.0
    readings: dict[str, float] = field(default_factory=dict)
    finish: list[Callable[[np.ndarray], np.ndarray]] = field(default_factory=list)


Degrade = Callable[[Sample, np.random.Generator], None]


def draw_frame(seed: int, index: int) -> tuple[np.ndarray, dict[str, int], np.ndarray]:
    """Frame ``index`` of a seed: uint8 RGB (S, S, 3), its classes, and its readings float32 (R,)."""
    rng = np.random.default_rng([seed, index, 0])
    sample, _ = _draw_sample(rng, 1)
    _degrade(sample, rng, _IN_SPACE)
    return _render(sample, rng)[0], sample.classes, _readings(sample, FRAME_READINGS)


def draw_clip(seed: int, index: int) -> tuple[np.ndarray, dict[str, int], np.ndarray]:
    """Clip ``index`` of a seed: uint8 RGB (16, S, S, 3), its classes, and its readings float32 (R,)."""
    rng = np.random.default_rng([seed, index, 1])
    sample, motion = _draw_sample(rng, NUM_FRAMES)
    sample.classes["motion"] = MOTIONS.index(motion)
    _degrade(sample, rng, _IN_SPACE)
    _degrade(sample, rng, _IN_TIME)
    track = sample.track
    sample.readings |= {
        "right": (track.x[-1] - track.x[0]) / 0.4,
        "down": (track.y[-1] - track.y[0]) / 0.4,
        "growth": math.log(track.radius[-1] / track.radius[0]),
        "turn": (track.angle[-1] - track.angle[0]) / math.tau,
        "way": float(np.hypot(np.diff(track.x), np.diff(track.y)).sum()),
    }
    return _render(sample, rng), sample.classes, _readings(sample, CLIP_READINGS)


def _draw_sample(rng: np.random.Generator, num_frames: int) -> tuple[Sample, str]:
    sprite = draw_sprite(rng, held_out=bool(rng.random() < HELD_OUT_SHARE))
    # Twice as long as needed, so that it can be played faster.
    track = draw_track(rng, sprite.motion, 2 * NUM_FRAMES - 1)
    first = int(rng.integers(NUM_FRAMES)) if num_frames == 1 else 0
    sample = Sample(
        track=_at(track, np.arange(first, first + num_frames)),
        order=np.arange(num_frames),
        texture=draw_texture(rng, SIZE),
        colour=np.tile(np.asarray(COLOURS[sprite.colour], float), (num_frames, 1)),
        ground=np.tile(np.asarray(BACKGROUNDS[sprite.background], float), (num_frames, 1)),
        classes={
            "colour": list(COLOURS).index(sprite.colour),
            "thing": THINGS.index(sprite.thing),
            "background": list(BACKGROUNDS).index(sprite.background),
        },
    )
    if num_frames > 1 and sprite.motion != "standing still" and rng.random() < 0.15:
        speed = float(np.exp(rng.uniform(math.log(0.45), math.log(2.0))))
        sample.track = _at(track, speed * np.arange(num_frames))
        sample.track = replace(sample.track, radius=np.maximum(sample.track.radius, LEAST_RADIUS))
        sample.readings["speed"] = 2 * math.log2(speed)
    return sample, sprite.motion


def _at(track: Track, when: np.ndarray) -> Track:
    """The track at other times, in frames."""
    frames = np.arange(len(track.x))
    return Track(*(np.interp(when, frames, each) for each in (track.x, track.y, track.radius, track.angle)))


def _degrade(sample: Sample, rng: np.random.Generator, kinds: tuple[Degrade, ...]) -> None:
    if rng.random() < CLEAN_SHARE:
        return
    for kind in rng.permutation(len(kinds))[: 1 + int(rng.random() < SECOND_SHARE)]:
        kinds[kind](sample, rng)


def _render(sample: Sample, rng: np.random.Generator) -> np.ndarray:
    mask = render_mask(THINGS[sample.classes["thing"]], sample.track, SIZE)
    if sample.bulge:
        mask = _bulged(mask, sample.bulge, rng)
    mask, texture, colour, ground = (
        each.astype(np.float32) for each in (sample.opacity * mask, sample.texture, sample.colour, sample.ground)
    )
    picture = ground[:, None, None, :] + texture[None, :, :, None]
    picture += mask[..., None] * (colour[:, None, None, :] - picture)
    for finish in sample.finish:
        picture = finish(picture)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)[sample.order]


def _bulged(mask: np.ndarray, pixels: float, rng: np.random.Generator) -> np.ndarray:
    """The mask with its outlines displaced by a smooth field of about so many pixels, anew in each frame."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    bulged = np.empty_like(mask)
    for frame, each in enumerate(mask):
        down, right = (draw_texture(rng, SIZE) * (pixels / TEXTURE_LEVELS) for _ in range(2))
        bulged[frame] = map_coordinates(each, [rows + down, columns + right], order=1, mode="nearest")
    return bulged


def _readings(sample: Sample, names: tuple[str, ...]) -> np.ndarray:
    track = sample.track
    known = {
        "x": (float(track.x.mean()) - 0.5) / 0.25,
        "y": (float(track.y.mean()) - 0.5) / 0.25,
        "radius": (float(track.radius.mean()) - 0.2) / 0.08,
        "texture": float(sample.texture.std()) / TEXTURE_LEVELS,
        **sample.readings,
    }
    return np.array([known.get(name, 0.0) for name in names], np.float32)


def _blur(sample: Sample, rng: np.random.Generator) -> None:
    sigma = rng.uniform(0.3, 3.0)  # pixels
    sample.finish.append(lambda picture: gaussian_filter(picture, (0, sigma, sigma, 0)))
    sample.readings["blur"] = math.log1p(sigma) / math.log1p(3)


def _noise(sample: Sample, rng: np.random.Generator) -> None:
    levels = math.exp(rng.uniform(math.log(2), math.log(40)))
    sample.finish.append(lambda picture: picture + levels * rng.standard_normal(picture.shape, np.float32))
    sample.readings["noise"] = math.log1p(levels / 4) / math.log1p(10)


def _tint(sample: Sample, rng: np.random.Generator) -> None:
    shift = rng.normal(size=3)
    shift *= rng.uniform(4, 60) / np.linalg.norm(shift)
    sample.finish.append(lambda picture: picture + shift.astype(np.float32))
    sample.readings |= dict(zip(("red", "green", "blue"), shift / 40, strict=True))


def _fade(sample: Sample, rng: np.random.Generator) -> None:
    sample.opacity = rng.uniform(0.3, 0.95)
    sample.readings["fade"] = 1 - sample.opacity


def _flatten(sample: Sample, rng: np.random.Generator) -> None:
    sample.texture = sample.texture * rng.uniform(0, 0.6)


def _bulge(sample: Sample, rng: np.random.Generator) -> None:
    sample.bulge = rng.uniform(1, 8)  # pixels at most
    sample.readings["bulge"] = sample.bulge / 8


def _jitter(sample: Sample, rng: np.random.Generator) -> None:
    spread = rng.uniform(0.005, 0.05)  # of the frame's side
    track = sample.track
    sample.track = replace(
        track,
        x=track.x + spread * rng.standard_normal(len(track.x)),
        y=track.y + spread * rng.standard_normal(len(track.y)),
    )
    sample.readings["jitter"] = spread / 0.025


def _disorder(sample: Sample, rng: np.random.Generator) -> None:
    if sample.classes["motion"] == MOTIONS.index("standing still"):
        return
    window = int(rng.choice([2, 4, 8, 16]))
    parts = np.split(np.arange(NUM_FRAMES), NUM_FRAMES // window)
    sample.order = np.concatenate([rng.permutation(part) for part in parts])
    apart = float(np.abs(np.diff(sample.order)).mean()) - 1
    sample.readings["disorder"] = apart / 2.25
    if window > 4:
        sample.classes["motion"] = UNKNOWN


def _stutter(sample: Sample, rng: np.random.Generator) -> None:
    """One frame stands from some moment on, or each frame is shown several times."""
    if sample.classes["motion"] == MOTIONS.index("standing still"):
        return
    if rng.random() < 0.5:
        sample.order = np.minimum(sample.order, rng.integers(NUM_FRAMES - 1))
    else:
        times = int(rng.choice([2, 3, 4, 5]))
        sample.order = sample.order // times * times
    shown = len(set(sample.order.tolist()))
    if shown == 1:  # nothing of the motion is left: it is a clip of another motion, and a good one
        sample.classes["motion"] = MOTIONS.index("standing still")
        sample.track = _at(sample.track, np.zeros(NUM_FRAMES))
        sample.readings.pop("speed", None)
        return
    sample.readings["stutter"] = 2 * (1 - shown / NUM_FRAMES)
    if shown < 6:
        sample.classes["motion"] = UNKNOWN


def _flicker(sample: Sample, rng: np.random.Generator) -> None:
    levels = rng.uniform(2, 25)
    sample.colour = sample.colour + levels * rng.standard_normal((NUM_FRAMES, 1))
    if rng.random() < 0.5:
        sample.ground = sample.ground + levels * rng.standard_normal((NUM_FRAMES, 1))
    sample.readings["flicker"] = levels / 12


def _drift(sample: Sample, rng: np.random.Generator) -> None:
    """The thing's colour goes part of the way to another one."""
    others = np.array(list(COLOURS.values()), float)
    share = rng.uniform(0.1, 0.9)
    way = np.linspace(0, share, NUM_FRAMES)[:, None]
    sample.colour = sample.colour * (1 - way) + others[rng.integers(len(others))] * way
    sample.readings["drift"] = float(np.linalg.norm(sample.colour[-1] - sample.colour[0])) / 100
    if share > 0.5:
        sample.classes["colour"] = UNKNOWN


_IN_SPACE: tuple[Degrade, ...] = (_blur, _noise, _tint, _fade, _flatten, _bulge)
_IN_TIME: tuple[Degrade, ...] = (_jitter, _disorder, _stutter, _flicker, _drift)

"""Read background, colour, thing and motion from a sprites clip, without any learned component.

Used to score text-to-video models on sprites: the readings of a generated clip are compared with its caption. A reading
is None if it is uncertain, and None counts as wrong. A motion is recognized only if the thing is seen in nearly every
frame and its track follows that motion's law closely; shuffled frames, jumps and vanishing things match none.

Knows nothing of models, captions or files, and does not judge image quality: texture, sharpness and colours within the
tolerances below make no difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import count, islice

import numpy as np

from latentshift.data.sprites import BACKGROUNDS, COLOURS, MOTIONS, NUM_FRAMES, Sprite, Sprites
from latentshift.evaluation.sprites.tracks import Tracks, ground_colour, ground_share, track

__all__ = ["Reading", "Scores", "Tracks", "calibrate", "read_clip", "read_motion", "score", "track"]

# The ground may be this far from its palette colour (levels of RGB distance): the texture's 21 and a decoder's error;
# black and navy, the nearest two, are 71 apart.
GROUND_TOLERANCE = 60.0
LEAST_GROUND = 0.5  # share of the pixels that have to be ground; the largest thing leaves 0.7
# Share of the pixels inside the thing that have to show one and the same palette colour.
LEAST_COLOUR = 0.7

# Shorter clips show too little of a hop or an orbit.
LEAST_FRAMES = 12
LEAST_SEEN = 0.9  # share of the frames that have to show one thing for a motion: of 16, one may be lost
LEAST_NAMED = 0.75  # the same for the thing's own name

# How far a track may be from a law, root mean square over the frames. Half a pixel of jitter at 64 pixels is 0.008.
OFF_PLACE = 0.025  # of the frame's side
OFF_SIZE = 0.08  # of the mean radius
OFF_ANGLE = 0.15  # radians
# What counts as no change from the first frame to the last, by a straight line through all.
STILL_PLACE = 0.1  # of the frame's side
STILL_SIZE = 1.2  # ratio of radii
STILL_ANGLE = 0.5  # radians
# What counts as a change: about half of the least that the world draws, which is in brackets.
MOVED = 0.18  # of the frame's side [0.36]
ASIDE = 0.35  # largest drift sideways, share of the way moved: a slant of 19°
GROWN = 1.4  # ratio of radii [1.86]
TURNED = 0.28 * 2 * math.pi  # radians [0.55 turns]
HOP_HEIGHT = 0.14  # of the frame's side [0.28]
ORBIT = 0.075  # of the frame's side [0.15]
# Laws that are not straight lines are tried over grids somewhat wider than what the world draws, which is in brackets.
# A clip that is k times as long has k times as many steps of the grid, for a wrong pace adds up.
HOPS = (1.3, 2.5)  # per clip of NUM_FRAMES [1.6 … 2.2]
PHASES = np.arange(0, 1, 0.025)  # of a hop [all]
ORBITS = (0.7, 1.3)  # turns per clip of NUM_FRAMES, either way [0.85 … 1.15]
_STEPS = 24  # of both grids


@dataclass(frozen=True)
class Reading:
    """What a clip shows, in words of the captions, or None if uncertain."""

    background: str | None
    colour: str | None
    thing: str | None
    motion: str | None  # None for an image too
    frames: int  # how many were read; 1 is an image
    tracks: Tracks | None = field(default=None, compare=False, repr=False)  # what it was read from


@dataclass(frozen=True)
class Scores:
    """Accuracies, 0 … 1. ``motion`` is None if all were images."""

    n: int
    background: float
    colour: float
    thing: float
    motion: float | None
    joint: float  # everything right at once; of an image, everything but the motion

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain numbers by name, for a report."""
        return asdict(self)


def read_clip(video: np.ndarray) -> Reading:
    """Read one clip or image.

    Args:
        video: uint8 RGB (F, S, S, 3), S >= 32; one frame is an image, which has no motion.

    Raises:
        ValueError: for another dtype or shape.
    """
    tracks = track(video)
    most = int(tracks.colours.argmax())
    return Reading(
        background=_read_background(video),
        colour=list(COLOURS)[most] if tracks.colours[most] >= LEAST_COLOUR else None,
        thing=tracks.thing if np.mean(tracks.seen) >= LEAST_NAMED else None,
        motion=read_motion(tracks),
        frames=len(video),
        tracks=tracks,
    )


def _read_background(video: np.ndarray) -> str | None:
    ground = ground_colour(video)
    distance = np.linalg.norm(np.array(list(BACKGROUNDS.values())) - ground, axis=1)
    if distance.min() > GROUND_TOLERANCE or ground_share(video) < LEAST_GROUND:
        return None
    return list(BACKGROUNDS)[int(distance.argmin())]


def read_motion(tracks: Tracks) -> str | None:
    """The motion whose law the tracks (F,) follow, or None: too few frames, a thing often unseen, or no such law."""
    seen = tracks.seen
    if len(seen) < LEAST_FRAMES or np.mean(seen) < LEAST_SEEN:
        return None
    when = np.flatnonzero(seen) / (NUM_FRAMES - 1)
    x, y, radius = tracks.x[seen], tracks.y[seen], tracks.radius[seen]
    moved_x, off_x = _line(when, x)
    moved_y, off_y = _line(when, y)
    grown, off_size = _line(when, radius / radius.mean())
    ratio = (1 + grown / 2) / max(1 - grown / 2, 1e-6)  # last radius to first, along the line
    # Of a longer clip, what is to be no change adds up from the first frame to the last.
    longer = max(1.0, (len(seen) - 1) / (NUM_FRAMES - 1))
    # The angle of a piece that is none of the things means nothing: it is not seen to spin, nor to stand still.
    turned, off_angle = _line(when, tracks.angle[seen]) if tracks.thing else (0.0, 0.0)

    rests_x = abs(moved_x) * longer <= STILL_PLACE and off_x <= OFF_PLACE
    rests = rests_x and abs(moved_y) * longer <= STILL_PLACE and off_y <= OFF_PLACE
    same_size = max(ratio, 1 / ratio) ** longer <= STILL_SIZE and off_size <= OFF_SIZE
    same_angle = abs(turned) * longer <= STILL_ANGLE and off_angle <= OFF_ANGLE
    if rests:
        if same_size and same_angle:
            return "standing still" if tracks.thing else None
        if same_size and abs(turned) >= TURNED and off_angle <= OFF_ANGLE:
            return "spinning"
        if same_angle and off_size <= OFF_SIZE and max(ratio, 1 / ratio) >= GROWN:
            return "growing" if ratio > 1 else "shrinking"
        return None
    if not (same_size and same_angle):
        return None
    if max(off_x, off_y) <= OFF_PLACE:
        along, aside = sorted((abs(moved_x), abs(moved_y)), reverse=True)
        if along < MOVED or aside > ASIDE * along:
            return None
        if along == abs(moved_x):
            return "moving right" if moved_x > 0 else "moving left"
        return "moving down" if moved_y > 0 else "moving up"
    if rests_x and _hops(when, y):
        return "bouncing"
    return "circling" if _circles(when, x, y) else None


def _line(when: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Change over a clip of NUM_FRAMES along the least-squares line, and the root mean square off it."""
    slope, start = np.polyfit(when, values, 1)
    return float(slope), float(np.sqrt(np.mean((values - start - slope * when) ** 2)))


def _fit(values: np.ndarray, laws: np.ndarray) -> tuple[float, float]:
    """Best least-squares fit of ``values`` (F,) by a + b·law over laws (L, F): |b|, and the root mean square off it.

    Either may be complex; a complex ``b`` turns and scales the law.
    """
    values, laws = values - values.mean(), laws - laws.mean(axis=1, keepdims=True)
    shared, power = laws.conj() @ values, (np.abs(laws) ** 2).sum(axis=1)
    off = np.maximum((np.abs(values) ** 2).sum() - np.abs(shared) ** 2 / power, 0)
    best = int(off.argmin())
    return float(np.abs(shared[best]) / power[best]), float(np.sqrt(off[best] / len(values)))


def _grid(ends: tuple[float, float], when: np.ndarray) -> np.ndarray:
    return np.linspace(*ends, _STEPS * max(1, math.ceil(when[-1])) + 1)


def _hops(when: np.ndarray, y: np.ndarray) -> bool:
    within = (_grid(HOPS, when)[:, None, None] * when + PHASES[:, None]) % 1.0
    hanging = (4 * within * (1 - within)).reshape(-1, len(when))
    # Hops open downwards: y grows towards the floor. Mirrored ones are no hops, so the sign has to agree.
    falling = (hanging - hanging.mean(axis=1, keepdims=True)) @ (y - y.mean()) < 0
    if not falling.any():
        return False
    height, off = _fit(y, hanging[falling])
    return height >= HOP_HEIGHT and off <= OFF_PLACE


def _circles(when: np.ndarray, x: np.ndarray, y: np.ndarray) -> bool:
    orbits = _grid(ORBITS, when)
    laws = np.exp(2j * math.pi * np.concatenate([orbits, -orbits])[:, None] * when)
    orbit, off = _fit(x + 1j * y, laws)
    return orbit >= ORBIT and off <= OFF_PLACE * math.sqrt(2)  # in two directions at once


def score(readings: Sequence[Reading], sprites: Sequence[Sprite]) -> Scores:
    """Compare readings with the requested sprites. The motion of images is not scored.

    Raises:
        ValueError: if there are none, or not as many readings as sprites.
    """
    if len(readings) != len(sprites) or not readings:
        raise ValueError(f"a score takes as many readings as sprites, 1 or more; not {len(readings)}, {len(sprites)}")
    names = ("background", "colour", "thing")
    pairs = list(zip(readings, sprites, strict=True))
    right = np.array([[getattr(reading, name) == getattr(sprite, name) for name in names] for reading, sprite in pairs])
    image = np.array([reading.frames == 1 for reading in readings])
    motion = np.array([reading.motion == sprite.motion for reading, sprite in pairs])
    background, colour, thing = (float(share) for share in right.mean(axis=0))
    return Scores(
        n=len(readings),
        background=background,
        colour=colour,
        thing=thing,
        motion=None if image.all() else float(motion[~image].mean()),
        joint=float((right.all(axis=1) & (motion | image)).mean()),
    )


@cache
def calibrate(
    size: int = 64,
    clips: int = 512,
    seed: int = 0,
    held_out: bool = False,
    images: bool = False,
    num_frames: int = NUM_FRAMES,
    motions: tuple[str, ...] = MOTIONS,
) -> Scores:
    """The reader's scores on rendered clips, the ceiling of a model's scores.

    Args:
        size: side of the frames in pixels.
        clips: number of clips.
        seed: of the stream of clips.
        held_out: clips of the held-out triples instead of the seen ones.
        images: one frame of each clip instead of the clip.
        num_frames: of a clip.
        motions: that are read; clips of others do not count among ``clips``.

    Raises:
        ValueError: for no clips, an unsupported size, or motions that the world does not have.
    """
    if unknown := sorted(set(motions) - set(MOTIONS)):
        raise ValueError(f"there is no motion {unknown[0]!r}: choose from {', '.join(MOTIONS)}")
    world = Sprites(size=size, seed=seed, held_out=held_out, num_frames=num_frames)
    readings, sprites = [], []
    for index in islice((each for each in count() if world.sprite(each).motion in motions), clips):
        picture, sprite = world.frame(index) if images else world[index]
        readings.append(read_clip(picture[None] if images else picture))
        sprites.append(sprite)
    return score(readings, sprites)

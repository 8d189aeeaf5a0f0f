"""The sprites data set: procedural, captioned videos, specified here.

A sprite is a flat, coloured thing that moves over a mildly textured background, in the spirit of the moving digits of
early text-to-video work. Clip ``index`` of a seed is always the same clip. The set is endless and needs no download.

Knows nothing of models, files or training. Legend of shapes: F frames, S side in pixels.
Positions and sizes are in units of the frame's side, x to the right and y downwards, angles in radians, clockwise
on screen.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (230, 40, 40),
    "green": (40, 190, 70),
    "blue": (50, 90, 240),
    "yellow": (245, 225, 50),
    "purple": (160, 60, 210),
    "orange": (250, 140, 30),
    "cyan": (40, 220, 230),
    "white": (250, 250, 250),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (10, 10, 10),
    "gray": (115, 115, 115),
    "navy": (15, 20, 80),
    "brown": (95, 60, 30),
}
THINGS = ("circle", "square", "triangle", "diamond", "ring", "cross", "star", "heart")
MOTIONS = (
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "bouncing",
    "circling",
    "growing",
    "shrinking",
    "spinning",
    "standing still",
)
LASTING_MOTIONS = ("bouncing", "circling", "spinning", "standing still")  # which may go on beyond NUM_FRAMES
# A turn by 2π/k leaves the thing as it was; 0 stands for "by any angle".
SYMMETRY = {"circle": 0, "square": 4, "triangle": 3, "diamond": 2, "ring": 0, "cross": 4, "star": 5, "heart": 1}

VERSION = 1  # to be raised whenever a change makes any clip another one: encoded clips then no longer match
NUM_FRAMES = 16
FPS = 8
TEXTURE_LEVELS = 12  # the texture stays within ± this many of 255 levels
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Sprite:
    """What one clip shows, in words.

    Raises:
        ValueError: for a word that the world does not know, or a circle or ring that spins.
    """

    colour: str
    thing: str
    motion: str
    background: str

    def __post_init__(self) -> None:
        for word, known in (
            (self.colour, tuple(COLOURS)),
            (self.thing, THINGS),
            (self.motion, MOTIONS),
            (self.background, tuple(BACKGROUNDS)),
        ):
            if word not in known:
                raise ValueError(f"sprites know no {word!r}; they know {', '.join(known)}")
        if self.motion == "spinning" and SYMMETRY[self.thing] == 0:
            raise ValueError(f"a {self.thing} that spins shows nothing")

    @property
    def triple(self) -> tuple[str, str, str]:
        """(colour, thing, motion), which defines the held-out set."""
        return self.colour, self.thing, self.motion

    def caption(self, *, with_motion: bool = True) -> str:
        """The sentence of the clip, or of one of its frames (``with_motion=False``)."""
        motion = f" {self.motion}" if with_motion else ""
        return f"a {self.colour} {self.thing}{motion} on a {self.background} background"


@dataclass(frozen=True)
class Track:
    """Position, size and angle of the thing in each frame: four arrays of shape (F,)."""

    x: np.ndarray  # centre, 0 left … 1 right
    y: np.ndarray  # centre, 0 top … 1 bottom
    radius: np.ndarray  # of the circle the thing is drawn in
    angle: np.ndarray  # radians, clockwise on screen


def triples() -> list[tuple[str, str, str]]:
    """All (colour, thing, motion) triples, in a fixed order."""
    return [
        (colour, thing, motion)
        for colour in COLOURS
        for thing in THINGS
        for motion in MOTIONS
        if not (motion == "spinning" and SYMMETRY[thing] == 0)
    ]


@lru_cache(maxsize=1)
def held_out_triples() -> frozenset[tuple[str, str, str]]:
    """The held-out triples: a fixed tenth, by the order of their SHA-256."""
    ranked = sorted(triples(), key=lambda triple: hashlib.sha256(" ".join(triple).encode()).hexdigest())
    return frozenset(ranked[: round(HELD_OUT_SHARE * len(ranked))])


@lru_cache(maxsize=2)
def _triples_of(held_out: bool) -> tuple[tuple[str, str, str], ...]:
    return tuple(triple for triple in triples() if (triple in held_out_triples()) == held_out)


def words() -> list[str]:
    """All words of captions, in a fixed order."""
    sentence = ["a", "on", "background", *COLOURS, *THINGS, *" ".join(MOTIONS).split(), *BACKGROUNDS]
    return list(dict.fromkeys(sentence))


def draw_sprite(rng: np.random.Generator, *, held_out: bool = False) -> Sprite:
    """A sprite drawn evenly over the motions (then things, colours, backgrounds) of the seen or held-out triples."""
    pool = _triples_of(held_out)
    motion = MOTIONS[rng.integers(len(MOTIONS))]
    of_motion = [triple for triple in pool if triple[2] == motion] or list(pool)
    colour, thing, motion = of_motion[rng.integers(len(of_motion))]
    return Sprite(colour, thing, motion, list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))])


def draw_track(rng: np.random.Generator, motion: str, num_frames: int = NUM_FRAMES) -> Track:
    """A random path for ``motion``; sizes and ranges keep the thing recognisable and inside the frame."""
    step = np.arange(num_frames) / (NUM_FRAMES - 1)  # 0 … 1 over the nominal two seconds
    radius = np.full(num_frames, rng.uniform(0.18, 0.24))
    angle = np.zeros(num_frames)
    margin = float(radius[0]) + 0.02
    x = np.full(num_frames, rng.uniform(margin, 1 - margin))
    y = np.full(num_frames, rng.uniform(margin, 1 - margin))

    if motion.startswith("moving"):
        distance = rng.uniform(0.36, min(0.6, 1 - 2 * margin))
        start = rng.uniform(margin, 1 - margin - distance)
        along = start + distance * step
        if motion == "moving right":
            x = along
        elif motion == "moving left":
            x = 1 - along
        elif motion == "moving down":
            y = along
        else:
            y = 1 - along
    elif motion == "bouncing":
        floor = rng.uniform(0.9, 1.0) - margin + 0.02
        height = rng.uniform(0.28, 0.42)
        hops = rng.uniform(1.6, 2.2)
        within = (step * hops + rng.uniform(0, 1)) % 1.0
        y = floor - height * 4 * within * (1 - within)
    elif motion == "circling":
        orbit = rng.uniform(0.15, 0.22)
        reach = min(0.5, margin + orbit)
        turn = rng.choice([-1, 1]) * rng.uniform(0.85, 1.15) * 2 * math.pi * step + rng.uniform(0, 2 * math.pi)
        x = rng.uniform(reach, 1 - reach) + orbit * np.cos(turn)
        y = rng.uniform(reach, 1 - reach) + orbit * np.sin(turn)
    elif motion in ("growing", "shrinking"):
        small, large = rng.uniform(0.11, 0.14), rng.uniform(0.26, 0.32)
        radius = small + (large - small) * (step if motion == "growing" else 1 - step)
        margin = large + 0.02
        x[:], y[:] = rng.uniform(margin, 1 - margin, size=2)
    elif motion == "spinning":
        angle = rng.uniform(0, 2 * math.pi) + rng.choice([-1, 1]) * rng.uniform(0.55, 0.85) * 2 * math.pi * step
    return Track(x=x, y=y, radius=radius, angle=angle)


def draw_texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """A smooth random texture (S, S), within ±TEXTURE_LEVELS: a 4×4 grid of values, cosine-interpolated."""
    grid = rng.uniform(-TEXTURE_LEVELS, TEXTURE_LEVELS, size=(4, 4))
    place = (np.arange(size) + 0.5) / size * 3
    low = np.minimum(place.astype(int), 2)
    share = (1 - np.cos(math.pi * (place - low))) / 2
    weights = np.zeros((size, 4))
    weights[np.arange(size), low] = 1 - share
    weights[np.arange(size), low + 1] += share
    return weights @ grid @ weights.T


def _box(u: np.ndarray, v: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    du, dv = np.abs(u) - half_width, np.abs(v) - half_height
    return np.hypot(np.maximum(du, 0), np.maximum(dv, 0)) + np.minimum(np.maximum(du, dv), 0)


def signed_distance(thing: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance to the outline of a thing of radius 1 at the origin, negative inside; any shape of ``u`` and ``v``.

    ``v`` points downwards. Near the outline the value is a distance, which is all that anti-aliasing asks for.

    Raises:
        ValueError: for an unknown thing.
    """
    if thing == "circle":
        return np.hypot(u, v) - 0.9
    if thing == "ring":
        return np.abs(np.hypot(u, v) - 0.74) - 0.24
    if thing == "square":
        return _box(u, v, 0.8, 0.8)
    if thing == "diamond":
        width, height = 0.62, 1.05
        return (np.abs(u) * height + np.abs(v) * width - width * height) / math.hypot(width, height)
    if thing == "cross":
        return np.minimum(_box(u, v, 0.98, 0.3), _box(u, v, 0.3, 0.98))
    if thing == "triangle":  # three half-planes at 0.55 from the centroid, one corner up
        slant = np.abs(u) * math.cos(math.pi / 6) - v * math.sin(math.pi / 6)
        return np.maximum(slant, v) - 0.55
    if thing == "star":  # fold the plane into one tenth, then one straight edge from tip to notch
        tip, notch = 1.1, 0.46
        turn = np.arctan2(u, -v)
        folded = np.abs((turn + math.pi / 5) % (2 * math.pi / 5) - math.pi / 5)
        length = np.hypot(u, v)
        p, q = length * np.cos(folded), length * np.sin(folded)
        notch_p, notch_q = notch * math.cos(math.pi / 5), notch * math.sin(math.pi / 5)
        edge_p, edge_q = notch_p - tip, notch_q
        return (edge_p * q - edge_q * (p - tip)) / -math.hypot(edge_p, edge_q)
    if thing == "heart":  # a square on its corner and two discs on its upper sides
        half = 0.62
        v = v + 0.12
        turned_u, turned_v = (u + v) * math.sqrt(0.5), (v - u) * math.sqrt(0.5)
        side = half * math.sqrt(0.5)
        discs = np.hypot(np.abs(u) - side, v + side) - half
        return np.minimum(_box(turned_u, turned_v, half, half), discs)
    raise ValueError(f"sprites know no {thing!r}; they know {', '.join(THINGS)}")


def render_mask(thing: str, track: Track, size: int) -> np.ndarray:
    """How much of each pixel the thing covers: (F, S, S) in [0, 1], anti-aliased."""
    centre = (np.arange(size) + 0.5) / size
    du = (centre[None, None, :] - track.x[:, None, None]) / track.radius[:, None, None]
    dv = (centre[None, :, None] - track.y[:, None, None]) / track.radius[:, None, None]
    cos, sin = np.cos(track.angle)[:, None, None], np.sin(track.angle)[:, None, None]
    distance = signed_distance(thing, du * cos + dv * sin, dv * cos - du * sin)
    return np.clip(0.5 - distance * track.radius[:, None, None] * size, 0.0, 1.0)


def render(sprite: Sprite, track: Track, texture: np.ndarray) -> np.ndarray:
    """The clip: uint8 RGB of shape (F, S, S, 3), on a background with ``texture`` (S, S) in levels."""
    mask = render_mask(sprite.thing, track, texture.shape[0])[..., None]
    ground = np.asarray(BACKGROUNDS[sprite.background]) + texture[None, :, :, None]
    picture = ground * (1 - mask) + np.asarray(COLOURS[sprite.colour]) * mask
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Sprites:
    """The data set: ``self[index]`` is a clip and its sprite, always the same for (seed, held_out, size, index).

    Args:
        size: side of the frames in pixels, 32 or more.
        seed: which of the endless streams of clips.
        held_out: draw from the held-out triples instead of the seen ones.
    """

    size: int = 64
    seed: int = 0
    held_out: bool = False
    num_frames: int = NUM_FRAMES

    def __post_init__(self) -> None:
        if self.size < 32:
            raise ValueError(f"sprites are drawn at 32 pixels or more, not {self.size}")
        if self.num_frames < 1:
            raise ValueError(f"a clip has at least one frame, not {self.num_frames}")

    def describe(self, index: int) -> tuple[Sprite, Track, np.ndarray]:
        """Sprite, track and texture of clip ``index``: the arguments of :func:`render`."""
        rng = self._rng(index)
        sprite = draw_sprite(rng, held_out=self.held_out)
        return sprite, draw_track(rng, sprite.motion, self.num_frames), draw_texture(rng, self.size)

    def sprite(self, index: int) -> Sprite:
        """The sprite of clip ``index`` alone."""
        return draw_sprite(self._rng(index), held_out=self.held_out)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Sprite]:
        """Clip ``index``: uint8 RGB (F, S, S, 3) and its sprite."""
        sprite, track, texture = self.describe(index)
        return render(sprite, track, texture), sprite

    def frame(self, index: int) -> tuple[np.ndarray, Sprite]:
        """One frame of clip ``index`` at a random time: uint8 RGB (S, S, 3) and the sprite."""
        sprite, track, texture = self.describe(index)
        when = np.random.default_rng([self.seed, int(self.held_out), index, 1]).integers(self.num_frames)
        at = slice(when, when + 1)
        moment = Track(track.x[at], track.y[at], track.radius[at], track.angle[at])
        return render(sprite, moment, texture)[0], sprite

    def _rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, int(self.held_out), index])

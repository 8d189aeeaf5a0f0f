"""Segment and track the thing of a sprites clip: class, and centroid, size and angle in each frame.

No part of it is learned. The ground is one colour, found as the median of the clip; a frame's thing is the largest
connected piece that stands out against it; which thing, how large and at which angle is read by overlapping the
piece, brought to unit area, with masks rendered by the world itself.

Knows nothing of captions, motions, models or files. It assumes what the sprites world promises: a ground of one
colour with a faint texture, a single flat thing that covers less than half of the frame, a camera that stands still.
Legend of shapes: F frames, S side in pixels, N side of a patch, T templates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from latentshift.data.sprites import COLOURS, SYMMETRY, TEXTURE_LEVELS, THINGS, Track, render_mask

# A pixel stands out when it is farther than this from the ground, in levels of RGB distance: well above the texture
# (12 levels in each of three channels: 21) with noise on top, well below the faintest pair of colours (115).
STANDS_OUT = 2.5 * TEXTURE_LEVELS * math.sqrt(3)
# The thing's own contrast is this quantile of those of the pixels that stand out, edges and ghosts being the weaker
# part; pixels with CORE_SHARE of it are the thing's flat inside.
CORE_RANK, CORE_SHARE = 0.8, 0.9
# Coverage is stretched from this range to 0 … 1, about 0.5 so that areas stay: it undoes a slight blur and drops
# texture, ringing and faint ghosts.
COVER_FROM, COVER_TO = 0.25, 0.75
# Smaller or larger pieces (share of the frame's area) are no thing: the world's smallest, a diamond of radius 0.11, has
# 0.0157, and its largest, a square of radius 0.32, 0.26.
SMALLEST_AREA, LARGEST_AREA = 0.006, 0.4
# A second solid piece of this share of the first one's area makes a frame crowded; smaller ones are crumbs.
CROWD_SHARE = 0.1
# A pixel inside the thing this near to a palette colour (levels of RGB distance) is called by it; nearest decides.
SAME_COLOUR = 75.0
# Anywhere, a pixel this near shows that colour: blends of one colour and a ground stay 63 away from every other.
SURE_COLOUR = 50.0
# Dilation of the piece in pixels, to keep its soft edge.
EDGE = 2

PATCH = 32  # N: side of the patches that are compared, in samples
PATCH_REACH = 1.1  # half the patch's side, in square roots of the thing's area; the widest thing reaches 0.92
# Templates are drawn on a canvas of this side (pixels) at this radius (share of the side; the widest thing has 1.18).
CANVAS, CANVAS_RADIUS = 96, 0.35
# Templates are blurred by these sigmas, in square roots of the thing's area: sharp, and 1 pixel on a usual and on a
# small thing at 64 pixels.
BLURS = (0.0, 0.06, 0.12)
ANGLE_STEP = math.radians(3)  # between templates; in between, a parabola is laid through the overlaps
# Mean overlap below which a piece is none of the things: rendered ones blurred by 2 pixels of 64 have 0.95 or more, an
# ellipse, an L or two things that touch 0.93 or less, but for some blobs that do look like a thing.
LEAST_OVERLAP = 0.93
# Share of the seen frames in which the thing has to be the best match, or as good as.
LEAST_AGREEMENT = 0.7
NEARLY_BEST = 0.02
# A thing at angle 0 is what the world shows unless it spins: a turned one has to overlap this much better.
TURNED_GAIN = 0.02


@dataclass(frozen=True, eq=False)
class Tracks:
    """The track of the thing; arrays of shape (F,), NaN in frames without exactly one thing.

    Units are those of :class:`latentshift.data.sprites.Track`: the frame's side, x to the right and y downwards.
    All but ``area`` are read off the fit of ``nearest``, which is a guess where ``thing`` is None.
    """

    x: np.ndarray  # of the point that the thing turns about, 0 left … 1 right: the centroid, but for a heart
    y: np.ndarray  # of the same, 0 top … 1 bottom
    area: np.ndarray  # share of the frame, 0 … 1
    radius: np.ndarray  # of the circle that the thing is drawn in
    angle: np.ndarray  # radians, clockwise on screen, unwrapped modulo the thing's symmetry; 0 for circle and ring
    seen: np.ndarray  # bool
    crowded: np.ndarray  # bool: more than one thing in the frame
    colours: np.ndarray  # (8,) share of the pixels inside the thing that show each of COLOURS, over the clip, 0 … 1
    thing: str | None = None  # the word, None when no thing fits well enough
    nearest: str | None = None  # the best match, however bad; None when no frame shows a thing
    overlap: float = 0.0  # of the best match, mean over the seen frames, 0 … 1
    turned: bool = False  # whether it is at another angle than upright


@dataclass(frozen=True, eq=False)
class Segments:
    """Where the thing of a clip is in each frame, and what colour it has."""

    masks: np.ndarray  # (F, S, S) how much of each pixel the thing covers, 0 … 1, sharpened; 0 in frames without one
    seen: np.ndarray  # (F,) frames with exactly one thing
    crowded: np.ndarray  # (F,) frames with two or more
    colours: np.ndarray  # (8,) share of the thing's pixels that each of COLOURS has


@dataclass(frozen=True, eq=False)
class _Bank:
    """Rendered masks at unit area, centroid in the middle: per thing, blurs times angles."""

    masks: np.ndarray  # (T, N·N) float32
    norms: np.ndarray  # (T,) squared lengths
    unit_area: np.ndarray  # (T,) what the area would be at radius 1
    unit_x: np.ndarray  # (T,) where the centroid would be at radius 1, the thing turning about 0
    unit_y: np.ndarray  # (T,)
    at: dict[str, slice]  # which templates are the thing's; angles run from 0, upright, to below one period


@dataclass(frozen=True, eq=False)
class _Match:
    """What the patches of a clip's seen frames look like."""

    nearest: str
    overlap: float
    sure: bool
    turned: bool
    angles: np.ndarray  # (F,) radians, unwrapped
    templates: np.ndarray  # (F,) which of the bank's fits best


def check_video(video: np.ndarray) -> None:
    """Raises ValueError unless ``video`` is uint8 RGB of shape (F, S, S, 3) with F >= 1 and S >= 32."""
    if not isinstance(video, np.ndarray) or video.dtype != np.uint8:
        raise ValueError(f"a video is a uint8 array, not {getattr(video, 'dtype', type(video).__name__)}")
    if video.ndim != 4 or video.shape[3] != 3 or video.shape[1] != video.shape[2]:
        raise ValueError(f"a video has the shape (F, S, S, 3), not {video.shape}")
    if video.shape[0] < 1 or video.shape[1] < 32:
        raise ValueError(f"a video has 1 frame or more of 32 pixels or more a side, not {video.shape}")


def ground_colour(video: np.ndarray) -> np.ndarray:
    """The colour of the background: (3,) levels, the median over all pixels, most of which are background."""
    return np.median(video.reshape(-1, 3), axis=0)


def ground_share(video: np.ndarray) -> float:
    """Share of background pixels (F, S, S, 3), 0 … 1."""
    return 1.0 - float(np.mean(_distance(video)[1] > STANDS_OUT))


def _distance(video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The difference of each pixel to the background colour (F, S, S, 3), and its norm (F, S, S), in levels."""
    offset = video.astype(np.float32) - ground_colour(video).astype(np.float32)
    return offset, np.sqrt(np.einsum("fhwc,fhwc->fhw", offset, offset))


def segment(video: np.ndarray) -> Segments:
    """Find the thing of a clip in each frame.

    Args:
        video: uint8 RGB (F, S, S, 3), S >= 32; one frame is an image.

    Raises:
        ValueError: for another dtype or shape.
    """
    check_video(video)
    cover, core = _cover(video)
    masks, seen, crowded = _largest_pieces(cover)
    colours, others = _colours(video, core, masks)
    crowded |= seen & (others > CROWD_SHARE * masks.sum(axis=(1, 2)))
    return Segments(masks, seen & ~crowded, crowded, colours)


def track(video: np.ndarray) -> Tracks:
    """Segment and track the thing of a clip.

    Args:
        video: uint8 RGB (F, S, S, 3), S >= 32; one frame is an image.

    Raises:
        ValueError: for another dtype or shape.
    """
    segments = segment(video)
    masks, seen, crowded, colours = segments.masks, segments.seen, segments.crowded, segments.colours
    frames, size = video.shape[:2]

    def over_all(values: np.ndarray) -> np.ndarray:
        column = np.full(frames, np.nan)
        column[seen] = values
        return column

    if not seen.any():
        gone = np.full(frames, np.nan)
        return Tracks(gone, gone, gone, gone, gone, seen, crowded, colours)
    x, y, area = _moments(masks[seen])
    match = _match(_patches(masks[seen], x, y, area))
    bank = _bank()
    radius = np.sqrt(area / bank.unit_area[match.templates])
    return Tracks(
        x=over_all(x - radius * bank.unit_x[match.templates]) / size,
        y=over_all(y - radius * bank.unit_y[match.templates]) / size,
        area=over_all(area) / size**2,
        radius=over_all(radius) / size,
        angle=over_all(match.angles),
        seen=seen,
        crowded=crowded,
        colours=colours,
        thing=match.nearest if match.sure else None,
        nearest=match.nearest,
        overlap=match.overlap,
        turned=match.turned,
    )


def _cover(video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each pixel is from the ground's colour to the thing's, 0 … 1, and which are well inside: (F, S, S)."""
    offset, distance = _distance(video)
    out = distance > STANDS_OUT
    nothing = np.zeros(distance.shape, np.float32), np.zeros(distance.shape, bool)
    if np.count_nonzero(out) < SMALLEST_AREA * out[0].size:
        return nothing
    core = distance > CORE_SHARE * np.quantile(distance[out], CORE_RANK)
    toward = np.median(offset[core], axis=0)
    if toward @ toward < STANDS_OUT**2:  # no one colour: the offsets cancel, as in noise
        return nothing
    return _stretch(offset @ (toward / (toward @ toward))), core


def _stretch(cover: np.ndarray) -> np.ndarray:
    return np.clip((cover - COVER_FROM) / (COVER_TO - COVER_FROM), 0, 1)


def _largest_pieces(cover: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each frame's largest piece with its soft edge (F, S, S), whether there is one, whether there is another (F,)."""
    frames, size = cover.shape[:2]
    flat = np.zeros((3, 3, 3), bool)
    flat[1] = True  # neighbours within a frame only
    labels, pieces = ndimage.label(cover > 0.5, structure=flat)
    areas = np.bincount(labels.ravel(), minlength=pieces + 1)
    areas[0] = 0
    first, second = np.zeros(frames, int), np.zeros(frames)
    for frame in range(frames):
        present = np.unique(labels[frame])
        ranked = present[np.argsort(areas[present])[::-1]]
        first[frame] = ranked[0]
        second[frame] = areas[ranked[1]] if len(ranked) > 1 else 0
    largest = areas[first]
    seen = (largest >= SMALLEST_AREA * size**2) & (largest <= LARGEST_AREA * size**2)
    piece = (labels == first[:, None, None]) & seen[:, None, None]
    side = 2 * EDGE + 1
    near = ndimage.maximum_filter(piece.astype(np.uint8), size=(1, side, side)) > 0
    return cover * near, seen, seen & (second > CROWD_SHARE * largest)


def _colours(video: np.ndarray, core: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the thing's pixels that each of COLOURS has (8,), and how many show any outside the masks (F,)."""
    palette = np.array(list(COLOURS.values()), np.float32)
    pixels = video.astype(np.float32)
    squared = (palette**2).sum(axis=1) - 2 * pixels @ palette.T  # but for the pixel's own square
    nearest = squared.argmin(axis=-1)
    distance = np.sqrt(np.maximum(squared.min(axis=-1) + np.einsum("fhwc,fhwc->fhw", pixels, pixels), 0))
    sure = distance < SURE_COLOUR
    counted = core | sure  # a second colour of less contrast is not in the core, and has to count
    called = np.bincount(nearest[counted & (distance < SAME_COLOUR)], minlength=len(COLOURS))
    # Without the odd pixels of a blurred edge.
    others = ndimage.binary_opening(sure & (masks < 0.5), np.ones((1, 3, 3), bool))
    return called / max(int(np.count_nonzero(counted)), 1), others.sum(axis=(1, 2))


def _moments(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centroid x, y and area of soft masks (F, S, S), in pixels, with a pixel's centre at index + 0.5."""
    centre = np.arange(masks.shape[1]) + 0.5
    area = masks.sum(axis=(1, 2), dtype=float)
    return masks.sum(axis=1) @ centre / area, masks.sum(axis=2) @ centre / area, area


def _patches(masks: np.ndarray, x: np.ndarray, y: np.ndarray, area: np.ndarray) -> np.ndarray:
    """The masks normalized to unit area and centred: (F, N·N)."""
    reach = ((np.arange(PATCH) + 0.5) / PATCH * 2 - 1) * PATCH_REACH
    step = np.sqrt(area)[:, None] * reach
    rows, columns = y[:, None] + step - 0.5, x[:, None] + step - 0.5
    shape = (len(masks), PATCH, PATCH)
    at = np.broadcast_arrays(np.arange(len(masks))[:, None, None], rows[:, :, None], columns[:, None, :])
    sampled = ndimage.map_coordinates(masks, [place.reshape(shape) for place in at], order=1)
    return sampled.reshape(len(masks), -1)


@lru_cache(maxsize=1)
def _bank() -> _Bank:
    masks, moments, at = [], [], {}
    first = 0
    for thing in THINGS:
        count = round(2 * math.pi / SYMMETRY[thing] / ANGLE_STEP) if SYMMETRY[thing] else 1
        angle = np.arange(count) * ANGLE_STEP
        still = np.ones(count)
        sharp = render_mask(thing, Track(0.5 * still, 0.5 * still, CANVAS_RADIUS * still, angle), CANVAS)
        side = math.sqrt(float(sharp[0].sum()))
        for blur in BLURS:
            drawn = _stretch(ndimage.gaussian_filter(sharp, (0, blur * side, blur * side)))
            x, y, area = _moments(drawn)
            masks.append(_patches(drawn, x, y, area))
            radius, centre = CANVAS_RADIUS * CANVAS, CANVAS / 2
            moments.append([area / radius**2, (x - centre) / radius, (y - centre) / radius])
        at[thing] = slice(first, first + count * len(BLURS))
        first = at[thing].stop
    bank = np.concatenate(masks).astype(np.float32)
    unit_area, unit_x, unit_y = np.concatenate(moments, axis=1)
    return _Bank(bank, (bank**2).sum(axis=1), unit_area, unit_x, unit_y, at)


def _match(patches: np.ndarray) -> _Match:
    """Classify the thing of the patches (F, N·N), pooled over the frames."""
    bank = _bank()
    shared = patches @ bank.masks.T
    overlap = shared / ((patches**2).sum(axis=1)[:, None] + bank.norms - shared)  # soft intersection over union
    by_thing = [overlap[:, bank.at[thing]].reshape(len(patches), len(BLURS), -1) for thing in THINGS]
    upright = np.stack([values[:, :, 0].max(axis=1) for values in by_thing], axis=1)
    free = np.stack([values.max(axis=(1, 2)) for values in by_thing], axis=1)
    turned = bool(free.mean(axis=0).max() > upright.mean(axis=0).max() + TURNED_GAIN)
    scores = free if turned else upright
    best = int(scores.mean(axis=0).argmax())
    nearest, value = THINGS[best], float(scores[:, best].mean())
    agreement = float(np.mean(scores[:, best] >= scores.max(axis=1) - NEARLY_BEST))
    return _Match(
        nearest=nearest,
        overlap=value,
        sure=value >= LEAST_OVERLAP and agreement >= LEAST_AGREEMENT,
        turned=turned,
        angles=_angles(nearest, by_thing[best].max(axis=1)),
        templates=bank.at[nearest].start + overlap[:, bank.at[nearest]].argmax(axis=1),
    )


def _angles(thing: str, overlap: np.ndarray) -> np.ndarray:
    """The best angle of each frame (F,), unwrapped, from the overlaps (F, angles) of one thing."""
    count = overlap.shape[1]
    if count == 1:
        return np.zeros(len(overlap))
    best, row = overlap.argmax(axis=1), np.arange(len(overlap))
    before, peak, after = (overlap[row, (best + shift) % count] for shift in (-1, 0, 1))
    bend = np.maximum(2 * peak - before - after, 1e-9)
    angle = (best + np.clip((after - before) / (2 * bend), -0.5, 0.5)) * ANGLE_STEP
    return np.unwrap(angle, period=2 * math.pi / SYMMETRY[thing])

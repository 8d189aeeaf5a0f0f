"""The sprites reader is right on what the world draws, bears small faults, and refuses broken videos."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from latentshift.data.sprites import (
    BACKGROUNDS,
    COLOURS,
    LASTING_MOTIONS,
    MOTIONS,
    SYMMETRY,
    THINGS,
    Sprite,
    Sprites,
    Track,
    draw_texture,
    draw_track,
    render,
    render_mask,
)
from latentshift.evaluation.sprites.reader import Reading, Scores, calibrate, read_clip, score, track

NAMES = ("background", "colour", "thing", "motion")
WORLD = Sprites(seed=31)


def levels(picture: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def make(sprite: Sprite, path: Track, seed: int = 0, size: int = 64) -> np.ndarray:
    return render(sprite, path, draw_texture(np.random.default_rng(seed), size))


def still(sprite: Sprite, **changes: np.ndarray) -> Track:
    """A path in the middle of the frame, of which some columns are given."""
    columns = {"x": np.full(16, 0.5), "y": np.full(16, 0.5), "radius": np.full(16, 0.2), "angle": np.zeros(16)}
    return Track(**(columns | changes))


def shaken(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blurred by 1 pixel, each frame shifted by 0.5 pixels or so, noise of 6 levels."""
    moved = [ndimage.shift(frame.astype(float), (*rng.normal(0, 0.5, 2), 0), order=1, mode="nearest") for frame in clip]
    return levels(ndimage.gaussian_filter(np.stack(moved), (0, 1, 1, 0)) + rng.normal(0, 6, clip.shape))


def scores_of(change: Callable[[np.ndarray, int], np.ndarray], count: int, world: Sprites = WORLD) -> Scores:
    clips = [world[index] for index in range(count)]
    return score([read_clip(change(clip, index)) for index, (clip, _) in enumerate(clips)], [s for _, s in clips])


def at_least(scores: Scores, share: float) -> None:
    assert min(getattr(scores, name) for name in NAMES) >= share, scores


@pytest.mark.parametrize(
    ("size", "held_out", "clips"), [(64, False, 200), (64, True, 200), (96, False, 50), (96, True, 50)]
)
def test_it_reads_what_the_world_renders(size, held_out, clips):
    scores = calibrate(size=size, clips=clips, seed=21, held_out=held_out)
    assert scores.n == clips
    at_least(scores, 0.99)


def test_it_reads_every_thing_in_every_motion():
    rng = np.random.default_rng(3)
    wrong = []
    for thing in THINGS:
        for motion in MOTIONS:
            if motion == "spinning" and SYMMETRY[thing] == 0:
                continue
            colour, background = rng.choice(list(COLOURS)), rng.choice(list(BACKGROUNDS))
            sprite = Sprite(str(colour), thing, motion, str(background))
            reading = read_clip(render(sprite, draw_track(rng, motion), draw_texture(rng, 64)))
            wrong += [(sprite, reading)] if any(getattr(reading, n) != getattr(sprite, n) for n in NAMES) else []
    assert not wrong


def test_it_reads_every_colour_on_every_background():
    for colour in COLOURS:
        for background in BACKGROUNDS:
            sprite = Sprite(colour, "star", "standing still", background)
            reading = read_clip(make(sprite, still(sprite))[:1])
            assert (reading.colour, reading.background, reading.thing) == (colour, background, "star")


def test_images_have_everything_but_a_motion():
    scores = calibrate(clips=200, seed=22, images=True)
    assert scores.motion is None
    assert min(scores.background, scores.colour, scores.thing, scores.joint) >= 0.99
    assert read_clip(WORLD[0][0][:1]).motion is None


@pytest.mark.parametrize("held_out", [False, True])
def test_it_bears_blur_noise_and_jitter(held_out):
    rng = np.random.default_rng(1)
    at_least(scores_of(lambda clip, _: shaken(clip, rng), 60, Sprites(seed=32, held_out=held_out)), 0.97)


def test_it_bears_colours_off_by_15_levels():
    rng = np.random.default_rng(2)

    def tint(clip: np.ndarray, index: int) -> np.ndarray:
        sprite, path, _ = WORLD.describe(index)
        mask = render_mask(sprite.thing, path, 64)[..., None]
        return levels(clip + mask * rng.choice([-15, 15], 3) + (1 - mask) * rng.choice([-15, 15], 3))

    at_least(scores_of(tint, 30), 0.97)


def test_it_bears_ringing_a_faint_ghost_and_one_lost_frame():
    def ringing(clip: np.ndarray, _: int) -> np.ndarray:
        soft = ndimage.gaussian_filter(clip.astype(float), (0, 1, 1, 0))
        return levels(soft + 0.8 * (soft - ndimage.gaussian_filter(soft, (0, 2, 2, 0))))

    def ghost(clip: np.ndarray, index: int) -> np.ndarray:
        sprite = WORLD.describe(index)[0]
        place = np.random.default_rng(index).uniform(0.15, 0.85, (2, 16))
        mask = 0.35 * render_mask("circle", Track(*place, np.full(16, 0.12), np.zeros(16)), 64)[..., None]
        return levels(clip * (1 - mask) + np.array(COLOURS[sprite.colour]) * mask)

    at_least(scores_of(ringing, 30), 0.97)
    at_least(scores_of(ghost, 30), 0.97)
    at_least(scores_of(lambda clip, index: without(clip, index, 1), 30), 0.95)


def without(clip: np.ndarray, index: int, lost: int) -> np.ndarray:
    """The clip with only the background in some frames."""
    sprite, _, texture = WORLD.describe(index)
    clip = clip.copy()
    gone = np.random.default_rng(index).choice(16, lost, replace=False)
    clip[gone] = levels(np.array(BACKGROUNDS[sprite.background]) + texture[..., None])
    return clip


def test_shuffled_frames_have_no_motion():
    rng = np.random.default_rng(4)
    for index in range(60):
        clip, sprite = WORLD[index]
        reading = read_clip(clip[rng.permutation(16)])
        assert reading.motion == (sprite.motion if sprite.motion == "standing still" else None)
        assert (reading.thing, reading.colour) == (sprite.thing, sprite.colour)


def test_the_same_frames_backwards_are_the_opposite_motion():
    opposite = {"left": "right", "right": "left", "up": "down", "down": "up"}
    pairs = {f"moving {a}": f"moving {b}" for a, b in opposite.items()} | {
        "growing": "shrinking",
        "shrinking": "growing",
    }
    for index in range(25):
        clip, sprite = WORLD[index]
        assert read_clip(clip[::-1]).motion == pairs.get(sprite.motion, sprite.motion)
        assert read_clip(np.repeat(clip[3:4], 16, axis=0)).motion == "standing still"


def test_a_thing_that_vanishes_has_no_motion():
    for index in range(20):
        clip = WORLD[index][0]
        assert read_clip(without(clip, index, 3)).motion is None
        mostly_gone = read_clip(without(clip, index, 9))
        assert mostly_gone.motion is None
        assert mostly_gone.thing is None


def test_a_thing_that_jumps_about_has_no_motion():
    rng = np.random.default_rng(5)
    for index in range(20):
        sprite = Sprite("red", THINGS[index % 8], "standing still", "gray")
        path = still(sprite, x=rng.uniform(0.3, 0.7, 16), y=rng.uniform(0.3, 0.7, 16))
        assert read_clip(make(sprite, path)).motion is None
        halfway = still(sprite, x=np.repeat([0.3, 0.7], 8))  # stands, jumps, stands
        assert read_clip(make(sprite, halfway)).motion is None


def test_two_motions_at_once_or_a_slant_are_none():
    sprite = Sprite("cyan", "square", "standing still", "black")
    way = np.linspace(0.3, 0.7, 16)
    for path in (
        still(sprite, x=way, y=way),
        still(sprite, x=way, radius=np.linspace(0.12, 0.25, 16)),
        still(sprite, x=way, angle=np.linspace(0, 4, 16)),
        still(sprite, x=np.linspace(0.43, 0.57, 16)),  # too far to stand, too near to move
    ):
        reading = read_clip(make(sprite, path))
        assert reading.motion is None
        assert reading.thing == "square"
    assert read_clip(make(sprite, still(sprite, x=way))).motion == "moving right"
    assert read_clip(make(sprite, still(sprite, angle=np.linspace(0, 4, 16)))).motion == "spinning"


def test_hops_upside_down_are_no_bounces():
    sprite = Sprite("cyan", "heart", "bouncing", "black")
    path = draw_track(np.random.default_rng(6), "bouncing")
    assert read_clip(make(sprite, path)).motion == "bouncing"
    assert read_clip(make(sprite, dataclasses.replace(path, y=1 - path.y))).motion is None


def test_background_alone_shows_nothing_else():
    for background, colour in BACKGROUNDS.items():
        texture = draw_texture(np.random.default_rng(7), 64)
        empty = np.repeat(levels(np.array(colour) + texture[..., None])[None], 16, axis=0)
        for clip in (empty, empty[:1], levels(np.full((16, 64, 64, 3), colour))):
            reading = read_clip(clip)
            assert reading == Reading(background, None, None, None, frames=len(clip))
            assert not reading.tracks.seen.any()
            assert np.isnan(reading.tracks.x).all()


def test_noise_and_blank_frames_show_nothing():
    noise = np.random.default_rng(8).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
    for clip in (noise, np.full((16, 64, 64, 3), 255, np.uint8)):
        reading = read_clip(clip)
        assert (reading.background, reading.thing, reading.motion) == (None, None, None)


@pytest.mark.parametrize("second", ["red", "blue", "white"])
def test_two_things_are_not_read_as_one(second):
    sprite = Sprite("red", "star", "moving right", "navy")
    path = still(sprite, x=np.linspace(0.25, 0.7, 16), y=np.full(16, 0.27))
    clip = make(sprite, path)
    assert read_clip(clip).thing == "star"
    for thing in THINGS:
        mask = render_mask(thing, still(sprite, y=np.full(16, 0.75), radius=np.full(16, 0.15)), 64)[..., None]
        reading = read_clip(levels(clip * (1 - mask) + np.array(COLOURS[second]) * mask))
        assert reading.thing is None
        assert reading.motion is None
        assert reading.tracks.crowded.all()


def test_things_that_touch_change_or_are_unknown_have_no_name():
    circle = Sprite("green", "circle", "standing still", "black")
    square = Sprite("green", "square", "standing still", "black")
    path = still(circle)
    mask = np.maximum(render_mask("circle", path, 64), render_mask("circle", still(circle, x=np.full(16, 0.7)), 64))
    touching = levels(mask[..., None] * np.array(COLOURS["green"]))
    changing = np.concatenate([make(circle, path)[:8], make(square, path)[8:]])
    bar = np.zeros((16, 64, 64, 3), np.uint8)
    bar[:, 28:36, 12:52] = COLOURS["green"]
    for clip in (touching, changing, bar):
        reading = read_clip(clip)
        assert reading.thing is None
        assert reading.motion is None  # it may be spinning, for all one can say
        assert reading.colour == "green"


def test_a_thing_of_two_colours_has_no_colour():
    red = Sprite("red", "square", "standing still", "black")
    cyan = dataclasses.replace(red, colour="cyan")
    first, second = make(red, still(red)), make(cyan, still(cyan))
    in_time = np.concatenate([first[:8], second[8:]])
    in_space = np.concatenate([first[:, :, :32], second[:, :, 32:]], axis=2)
    for clip in (in_time, in_space):
        reading = read_clip(clip)
        assert reading.colour is None
        assert reading.thing is None or reading.motion is None


def test_tracks_are_the_ones_that_were_drawn():
    for index in range(40):
        sprite, path, _ = WORLD.describe(index)
        tracks = track(WORLD[index][0])
        assert tracks.seen.all()
        assert not tracks.crowded.any()
        assert tracks.thing == tracks.nearest == sprite.thing
        assert np.hypot(tracks.x - path.x, tracks.y - path.y).max() * 64 < 0.75
        assert np.abs(tracks.radius / path.radius - 1).max() < 0.04
        assert np.allclose(tracks.area, render_mask(sprite.thing, path, 64).mean(axis=(1, 2)), rtol=0.06)
        if SYMMETRY[sprite.thing]:
            period = 2 * math.pi / SYMMETRY[sprite.thing]
            off = (tracks.angle - path.angle + period / 2) % period - period / 2
            assert np.abs(off).max() < 0.1
            assert np.ptp(tracks.angle) == pytest.approx(np.ptp(path.angle), abs=0.15)
        else:
            assert (tracks.angle == 0).all()
        assert tracks.turned == (sprite.motion == "spinning")


@pytest.mark.parametrize(
    "video",
    [
        np.zeros((16, 64, 64, 3), np.float32),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((16, 3, 64, 64), np.uint8),
        np.zeros((16, 64, 48, 3), np.uint8),
        np.zeros((0, 64, 64, 3), np.uint8),
        np.zeros((16, 31, 31, 3), np.uint8),
        [[0]],
    ],
)
def test_other_arrays_are_refused(video):
    with pytest.raises(ValueError, match="a video"):
        read_clip(video)
    with pytest.raises(ValueError, match="a video"):
        track(video)


def test_short_clips_have_no_motion():
    clip = WORLD[0][0]
    assert read_clip(clip[:8]).motion is None
    assert read_clip(clip[:8]).thing == WORLD[0][1].thing


@pytest.mark.parametrize("frames", [32, 64])
def test_it_reads_motions_that_go_on(frames):
    at_least(calibrate(clips=24, seed=24, num_frames=frames, motions=LASTING_MOTIONS), 1.0)


def test_over_a_longer_clip_the_motion_has_to_last():
    star, steps = Sprite("red", "star", "standing still", "navy"), np.arange(64) / 63
    columns = {"x": np.full(64, 0.5), "y": np.full(64, 0.5), "radius": np.full(64, 0.2), "angle": np.zeros(64)}
    assert read_clip(make(star, Track(**columns))).motion == "standing still"
    drift = {"x": 0.4 + 0.2 * steps}  # 0.05 over 16 frames, which would pass there
    assert read_clip(make(star, Track(**columns | drift))).motion is None
    assert read_clip(make(star, Track(**columns | drift))[:16]).motion == "standing still"
    for motion in ("bouncing", "circling", "spinning"):
        path = draw_track(np.random.default_rng(3), motion, 64)
        stops = Track(*(np.concatenate([each[:32], np.repeat(each[31:32], 32)]) for each in dataclasses.astuple(path)))
        sprite = dataclasses.replace(star, motion=motion)
        assert read_clip(make(sprite, path)).motion == motion
        assert read_clip(make(sprite, stops)).motion is None


def test_scores_count_each_word_and_all_at_once():
    sprite = Sprite("red", "star", "growing", "navy")
    right = Reading("navy", "red", "star", "growing", frames=16)
    readings = [
        right,
        dataclasses.replace(right, motion=None),
        dataclasses.replace(right, colour="blue", thing=None),
        dataclasses.replace(right, motion=None, frames=1),
    ]
    scores = score(readings, [sprite] * 4)
    expected = {"n": 4, "background": 1.0, "colour": 0.75, "thing": 0.75, "motion": 2 / 3, "joint": 0.5}
    assert scores.to_dict() == pytest.approx(expected)
    assert score(readings[3:], [sprite]).to_dict()["motion"] is None
    for readings, sprites in (([], []), ([right], [sprite, sprite])):
        with pytest.raises(ValueError, match="as many readings as sprites"):
            score(readings, sprites)
    with pytest.raises(ValueError, match="as many readings as sprites"):
        calibrate(clips=0)

"""The sprites world keeps its promises."""

from __future__ import annotations

import hashlib
import math
import re

import numpy as np
import pytest

from latentshift.data.sprites import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SYMMETRY,
    TEXTURE_LEVELS,
    THINGS,
    VERSION,
    Sprite,
    Sprites,
    Track,
    draw_texture,
    draw_track,
    held_out_triples,
    render_mask,
    signed_distance,
    triples,
    words,
)

HELD_OUT_SHA256 = "666cbd3526d2963248ce20022996334274baa6a9d0f09fbfaa18f76d6d0224e5"
CAPTION = re.compile(
    f"a ({'|'.join(COLOURS)}) ({'|'.join(THINGS)})( ({'|'.join(MOTIONS)}))? on a ({'|'.join(BACKGROUNDS)}) background"
)


def one(x: float = 0.5, y: float = 0.5, radius: float = 0.25, angle: float = 0.0) -> Track:
    return Track(*(np.array([value]) for value in (x, y, radius, angle)))


def tracks_of(motion: str, count: int = 60) -> list[Track]:
    return [draw_track(np.random.default_rng([5, index]), motion) for index in range(count)]


def test_a_clip_is_settled_by_seed_split_and_index():
    clip, sprite = Sprites(seed=3)[7]
    again, same = Sprites(seed=3)[7]
    assert clip.dtype == np.uint8
    assert clip.shape == (16, 64, 64, 3)
    assert sprite == same
    assert np.array_equal(clip, again)
    for other in (Sprites(seed=4)[7], Sprites(seed=3)[8], Sprites(seed=3, held_out=True)[7]):
        assert not np.array_equal(clip, other[0])


def test_the_streams_are_pinned():
    # Reports are compared across machines and years, so the stream must not drift with numpy or a refactoring.
    assert [Sprites(seed=0).describe(index)[0].caption() for index in range(3)] == [
        "a purple heart spinning on a navy background",
        "a yellow diamond spinning on a black background",
        "a purple star moving up on a gray background",
    ]
    assert Sprites(seed=0, held_out=True).describe(0)[0].caption() == "a cyan star circling on a brown background"
    for world in (Sprites(seed=3), Sprites(seed=3, held_out=True)):
        assert [world.sprite(index) for index in range(20)] == [world.describe(index)[0] for index in range(20)]


def test_the_pictures_are_pinned():
    # What is encoded once is kept for as long as VERSION stays: whoever changes a clip has to raise it.
    assert VERSION == 1
    pinned = [
        ((27.51, 22.9, 91.14), (0.2123, 0.6864, 0.1825, 1.1358)),
        ((22.44, 21.23, 10.72), (0.3883, 0.321, 0.2146, -2.5124)),
        ((123.68, 116.29, 127.38), (0.6976, 0.2845, 0.2226, 0.0)),
    ]
    for index, (colour, place) in enumerate(pinned):
        clip, _ = Sprites(seed=0)[index]
        track = Sprites(seed=0).describe(index)[1]
        assert clip[-1].mean(axis=(0, 1)) == pytest.approx(colour, abs=0.05)
        assert [track.x[-1], track.y[-1], track.radius[-1], track.angle[-1]] == pytest.approx(place, abs=1e-4)


def test_the_size_changes_the_pixels_only():
    small, large = Sprites(size=32, seed=1).describe(5), Sprites(size=96, seed=1).describe(5)
    assert small[0] == large[0]
    assert np.array_equal(small[1].x, large[1].x)
    assert small[2].shape == (32, 32)
    assert large[2].shape == (96, 96)
    assert Sprites(size=32)[0][0].shape == (16, 32, 32, 3)
    assert Sprites(num_frames=5)[0][0].shape == (5, 64, 64, 3)


def test_captions_follow_one_grammar_of_known_words():
    known = set(words())
    assert len(words()) == len(known)
    for index in range(200):
        sprite = Sprites(seed=2).describe(index)[0]
        moving, still = sprite.caption(), sprite.caption(with_motion=False)
        match = CAPTION.fullmatch(moving)
        assert match
        assert match.group(1, 2, 4, 5) == (sprite.colour, sprite.thing, sprite.motion, sprite.background)
        assert CAPTION.fullmatch(still)
        assert sprite.motion not in still
        assert set(moving.split()) | set(still.split()) <= known


def test_a_fixed_tenth_of_the_triples_is_held_out():
    everything, held = triples(), held_out_triples()
    assert len(everything) == len(set(everything)) == 8 * 8 * 10 - 8 * 2
    assert len(held) == 62
    assert held <= set(everything)
    listed = "\n".join(sorted(" ".join(triple) for triple in held))
    assert hashlib.sha256(listed.encode()).hexdigest() == HELD_OUT_SHA256
    # Each word occurs on both sides, so the held-out ones ask for new combinations and not for new words.
    for place, all_words in enumerate((COLOURS, THINGS, MOTIONS)):
        assert {triple[place] for triple in held} == set(all_words)
        assert {triple[place] for triple in set(everything) - held} == set(all_words)


@pytest.mark.parametrize("held_out", [False, True])
def test_clips_draw_from_their_own_triples_and_evenly_over_the_motions(held_out):
    world = Sprites(size=32, seed=9, held_out=held_out)
    drawn = [world.describe(index)[0] for index in range(1000)]
    assert all((sprite.triple in held_out_triples()) == held_out for sprite in drawn)
    for motion in MOTIONS:
        assert 60 <= sum(sprite.motion == motion for sprite in drawn) <= 140
    for background in BACKGROUNDS:
        assert 190 <= sum(sprite.background == background for sprite in drawn) <= 310
    assert len({sprite.triple for sprite in drawn}) > (450 if not held_out else 55)


def test_nothing_round_spins():
    assert not [triple for triple in triples() if triple[2] == "spinning" and triple[1] in ("circle", "ring")]
    for thing in ("circle", "ring"):
        with pytest.raises(ValueError, match="spins shows nothing"):
            Sprite("red", thing, "spinning", "black")


@pytest.mark.parametrize(
    "wrong",
    [
        ("pink", "circle", "growing", "black"),
        ("red", "hexagon", "growing", "black"),
        ("red", "circle", "flying", "black"),
        ("red", "circle", "growing", "white"),
    ],
)
def test_unknown_words_are_refused(wrong):
    with pytest.raises(ValueError, match="sprites know no"):
        Sprite(*wrong)


def test_impossible_clips_are_refused():
    with pytest.raises(ValueError, match="32 pixels"):
        Sprites(size=31)
    with pytest.raises(ValueError, match="at least one frame"):
        Sprites(num_frames=0)
    with pytest.raises(ValueError, match="sprites know no 'blob'"):
        signed_distance("blob", np.zeros(1), np.zeros(1))


def test_the_texture_is_faint_smooth_and_different_each_time():
    for seed in range(20):
        texture = draw_texture(np.random.default_rng(seed), 64)
        assert np.abs(texture).max() <= TEXTURE_LEVELS
        assert np.ptp(texture) > TEXTURE_LEVELS / 2
        assert max(np.abs(np.diff(texture, axis=axis)).max() for axis in (0, 1)) < 2
    assert not np.array_equal(texture, draw_texture(np.random.default_rng(0), 64))


def test_colours_are_exact_inside_the_thing_and_within_the_texture_outside():
    world = Sprites(seed=6)
    for index in range(60):
        sprite, track, _ = world.describe(index)
        clip, mask = world[index][0], render_mask(sprite.thing, track, 64)
        inside, outside = clip[mask == 1].astype(int), clip[mask == 0].astype(int)
        assert len(inside) > 100
        assert len(outside) > 16 * 64 * 64 / 2
        assert (inside == COLOURS[sprite.colour]).all()
        assert np.abs(outside - BACKGROUNDS[sprite.background]).max() <= TEXTURE_LEVELS


def test_colours_stand_apart():
    # A reader, or a person, has to tell them: from each other, and from every background with its texture.
    palette = np.array([*COLOURS.values(), *BACKGROUNDS.values()], float)
    apart = np.linalg.norm(palette[:, None] - palette[None], axis=2) + 1e9 * np.eye(len(palette))
    assert apart.min() > 3 * TEXTURE_LEVELS * math.sqrt(3)


@pytest.mark.parametrize(
    ("thing", "area"),
    [
        ("circle", math.pi * 0.9**2),
        ("square", 1.6**2),
        ("ring", math.pi * (0.98**2 - 0.5**2)),
        ("diamond", 2 * 0.62 * 1.05),
        ("triangle", 3 * math.sqrt(3) * 0.55**2),
        ("cross", 2 * 1.96 * 0.6 - 0.6**2),
        ("star", 5 * 1.1 * 0.46 * math.sin(math.pi / 5)),
    ],
)
def test_masks_cover_what_geometry_says(thing, area):
    mask = render_mask(thing, one(radius=0.4), 128)
    assert mask.min() == 0
    assert mask.max() == 1
    assert mask.sum() / 128**2 == pytest.approx(area * 0.4**2, rel=0.02)


@pytest.mark.parametrize("thing", THINGS)
def test_symmetry_is_what_a_turn_leaves_alone(thing):
    upright = render_mask(thing, one(angle=0.3), 96)

    def change(turn: float) -> float:
        return float(np.abs(render_mask(thing, one(angle=0.3 + turn), 96) - upright).sum() / upright.sum())

    fold = SYMMETRY[thing]
    if fold == 0:
        assert change(0.7) < 1e-6
        return
    assert change(2 * math.pi / fold) < 1e-6
    # Half and a third of that turn do change it.
    assert min(change(2 * math.pi / (fold * part)) for part in (2, 3)) > 0.08


@pytest.mark.parametrize("thing", THINGS)
def test_things_stand_upright_and_turn_clockwise(thing):
    mask = render_mask(thing, one(), 96)[0]
    assert np.allclose(mask, mask[:, ::-1], atol=1e-9)  # left and right mirror each other
    if thing == "diamond":  # a quarter turn lays it down
        assert np.ptp(np.nonzero(mask)[0]) > 1.5 * np.ptp(np.nonzero(mask)[1])
    if thing == "triangle":
        assert mask[:48].sum(axis=1).argmax() == 47
        assert mask.sum(axis=1)[:20].sum() < 1
        tip = np.argwhere(render_mask(thing, one(angle=0.4), 96)[0] > 0.5)
        assert tip[tip[:, 0].argmin(), 1] > 50  # the upper corner leans to the right
    if thing == "heart":
        assert mask[:48].sum() > 1.2 * mask[48:].sum()


def test_things_stay_inside_the_frame():
    inside = []
    for index in range(250):
        sprite, track, _ = Sprites(seed=8).describe(index)
        some = slice(0, 16, 3)  # first and last among them
        far = Track(track.x[some] / 2 + 0.25, track.y[some] / 2 + 0.25, track.radius[some] / 2, track.angle[some])
        wide = render_mask(sprite.thing, far, 96)  # the frame is the middle quarter
        assert wide[:, [0, -1]].sum() == 0
        assert wide[:, :, [0, -1]].sum() == 0
        inside.append((wide[:, 24:72, 24:72].sum(axis=(1, 2)) / wide.sum(axis=(1, 2))).min())
    assert min(inside) >= 0.95
    assert np.mean(np.array(inside) > 0.99) > 0.95


@pytest.mark.parametrize("motion", ["moving left", "moving right", "moving up", "moving down"])
def test_moving_things_go_straight(motion):
    for track in tracks_of(motion):
        along, across = (track.x, track.y) if motion.split()[1] in ("left", "right") else (track.y, track.x)
        steps = np.diff(along) * (1 if motion.split()[1] in ("right", "down") else -1)
        assert steps.min() > 0
        assert steps.sum() >= 0.36 - 1e-9
        assert np.ptp(steps) < 1e-9
        assert np.ptp(across) == np.ptp(track.radius) == np.ptp(track.angle) == 0


def test_bouncing_things_hop_on_a_floor():
    for track in tracks_of("bouncing"):
        assert np.ptp(track.x) == np.ptp(track.radius) == np.ptp(track.angle) == 0
        assert np.ptp(track.y) > 0.2
        ways = np.sign(np.diff(track.y))
        assert (ways[1:] != ways[:-1]).sum() >= 2  # up and down again, more than once
        # Free fall: the same downward pull at every moment, but for the frames about a bounce.
        pull = np.diff(track.y, 2)
        assert np.isclose(pull, np.median(pull), atol=1e-9).sum() >= 8
        assert np.median(pull) > 0


def test_circling_things_go_round_a_centre():
    ways = set()
    for track in tracks_of("circling"):
        place = track.x + 1j * track.y
        # The circle through all places, by least squares of |p|² on p.
        system = np.stack([track.x, track.y, np.ones(16)], axis=1)
        fit = np.linalg.lstsq(system, np.abs(place) ** 2, rcond=None)[0]
        spokes = place - (fit[0] + 1j * fit[1]) / 2
        assert np.ptp(np.abs(spokes)) < 1e-9
        assert 0.15 <= np.abs(spokes[0]) <= 0.22
        steps = np.angle(spokes[1:] / spokes[:-1])
        assert 0.85 <= abs(steps.sum()) / (2 * math.pi) <= 1.15
        assert np.ptp(steps) < 1e-9
        ways.add(np.sign(steps[0]))
        assert np.ptp(track.radius) == np.ptp(track.angle) == 0
    assert ways == {-1.0, 1.0}


def test_growing_and_shrinking_things_stay_where_they_are():
    for motion, way in (("growing", 1), ("shrinking", -1)):
        for track in tracks_of(motion):
            assert (way * np.diff(track.radius) > 0).all()
            assert track.radius.max() / track.radius.min() > 1.8
            assert np.ptp(track.x) == np.ptp(track.y) == np.ptp(track.angle) == 0


def test_spinning_things_turn_where_they_are_and_slowly_enough_to_follow():
    ways = set()
    for track in tracks_of("spinning"):
        steps = np.diff(track.angle)
        assert np.ptp(steps) < 1e-9
        assert 0.55 <= abs(steps.sum()) / (2 * math.pi) <= 0.85
        assert abs(steps[0]) < math.pi / max(SYMMETRY.values())  # a star would seem to turn the other way
        assert np.ptp(track.x) == np.ptp(track.y) == np.ptp(track.radius) == 0
        ways.add(np.sign(steps[0]))
    assert ways == {-1.0, 1.0}


def test_standing_still_is_one_frame_again_and_again_and_nothing_else_is():
    world = Sprites(size=32, seed=4)
    for index in range(60):
        clip, sprite = world[index]
        assert (clip == clip[:1]).all() == (sprite.motion == "standing still")


def test_a_frame_is_one_of_its_clip():
    world = Sprites(size=32, seed=12)
    times = []
    for index in range(60):
        clip, sprite = world[index]
        frame, same = world.frame(index)
        assert frame.dtype == np.uint8
        assert same == sprite
        equal = [moment for moment in range(16) if np.array_equal(clip[moment], frame)]
        assert equal
        assert np.array_equal(frame, world.frame(index)[0])
        if sprite.motion.startswith("moving"):
            times += equal
    assert len(set(times)) > 8  # of any time, not always the first

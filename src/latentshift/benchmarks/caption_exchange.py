"""Captions of the sprites world with one word exchanged, and which models can have its clips. Needs numpy alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from latentshift.data.sprites import BACKGROUNDS, COLOURS, MOTIONS, NUM_FRAMES, SYMMETRY, THINGS, Sprite

EXCHANGES = ("motion", "colour", "thing", "background")

_PAIRS = (
    ("moving left", "moving right"),
    ("moving up", "moving down"),
    ("growing", "shrinking"),
    ("circling", "bouncing"),
    ("spinning", "standing still"),
)
_OTHER_MOTION = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}
_WORDS = {"colour": tuple(COLOURS), "thing": THINGS, "background": tuple(BACKGROUNDS)}


def check_exchange(kind: str) -> None:
    """Refuse an unknown kind of words.

    Raises:
        ValueError: with those that there are.
    """
    if kind not in EXCHANGES:
        raise ValueError(f"--exchange must be one of {', '.join(EXCHANGES)}, not {kind!r}")


def check_motions(motions: Collection[str]) -> None:
    """Refuse motions that the world does not know, or none at all.

    Raises:
        ValueError: with those that there are.
    """
    if not motions or not set(motions) <= set(MOTIONS):
        unknown = ", ".join(map(repr, sorted(set(motions) - set(MOTIONS)))) or "none"
        raise ValueError(f"--motions must be of {', '.join(MOTIONS)}, not {unknown}")


def check_frames(num_frames: int) -> None:
    """Refuse a model whose videos are no clips of the sprites world.

    Raises:
        ValueError: unless they have 2 to 16 frames.
    """
    if not 2 <= num_frames <= NUM_FRAMES:
        raise ValueError(
            f"bench captions is for models of 2 to {NUM_FRAMES} frames, which the sprites world's clips have, and this "
            f"one's videos have {num_frames:,}"
        )


def exchange_word(sprite: Sprite, kind: str) -> Sprite:
    """The sprite with another word of a kind, always the same one.

    A motion's is its opposite or the one most like it: left and right, up and down, growing and shrinking, circling and
    bouncing, spinning and standing still (circling for what shows nothing when it spins). That of a colour, thing or
    background is the next in the world's list that makes a sprite.

    Args:
        sprite: of a clip.
        kind: one of ``EXCHANGES``.
    """
    turns = SYMMETRY[sprite.thing] != 0
    if kind == "motion":
        other = _OTHER_MOTION[sprite.motion]
        return replace(sprite, motion="circling" if other == "spinning" and not turns else other)
    words = _WORDS[kind]
    own = words.index(getattr(sprite, kind))
    others = words[own + 1 :] + words[:own]
    if kind == "thing" and sprite.motion == "spinning":
        others = tuple(word for word in others if SYMMETRY[word] != 0)
    return replace(sprite, **{kind: others[0]})

"""Ways to sample, as ``bench sampling`` compares them: read from words. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from latentshift.diffusion.fewer_operations import FewerOperations, parse_guidance_interval
from latentshift.diffusion.sampler_names import DISTILLED_SAMPLERS, SAMPLERS

EXACT = "exact"
DEFAULT_WAYS = (
    "steps=50",
    "steps=25",
    "sampler=euler-a steps=25",
    "sampler=dpm++ steps=25",
    "sampler=unipc steps=20",
    "guidance-interval=300:999",
    "deep-cache=2",
    "deep-cache=3 deep-cache-branch=1",
    "guidance-interval=300:999 deep-cache=2",
)
_OPTIONS = ("sampler", "steps", "guidance-interval", "deep-cache", "deep-cache-branch")


@dataclass(frozen=True)
class Way:
    """One way to sample.

    Attributes:
        name: its options with their values, always in the same order.
        sampler: None: the model's.
        steps: None: as many as the exact result has.
        fewer: what calls leave out.
    """

    name: str
    sampler: str | None
    steps: int | None
    fewer: FewerOperations

    @property
    def slug(self) -> str:
        """Of its name, for a folder."""
        return self.name.replace(" ", "_").replace("=", "-").replace(":", "-")


def parse_way(words: str) -> Way:
    """Options of ``generate`` with their values, as ``sampler=unipc steps=20``.

    Raises:
        ValueError: for an unknown option, or a value that it can't have.
    """
    given: dict[str, str] = {}
    for word in words.split():
        name, equals, value = word.partition("=")
        if name not in _OPTIONS or not equals:
            raise ValueError(f"{word!r} in --way {words!r} is none of {', '.join(f'{each}=…' for each in _OPTIONS)}")
        if name in given:
            raise ValueError(f"{name} is given twice in --way {words!r}")
        given[name] = value
    if not given:
        raise ValueError('--way is empty: name what to compare, as "deep-cache=2"')
    sampler, interval = given.get("sampler"), given.get("guidance-interval")
    if sampler is not None and sampler not in SAMPLERS | DISTILLED_SAMPLERS:  # the latter are refused elsewhere
        raise ValueError(f"unknown sampler {sampler!r} in --way {words!r}: choose from {', '.join(SAMPLERS)}")
    steps = _count("steps", given.get("steps"), 1, words)
    cache = _count("deep-cache", given.get("deep-cache"), 2, words)
    branch = _count("deep-cache-branch", given.get("deep-cache-branch"), 0, words)
    if branch is not None and cache is None:
        raise ValueError(f"deep-cache-branch has no effect without deep-cache in --way {words!r}")
    try:
        fewer = FewerOperations(None if interval is None else parse_guidance_interval(interval), cache, branch or 0)
    except ValueError as error:
        raise ValueError(f"{error}, in --way {words!r}") from None
    return Way(" ".join(f"{name}={given[name]}" for name in _OPTIONS if name in given), sampler, steps, fewer)


def parse_ways(ways: Sequence[str] | None) -> list[Way]:
    """All of them, each once; None: the default ones.

    Raises:
        ValueError: for a way that is none.
    """
    return list({way.name: way for way in map(parse_way, ways or DEFAULT_WAYS)}.values())


def _count(name: str, value: str | None, least: int, words: str) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal()) or int(value) < least:
        raise ValueError(f"{name} must be a whole number of {least} or more in --way {words!r}, not {value!r}")
    return int(value)

"""The comparisons of a study, written into its database: pairs, attention checks, sides and order, all by seed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from latentshift.study.database import transaction
from latentshift.study.seeded import seeded
from latentshift.study.settings import StudySettings


@dataclass(frozen=True)
class ClipFile:
    """A clip of the study.

    Attributes:
        system: its name.
        prompt: that it was made for.
        broken: whether it is the broken twin of the clip.
        file: its name in ``clips/``, which tells nothing of the rest.
    """

    system: str
    prompt: str
    broken: bool
    file: str


def check_check_counts(clips: int, broken: int, identical: int) -> None:
    """Refuse a number of attention checks that a study of so many clips can't have.

    Raises:
        ValueError: for more attention checks of a kind than clips, or fewer than none.
    """
    for kind, count in (("broken", broken), ("identical", identical)):
        if not 0 <= count <= clips:
            raise ValueError(f"a study of {clips:,} clips has 0 to {clips:,} {kind} attention checks, not {count:,}")


def write_design(
    database: sqlite3.Connection,
    settings: StudySettings,
    prompts: Sequence[str],
    suffixes: Mapping[str, Mapping[str, str]],
    *,
    twin_suffix: Callable[[str], str] = str,
    broken: int = 0,
    identical: int = 0,
) -> list[ClipFile]:
    """Fill an empty database, and give the clips that the study needs.

    Args:
        database: of ``create_database``.
        settings: of the study.
        prompts: all different.
        suffixes: of the file of each system and prompt; the order of systems is the study's.
        twin_suffix: of a file's suffix, that of its broken twin.
        broken: number of attention checks with a broken twin.
        identical: number of attention checks with one clip twice.

    Raises:
        ValueError: for more attention checks than clips, or fewer than none.
    """
    seed = settings.seed
    wanted = [(system, prompt, False) for system in suffixes for prompt in prompts]
    check_check_counts(len(wanted), broken, identical)
    # The clips of the two kinds are from the ends of one order, so that they differ as far as there are enough.
    chosen = sorted(wanted, key=lambda clip: seeded(seed, "checked", *clip))
    twins = [(system, prompt, True) for system, prompt, _ in chosen[:broken]]
    order = sorted([*wanted, *twins], key=lambda clip: seeded(seed, "file", *clip))
    numbers = {clip: number for number, clip in enumerate(order, 1)}
    suffix_of = (lambda suffix: suffix, twin_suffix)
    clips = [
        ClipFile(system, prompt, twin, f"{number:05}{suffix_of[twin](suffixes[system][prompt])}")
        for (system, prompt, twin), number in numbers.items()
    ]
    pairs = [
        ("vote", numbers[one, prompt, False], numbers[two, prompt, False])
        for prompt in prompts
        for one, two in combinations(suffixes, 2)
    ]
    checks = [("broken", numbers[system, prompt, False], numbers[system, prompt, True]) for system, prompt, _ in twins]
    checks += [("identical", numbers[clip], numbers[clip]) for clip in chosen[len(chosen) - identical :]]
    with transaction(database):
        database.execute("INSERT INTO settings VALUES (1, ?)", (settings.to_json(),))
        places = {name: place for place, name in enumerate(suffixes, 1)}
        database.executemany("INSERT INTO systems VALUES (?, ?)", [(place, name) for name, place in places.items()])
        database.executemany(
            "INSERT INTO clips VALUES (?, ?, ?, ?, ?)",
            [(numbers[c.system, c.prompt, c.broken], places[c.system], c.prompt, c.file, c.broken) for c in clips],
        )
        database.executemany(
            "INSERT INTO comparisons VALUES (?, ?, ?, ?, ?)",
            [(number, *pair, seeded(seed, "shuffle", *pair)) for number, pair in enumerate([*pairs, *checks], 1)],
        )
        # Half of a comparison's raters see either side, up to one, and the seed says who is first.
        database.executemany(
            "INSERT INTO assignments (comparison, number, swapped) VALUES (?, ?, ?)",
            [
                (comparison, number, (number + seeded(seed, "side", *pair)) % 2)
                for comparison, pair in enumerate(pairs, 1)
                for number in range(settings.raters_each)
            ],
        )
    return clips

"""Which true clip each clip of a folder is compared with: the one of the same name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from latentshift.data.media import is_media
from latentshift.evaluation.protocols.plan import Item
from latentshift.evaluation.report.schema import Rejected


@dataclass(frozen=True)
class Pairs:
    """Clips with the true clip of each.

    Attributes:
        items: the clips that have one, in their order.
        true_of: the true clip, by the clip's file.
        rejected: clips that have none.
        lonely: true clips that no clip has the name of.
        of: how many true clips there are.
    """

    items: list[Item]
    true_of: dict[str, Item]
    rejected: list[Rejected]
    lonely: list[Item]
    of: int

    def notes(self, *, compared: bool) -> list[str]:
        """A sentence on the lonely true clips, if there are any.

        Args:
            compared: whether all clips are compared with all true clips, by an extractor's distances.
        """
        if not self.lonely:
            return []
        counted = "they count in distances alone" if compared else "they count in no number"
        return [
            f"{len(self.lonely):,} of {self.of:,} true clips are in no pair, such as {self.lonely[0].name}: {counted}."
        ]


def pair_by_name(clips: Path, items: Sequence[Item], reference: Path, true_items: Sequence[Item]) -> Pairs:
    """Pair clips with the true clips that have their names, whatever the suffixes.

    Args:
        clips: folder of the clips, for messages.
        items: in it.
        reference: folder of the true clips.
        true_items: in it.

    Raises:
        ValueError: if two clips of a folder have one name, or no clip has a true one.
    """
    ours, theirs = _by_name(clips, items), _by_name(reference, true_items)
    pairs = {name: (item, theirs[name]) for name, item in ours.items() if name in theirs}
    if not pairs:
        raise ValueError(
            f"--paired finds no pair: no clip in {clips} has the name of one in {reference}, such as "
            f"{next(iter(theirs))}; name each clip as its true clip"
        )
    rejected = [
        Rejected(file=item.name, reason="no true clip has its name") for name, item in ours.items() if name not in pairs
    ]
    lonely = [item for name, item in theirs.items() if name not in pairs]
    return Pairs(
        [item for item, _ in pairs.values()],
        {item.file or "": true for item, true in pairs.values()},
        rejected,
        lonely,
        len(theirs),
    )


def _by_name(folder: Path, items: Sequence[Item]) -> dict[str, Item]:
    named: dict[str, Item] = {}
    for item in items:
        path = PurePath(item.file or "")
        name = str(path.with_suffix("") if is_media(path.name) else path)
        if name in named:
            raise ValueError(
                f"--paired can't tell {named[name].name} and {item.name} in {folder} apart: both are named {name}"
            )
        named[name] = item
    return named

"""What a folder of encoded clips is a function of, and where in it everything lies.

A folder holds ``index.json`` (the plan), ``manifest.jsonl`` (the rows), ``left-out.jsonl`` (what the source had to
leave out), and for each shard ``shard-00012.safetensors`` with ``shard-00012.json`` beside it (counts, refusals,
checksum).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latentshift.bounded_read import load_json_bounded
from latentshift.data.footage.framing import Framing
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Manifest
from latentshift.files import atomic_write_text

_MAX_FACTS = 2**28  # bytes of what is said of a shard, which names all that was refused


@dataclass(frozen=True)
class LatentSpec:
    """What the shards are a function of.

    Attributes:
        manifest: digest of the rows.
        autoencoder: digest of the autoencoder.
        precision: in which it calculates, e.g. ``"float32"``.
        text: digest of the text encoder and its tokenizer; None where text is not kept.
        window: how clips are taken.
        framing: their shape.
        views: of each clip, with windows and crops of their own, V ≥ 1.
        clips_per_shard: rows a shard stands for.
        seed: of the windows and crops.
    """

    manifest: str
    autoencoder: str
    precision: str
    text: str | None
    window: Window
    framing: Framing
    views: int = 1
    clips_per_shard: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.views < 1 or self.clips_per_shard < 1:
            raise ValueError(f"views and clips a shard are 1 or more each, not {self.views} and {self.clips_per_shard}")

    @staticmethod
    def read(folder: Path) -> LatentSpec:
        """The plan of a folder of shards.

        Raises:
            ValueError: if there is none, or it is damaged.
        """
        path = index_path(folder)
        if not path.is_file():
            raise ValueError(f"{folder} holds no encoded clips: there is no {path.name} in it")
        try:
            values = load_json_bounded(path)
            return LatentSpec(
                **{**values, "window": Window(**values["window"]), "framing": Framing(**values["framing"])}
            )
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{path} is damaged; encode into another folder") from None

    def difference(self, other: LatentSpec) -> str:
        """In words, what differs first; empty if nothing does."""
        now, before = asdict(self), asdict(other)
        for key in now:
            if before[key] != now[key]:
                return f"{key} was {before[key]!r} and is now {now[key]!r}"
        return ""


def spec_digest(plan: LatentSpec) -> str:
    """Sixteen hexadecimal digits of all of it."""
    return hashlib.sha256(json.dumps(asdict(plan), sort_keys=True).encode()).hexdigest()[:16]


def write_spec(folder: Path, plan: LatentSpec) -> None:
    """Write the plan into a folder, which makes it one of encoded clips."""
    atomic_write_text(index_path(folder), json.dumps(asdict(plan), indent=1) + "\n")


def index_path(folder: Path) -> Path:
    """Where the plan lies: what makes a folder one of encoded clips."""
    return folder / "index.json"


def manifest_path(folder: Path) -> Path:
    """Where the rows lie."""
    return folder / "manifest.jsonl"


def left_out_path(folder: Path) -> Path:
    """Where what the source had to leave out is named."""
    return folder / "left-out.jsonl"


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard lies."""
    return folder / f"shard-{number:05d}.safetensors"


def num_shards(plan: LatentSpec, manifest: Manifest) -> int:
    """How many there are in all."""
    return -(-len(manifest) // plan.clips_per_shard)


def shard_facts(folder: Path, number: int) -> dict[str, Any]:
    """What is said of a finished shard: ``clips``, ``images``, ``refused``, ``short``, ``bytes``, ``sha256``."""
    path = shard_path(folder, number).with_suffix(".json")
    path.stat()  # one that is missing is another fault than one that can't be read
    return dict(load_json_bounded(path, _MAX_FACTS))

"""The settings that a folder of encoded clips was made with, and the paths of the files in it.

A folder holds ``index.json`` (the spec), ``manifest.jsonl`` (the rows), ``left-out.jsonl`` (rejected entries of the
source), and for each shard ``shard-00012.safetensors`` with ``shard-00012.json`` beside it (counts, rejected
clips, checksum).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latentshift.data.footage.framing import Framing
from latentshift.data.footage.window import Window
from latentshift.data.manifest import Manifest
from latentshift.files import atomic_write_text
from latentshift.user_input.bounded_read import load_json_bounded

_MAX_INFO_BYTES = 2**28  # of a shard's .json, which names all rejected clips


@dataclass(frozen=True)
class LatentSpec:
    """All settings that the content of the shards depends on.

    Attributes:
        manifest: hash of the rows.
        autoencoder: fingerprint of the autoencoder.
        precision: compute dtype of the autoencoder, e.g. ``"float32"``.
        text: fingerprint of the text encoder and tokenizer; None if no text embeddings are stored.
        window: of frames taken from each clip.
        framing: size and crop of the frames.
        views: random windows and crops of each clip, V ≥ 1.
        clips_per_shard: rows of the manifest in each shard.
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
        if self.seed < 0:
            raise ValueError(f"the seed of windows and crops must be 0 or more, not {self.seed}")

    @staticmethod
    def read(folder: Path) -> LatentSpec:
        """Read the spec of a folder of shards.

        Raises:
            ValueError: if it is missing or damaged.
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
        """The first difference, as a sentence; empty if they are equal."""
        now, before = asdict(self), asdict(other)
        for key in now:
            if before[key] != now[key]:
                return f"{key} was {before[key]!r} and is now {now[key]!r}"
        return ""


def spec_digest(spec: LatentSpec) -> str:
    """Sixteen hexadecimal digits that identify a spec."""
    return hashlib.sha256(json.dumps(asdict(spec), sort_keys=True).encode()).hexdigest()[:16]


def write_spec(folder: Path, spec: LatentSpec) -> None:
    """Write the spec into a folder, which marks it as one of encoded clips."""
    atomic_write_text(index_path(folder), json.dumps(asdict(spec), indent=1) + "\n")


def index_path(folder: Path) -> Path:
    """Path of the spec, whose presence marks a folder of encoded clips."""
    return folder / "index.json"


def manifest_path(folder: Path) -> Path:
    """Path of the manifest."""
    return folder / "manifest.jsonl"


def rejected_path(folder: Path) -> Path:
    """Path of the list of rejected entries of the source."""
    return folder / "left-out.jsonl"


def shard_path(folder: Path, number: int) -> Path:
    """Path of a shard."""
    return folder / f"shard-{number:05d}.safetensors"


def num_shards(spec: LatentSpec, manifest: Manifest) -> int:
    """The number of shards."""
    return -(-len(manifest) // spec.clips_per_shard)


def shard_info(folder: Path, number: int) -> dict[str, Any]:
    """The .json of a finished shard: ``clips``, ``images``, ``refused``, ``short``, ``bytes``, ``sha256``."""
    path = shard_path(folder, number).with_suffix(".json")
    path.stat()  # raises FileNotFoundError: a missing file is reported otherwise than a damaged one
    return dict(load_json_bounded(path, _MAX_INFO_BYTES))

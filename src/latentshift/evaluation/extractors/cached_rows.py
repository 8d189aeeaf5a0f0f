"""Features of true videos, computed once for all results: an extractor that looks them up by the videos' pixels.

A file a video, named by the SHA-256 of its pixels, in a folder that is named by all that the features depend on: the
extractor's weights and output, its code, the versions of libraries, and the kind of device, on the CPU with the number
of threads. So nothing in it can be out of date. Each file holds the SHA-256 of its content: a damaged one is computed
again. A file is put in its place whole, and two processes that write the same one write the same bytes. What can't be
read or written is computed, no more.

Legend of shapes: B videos, F frames, H and W pixels, R rows, D features.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentshift.evaluation.extractors.cache import user_cache
from latentshift.evaluation.extractors.extractor import CachedNetwork, Extractor
from latentshift.user_input.bounded_read import read_bytes_bounded
from latentshift.video import pixels

VARIABLE = "LATENTSHIFT_FEATURES"
_DIGEST = 32  # bytes
_FLOAT = 4  # bytes


def features_folder() -> Path | None:
    """The folder of ``LATENTSHIFT_FEATURES``, else ``latentshift/features`` in the user's cache directory.

    None if the variable is empty, which turns the cache off, or the user has no home folder.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    try:
        return user_cache() / "latentshift" / "features"
    except RuntimeError:
        return None


def with_cached_rows(extractors: Mapping[str, Extractor]) -> dict[str, Extractor]:
    """The same extractors by key, whose rows are looked up in the cache, or computed and kept there."""
    folder = features_folder()
    return {
        key: CachedRows(each, folder, each.device) if folder is not None and isinstance(each, CachedNetwork) else each
        for key, each in extractors.items()
    }


class CachedRows:
    """An :class:`latentshift.evaluation.extractors.extractor.Extractor` of another one's rows, without its texts.

    Args:
        extractor: that computes what is missing.
        folder: of the cache.
        device: that its network is on.
    """

    def __init__(self, extractor: Extractor, folder: Path, device: torch.device) -> None:
        self.name, self.sha256, self.verified = extractor.name, extractor.sha256, extractor.verified
        self.per, self.output, self.width = extractor.per, extractor.output, extractor.width
        self.frames, self.least_frames, self.resize = extractor.frames, extractor.least_frames, extractor.resize
        self._extractor = extractor
        self._folder = folder / f"{self.name}-{_dependencies(extractor, device)[:32]}"

    def __call__(self, videos: Tensor) -> np.ndarray:
        """As :class:`latentshift.evaluation.extractors.extractor.Extractor` says; each video on its own."""
        rows = []
        for video in videos:
            values = np.ascontiguousarray(video.cpu().numpy())
            digest = hashlib.sha256(f"{values.dtype} {values.shape}".encode() + values.tobytes()).hexdigest()
            path = self._folder / digest[:2] / digest
            kept = self._read(path, len(video) if self.per == "frame" else 1)
            if kept is None:
                kept = self._extractor(video[None])[0]
                _write(path, kept)
            rows.append(kept)
        return np.stack(rows)

    def _read(self, path: Path, count: int) -> np.ndarray | None:
        """The rows, float32 (R, D) with R = ``count``; None if there are none, or they are damaged."""
        length = count * self.width * _FLOAT
        try:
            content = read_bytes_bounded(path, _DIGEST + length)
        except ValueError:
            return None
        digest, values = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(values).digest() != digest or len(values) != length:
            return None
        return np.frombuffer(values, "<f4").reshape(count, self.width).astype(np.float32)


def _write(path: Path, rows: np.ndarray) -> None:
    """Keep rows; a disk that is full or can't be written to is no fault, since they are here."""
    values = np.ascontiguousarray(rows, "<f4").tobytes()
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(hashlib.sha256(values).digest() + values)
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()


def _dependencies(extractor: Extractor, device: torch.device) -> str:
    """SHA-256 of all that an extractor's rows depend on beside the pixels."""
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    else:
        # Another number of threads may split sums, and so round them, otherwise.
        kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}"
    own = [extractor.name, extractor.sha256, extractor.per, extractor.output, extractor.width]
    return hashlib.sha256(json.dumps([*own, _code(), _versions(), device.type, kind]).encode()).hexdigest()


@cache
def _versions() -> tuple[str, ...]:
    """Of the libraries that preprocess frames and run networks."""
    return tuple(version(name) for name in ("torch", "transformers", "pillow", "numpy"))


@cache
def _code() -> str:
    """SHA-256 of the extractors' own code: preprocessing and networks, and the pixels' conversion that they use."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(Path(pixels.__file__).read_bytes())
    return digest.hexdigest()

"""Clips encoded once, kept as the raw moments of their latents, and sampled when they are read.

The folder holds ``moments.npy`` (float16, mapped into memory) and ``index.json`` with a fingerprint of what made it and
a count of the clips that are done, so that a broken run goes on where it stopped. The encoder is a callable that is
passed in. Legend of shapes: N clips, F frames, C latent channels, h × w latent pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from latentshift.data.sprites import VERSION, Sprites
from latentshift.whole import write_whole

Encoder = Callable[[np.ndarray], np.ndarray]


class LatentClips:
    """The encoded clips of a data set: ``moments[index]`` is (F, 2C, h, w), mean then log-variance.

    Args:
        folder: where the encoded clips lie, or will.
        source: the data set.
        num_clips: its first N clips are encoded.
        fingerprint: what the latents depend on besides the source, e.g. a checksum of the autoencoder's weights.

    Raises:
        ValueError: if the folder holds latents of another source or autoencoder; the message names the difference.
    """

    def __init__(self, folder: Path, source: Sprites, num_clips: int, fingerprint: dict[str, Any]) -> None:
        self.folder = folder
        self.source = source
        self.num_clips = num_clips
        self.identity = {
            "world": VERSION,
            "size": source.size,
            "seed": source.seed,
            "held_out": source.held_out,
            "num_frames": source.num_frames,
            **fingerprint,
        }
        self.done = 0
        self.stored = num_clips  # the folder may hold more than are asked for: its first ones serve
        if self._index.exists():
            try:
                found = json.loads(self._index.read_text(encoding="utf-8"))
                made, self.done, self.stored = dict(found["identity"]), int(found["done"]), int(found["clips"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{self._index} is damaged ({error}); delete {folder} to encode anew") from None
            for key, value in self.identity.items():
                if made.get(key) != value:
                    raise ValueError(
                        f"{folder} holds latents of another making: {key} is {made.get(key)!r} there and {value!r} "
                        "here; choose another folder for `latents`, or delete this one"
                    )
            if self.stored < num_clips:
                raise ValueError(
                    f"{folder} has room for {self.stored} clips, not for {num_clips}; choose another folder for "
                    "`latents`, or delete this one"
                )

    @property
    def moments(self) -> np.ndarray:
        """(N, F, 2C, h, w) float16, mapped read-only; all clips must be encoded."""
        if self.done < self.num_clips:
            raise ValueError(f"{self.folder} holds {self.done} of {self.num_clips} clips: encode the rest first")
        return np.load(self.folder / "moments.npy", mmap_mode="r")[: self.num_clips]

    def encode(self, encoder: Encoder, batch_clips: int = 8) -> Iterator[int]:
        """Encode what is missing; yields the number of clips done after each batch.

        Args:
            encoder: uint8 RGB frames (M, S, S, 3) -> moments (M, 2C, h, w).
            batch_clips: clips an encoder call.
        """
        array: np.memmap | None = None
        while self.done < self.num_clips:
            last = min(self.done + batch_clips, self.num_clips)
            frames = np.concatenate([self.source[index][0] for index in range(self.done, last)])
            encoded = encoder(frames)  # (M, 2C, h, w)
            if array is None:
                array = self._open(encoded.shape[1:])
            array[self.done : last] = encoded.reshape(last - self.done, *array.shape[1:])
            self.done = last
            if last == self.num_clips or (last // batch_clips) % 64 == 0:
                array.flush()
                self._write_index()
            yield self.done

    def _open(self, latent_shape: tuple[int, ...]) -> np.memmap:
        path = self.folder / "moments.npy"
        if self.done:
            return np.load(path, mmap_mode="r+")
        self.folder.mkdir(parents=True, exist_ok=True)
        shape = (self.stored, self.source.num_frames, *latent_shape)
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)

    @property
    def _index(self) -> Path:
        return self.folder / "index.json"

    def _write_index(self) -> None:
        write_whole(
            self._index, json.dumps({"identity": self.identity, "clips": self.stored, "done": self.done}, indent=1)
        )

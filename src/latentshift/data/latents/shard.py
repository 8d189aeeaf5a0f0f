"""One shard of encoded clips: what its tensors are, and how they are read.

- ``rows`` (E,): which rows of the manifest its E entries are;
- ``captions``: for each entry its captions and those of its single frames, as UTF-8, with U+001F between two captions
  and U+001E between the two kinds; ``captions_ends`` (E,): where each entry's end;
- ``moments`` (N, V, F, 2C, h, w) float16: mean and log-variance of the clips; ``images`` (M, V, 1, 2C, h, w): of the
  entries that are single images; ``places`` (E,): an entry's place in ``moments``, or, as -1 - place, in ``images``;
- ``text`` (T, L, D) float16: the embeddings of the shard's captions, the empty one first; ``text_of``: for each entry's
  captions, then its image captions, which of them; ``text_ends`` (E,): where each entry's end. Only where text is kept;
- ``checksums`` (E,): CRC-32 of each entry's moments and captions; ``text_checksums`` (T,): of each embedding.

Legend of shapes: E entries, N clips, M images, V views of each (windows and crops), F frames, C latent channels, h × w
latent pixels, T captions, L tokens, D width of the text encoder.
"""

from __future__ import annotations

import os
import zlib
from functools import cached_property
from io import FileIO
from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np

from latentshift.bounded_read import parse_json_bounded
from latentshift.data.manifest import Row
from latentshift.data.rejected import Rejected

_ANEW = "delete that file and encode again"
_DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "U32": np.dtype("<u4"),
    "U8": np.dtype("u1"),
}
_BETWEEN, _BETWEEN_KINDS = "\x1f", "\x1e"
_LARGE = ("moments", "images", "text")
_LONGEST_HEADER = 2**24  # bytes


class Shard:
    """A shard, open: what says where things are lies in memory, the rest is read when it is asked for, and no more.

    Args:
        path: the file.
        verified: a byte for each entry: 1 where its bytes have been checked already; changed here.

    Raises:
        Rejected: for a file that is none.
        OSError: for one that can't be opened.
    """

    def __init__(self, path: Path, verified: bytearray) -> None:
        self.path = path
        self._verified = verified
        self._file = path.open("rb", buffering=0)
        self._tensors = _tensors(self._file, path)
        small = {name: tensor.read() for name, tensor in self._tensors.items() if name not in _LARGE}
        # In plain numbers: numpy takes its time over single ones.
        self._places = small["places"].tolist()
        self._checksums, self._text_checksums = small["checksums"], small.get("text_checksums")
        self._captions, self._captions_ends = small["captions"].tobytes(), small["captions_ends"].tolist()
        self._text_of = small["text_of"].tolist() if "text_of" in small else []
        self._text_ends = small["text_ends"].tolist() if "text_ends" in small else []
        self._clips = [entry for entry, place in enumerate(self._places) if place >= 0]
        self._images = [entry for entry, place in enumerate(self._places) if place < 0]

    def entry(self, place: int, image: bool) -> int:
        """Which entry the clip, or the image, at a place is."""
        return (self._images if image else self._clips)[place]

    def num_frames(self, entry: int) -> int:
        """F of an entry: 1 for an image."""
        return self._tensors["moments" if self._places[entry] >= 0 else "images"].shape[2]

    def moments(self, entry: int, view: int, first: int, count: int) -> np.ndarray:
        """(count, 2C, h, w): so many frames of one view of an entry, from frame ``first`` on.

        Raises:
            Rejected: when the entry is first asked for, if what belongs to it is not what was written.
        """
        place = self._places[entry]
        tensor, row = (self._tensors["moments"], place) if place >= 0 else (self._tensors["images"], -1 - place)
        if not self._verified[entry]:
            self._verify(entry, tensor.read(row))
            self._verified[entry] = 1
        return tensor.read(row, view, first=first, count=count)

    def captions(self, entry: int) -> tuple[list[str], list[str]]:
        """The captions of an entry, and those of its single frames."""
        captions, of_images = self._said(entry).decode().split(_BETWEEN_KINDS)
        return captions.split(_BETWEEN), of_images.split(_BETWEEN) if of_images else []

    def text(self, entry: int, caption: int) -> np.ndarray | None:
        """(L, D) of caption ``caption`` of an entry, counted over its captions and then its image captions."""
        if "text" not in self._tensors:
            return None
        first = self._text_ends[entry - 1] if entry else 0
        return self._tensors["text"].read(self._text_of[first + caption])

    @cached_property
    def empty(self) -> np.ndarray | None:
        """(L, D) of the empty caption."""
        return self._tensors["text"].read(0) if "text" in self._tensors else None

    def _said(self, entry: int) -> bytes:
        return self._captions[self._captions_ends[entry - 1] if entry else 0 : self._captions_ends[entry]]

    def _verify(self, entry: int, moments: np.ndarray) -> None:
        right = zlib.crc32(self._said(entry), zlib.crc32(moments.data)) == int(self._checksums[entry])
        if self._text_checksums is not None:
            first = self._text_ends[entry - 1] if entry else 0
            for number in (0, *self._text_of[first : self._text_ends[entry]]):
                right &= zlib.crc32(self._tensors["text"].read(number).data) == int(self._text_checksums[number])
        if not right:
            raise Rejected("damaged", f"its bytes in {self.path} are not those that were written; {_ANEW}")


class _Tensor:
    """A tensor in a file.

    Attributes:
        shape: of it.
    """

    def __init__(self, file: FileIO, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self._file = file
        self._descriptor = file.fileno()
        self._offset = offset
        self._dtype = dtype
        sizes = accumulate(reversed((*shape[1:], 1)), mul)
        self._steps = [size * dtype.itemsize for size in sizes][::-1]  # bytes from one to the next, of each dimension

    def read(self, *where: int, first: int = 0, count: int | None = None) -> np.ndarray:
        """What lies at some leading indices; of what is left, so many along the next dimension from ``first`` on.

        Raises:
            Rejected: if the file ends before.
        """
        rest = self.shape[len(where) :]
        shape = rest if count is None else (count, *rest[1:])
        offset = self._offset + (first * self._steps[len(where)] if first else 0)
        for dimension, index in enumerate(where):
            offset += index * self._steps[dimension]
        found = np.empty(shape, dtype=self._dtype)
        if os.preadv(self._descriptor, [found.data], offset) < found.nbytes:
            raise Rejected("damaged", f"{self._file.name} ends too early; {_ANEW}")
        return found


class Contents:
    """A shard's tensors, gathered entry by entry.

    Args:
        empty: the embedding (L, D) of the empty caption; None where no text is kept.
    """

    def __init__(self, empty: np.ndarray | None) -> None:
        self.moments: list[np.ndarray] = []
        self.images: list[np.ndarray] = []
        self._rows: list[int] = []
        self._places: list[int] = []
        self._checksums: list[int] = []
        self._captions: list[bytes] = []
        self._texts = {} if empty is None else {"": (0, empty.astype(np.float16))}
        self._text_of: list[int] = []
        self._text_ends: list[int] = []

    def add(self, number: int, row: Row, moments: np.ndarray, texts: np.ndarray | None) -> None:
        """Take in a row: its number, its moments (V, F, 2C, h, w), and its captions' embeddings (captions, L, D)."""
        image = row.is_image
        kept = self.images if image else self.moments
        self._places.append(-1 - len(kept) if image else len(kept))
        kept.append(moments)
        self._rows.append(number)
        kinds = (_BETWEEN.join(_plain(each) for each in kind) for kind in (row.captions, row.image_captions))
        said = _BETWEEN_KINDS.join(kinds).encode(errors="replace")
        self._captions.append(said)
        self._checksums.append(zlib.crc32(said, zlib.crc32(moments.data)))
        for caption, text in zip(row.captions + row.image_captions, () if texts is None else texts, strict=False):
            self._text_of.append(self._texts.setdefault(caption, (len(self._texts), text))[0])
        self._text_ends.append(len(self._text_of))

    def to_tensors(self) -> dict[str, np.ndarray]:
        """All of it."""
        tensors: dict[str, np.ndarray] = {
            "rows": np.array(self._rows, dtype=np.int64),
            "places": np.array(self._places, dtype=np.int64),
            "checksums": np.array(self._checksums, dtype=np.uint32),
            "captions": np.frombuffer(b"".join(self._captions), dtype=np.uint8),
            "captions_ends": np.cumsum([len(said) for said in self._captions], dtype=np.int64),
        }
        for name, kept in (("moments", self.moments), ("images", self.images)):
            if kept:
                tensors[name] = np.stack(kept)
        if self._texts:
            texts = [text for _, text in self._texts.values()]
            tensors["text"] = np.stack(texts)
            tensors["text_checksums"] = np.array([zlib.crc32(text.data) for text in texts], dtype=np.uint32)
            tensors["text_of"] = np.array(self._text_of, dtype=np.int64)
            tensors["text_ends"] = np.array(self._text_ends, dtype=np.int64)
        return tensors


def _plain(caption: str) -> str:
    return caption.replace(_BETWEEN, " ").replace(_BETWEEN_KINDS, " ")


def _tensors(file: FileIO, path: Path) -> dict[str, _Tensor]:
    """Where the tensors of a safetensors file (8 bytes length, JSON header, data) lie."""
    try:
        length = int.from_bytes(file.read(8), "little")
        header = parse_json_bounded(file.read(min(length, _LONGEST_HEADER)).decode(), "its header")
        header.pop("__metadata__", None)
        return {
            name: _Tensor(file, 8 + length + told["data_offsets"][0], tuple(told["shape"]), _DTYPES[told["dtype"]])
            for name, told in header.items()
        }
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise Rejected("damaged", f"{path} can't be read ({error}); {_ANEW}") from None

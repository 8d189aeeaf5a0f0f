"""One shard of encoded clips: its tensors, and how they are read.

- ``rows`` (E,): row of the manifest of each of its E entries;
- ``captions``: for each entry its captions and those of its single frames, as UTF-8, with U+001F between two captions
  and U+001E between the two kinds; ``captions_ends`` (E,): end offset of each entry's;
- ``moments`` (N, V, F, 2C, h, w) float16: mean and log-variance of the clips; ``images`` (M, V, 1, 2C, h, w): of the
  entries that are single images; ``places`` (E,): an entry's place in ``moments``, or, as -1 - place, in ``images``;
- ``text`` (T, L, D) float16, or (T, L + 1, D) with a pooled embedding: the packed embeddings of the shard's captions,
  the empty one first; ``text_of``: for each entry's captions, then its image captions, which of them; ``text_ends``
  (E,): where each entry's end. Only where text is kept;
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

from latentshift.caption_embedding import CaptionEmbedding
from latentshift.data.manifest import Row
from latentshift.data.rejected import Rejected
from latentshift.user_input.bounded_read import parse_json_bounded

_REMAKE = "delete that file and encode again"
_DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "U32": np.dtype("<u4"),
    "U8": np.dtype("u1"),
}
_BETWEEN, _BETWEEN_KINDS = "\x1f", "\x1e"
_LARGE = ("moments", "images", "text")
_MAX_HEADER = 2**24  # bytes


class Shard:
    """An open shard: its index is in memory; moments and embeddings are read on demand.

    Args:
        path: the file.
        verified: one byte for each entry: 1 once its checksum has been verified; modified in place.
        pooled_width: of the pooled embedding in the last row of each embedding; None: they are of tokens alone.

    Raises:
        Rejected: for a file that is not a shard.
        OSError: for a file that can't be opened.
    """

    def __init__(self, path: Path, verified: bytearray, pooled_width: int | None = None) -> None:
        self.path = path
        self._pooled_width = pooled_width
        self._verified = verified
        self._file = path.open("rb", buffering=0)
        self._tensors = _tensors(self._file, path)
        small = {name: tensor.read() for name, tensor in self._tensors.items() if name not in _LARGE}
        # As Python ints: indexing single numpy elements is slow.
        self._places = small["places"].tolist()
        self._checksums, self._text_checksums = small["checksums"], small.get("text_checksums")
        self._captions, self._captions_ends = small["captions"].tobytes(), small["captions_ends"].tolist()
        self._text_of = small["text_of"].tolist() if "text_of" in small else []
        self._text_ends = small["text_ends"].tolist() if "text_ends" in small else []
        self._clips = [entry for entry, place in enumerate(self._places) if place >= 0]
        self._images = [entry for entry, place in enumerate(self._places) if place < 0]

    def entry(self, place: int, image: bool) -> int:
        """The entry of the clip or image at a position."""
        return (self._images if image else self._clips)[place]

    def num_frames(self, entry: int) -> int:
        """F of an entry: 1 for an image."""
        return self._tensors["moments" if self._places[entry] >= 0 else "images"].shape[2]

    def moments(self, entry: int, view: int, first: int, count: int) -> np.ndarray:
        """(count, 2C, h, w): ``count`` frames of one view of an entry, starting at frame ``first``.

        Raises:
            Rejected: on the first read of an entry, if its checksum is wrong.
        """
        place = self._places[entry]
        tensor, row = (self._tensors["moments"], place) if place >= 0 else (self._tensors["images"], -1 - place)
        if not self._verified[entry]:
            self._verify(entry, tensor.read(row))
            self._verified[entry] = 1
        return tensor.read(row, view, first=first, count=count)

    def captions(self, entry: int) -> tuple[list[str], list[str]]:
        """The captions of an entry, and its image captions."""
        captions, of_images = self._caption_bytes(entry).decode().split(_BETWEEN_KINDS)
        return captions.split(_BETWEEN), of_images.split(_BETWEEN) if of_images else []

    def text(self, entry: int, caption: int) -> CaptionEmbedding | None:
        """The embedding of a caption of an entry, counted over its captions and then its image captions."""
        if "text" not in self._tensors:
            return None
        first = self._text_ends[entry - 1] if entry else 0
        return self._embedding(self._text_of[first + caption])

    @cached_property
    def empty(self) -> CaptionEmbedding | None:
        """The embedding of the empty caption."""
        return self._embedding(0) if "text" in self._tensors else None

    def _embedding(self, number: int) -> CaptionEmbedding:
        return CaptionEmbedding.unpack(self._tensors["text"].read(number), self._pooled_width)

    def _caption_bytes(self, entry: int) -> bytes:
        return self._captions[self._captions_ends[entry - 1] if entry else 0 : self._captions_ends[entry]]

    def _verify(self, entry: int, moments: np.ndarray) -> None:
        right = zlib.crc32(self._caption_bytes(entry), zlib.crc32(moments.data)) == int(self._checksums[entry])
        if self._text_checksums is not None:
            first = self._text_ends[entry - 1] if entry else 0
            for number in (0, *self._text_of[first : self._text_ends[entry]]):
                right &= zlib.crc32(self._tensors["text"].read(number).data) == int(self._text_checksums[number])
        if not right:
            raise Rejected("damaged", f"its bytes in {self.path} are not those that were written; {_REMAKE}")


class _Tensor:
    """A tensor in a file, read in slices.

    Attributes:
        shape: of the tensor.
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
        """The slice at some leading indices; or ``count`` elements of the next dimension from ``first`` on.

        Raises:
            Rejected: if the file is too short.
        """
        rest = self.shape[len(where) :]
        shape = rest if count is None else (count, *rest[1:])
        offset = self._offset + (first * self._steps[len(where)] if first else 0)
        for dimension, index in enumerate(where):
            offset += index * self._steps[dimension]
        values = np.empty(shape, dtype=self._dtype)
        if os.preadv(self._descriptor, [values.data], offset) < values.nbytes:
            raise Rejected("damaged", f"{self._file.name} ends too early; {_REMAKE}")
        return values


class ShardBuilder:
    """Collects the tensors of a shard, entry by entry.

    Args:
        empty: the packed embedding of the empty caption; None if no text is stored.
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
        """Add a row: its number, moments (V, F, 2C, h, w) and its captions' packed embeddings."""
        image = row.is_image
        kept = self.images if image else self.moments
        self._places.append(-1 - len(kept) if image else len(kept))
        kept.append(moments)
        self._rows.append(number)
        kinds = (
            _BETWEEN.join(_without_separators(each) for each in kind) for kind in (row.captions, row.image_captions)
        )
        caption_bytes = _BETWEEN_KINDS.join(kinds).encode(errors="replace")
        self._captions.append(caption_bytes)
        self._checksums.append(zlib.crc32(caption_bytes, zlib.crc32(moments.data)))
        for caption, text in zip(row.captions + row.image_captions, () if texts is None else texts, strict=False):
            self._text_of.append(self._texts.setdefault(caption, (len(self._texts), text))[0])
        self._text_ends.append(len(self._text_of))

    def to_tensors(self) -> dict[str, np.ndarray]:
        """The tensors of all entries."""
        tensors: dict[str, np.ndarray] = {
            "rows": np.array(self._rows, dtype=np.int64),
            "places": np.array(self._places, dtype=np.int64),
            "checksums": np.array(self._checksums, dtype=np.uint32),
            "captions": np.frombuffer(b"".join(self._captions), dtype=np.uint8),
            "captions_ends": np.cumsum([len(each) for each in self._captions], dtype=np.int64),
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


def _without_separators(caption: str) -> str:
    return caption.replace(_BETWEEN, " ").replace(_BETWEEN_KINDS, " ")


def _tensors(file: FileIO, path: Path) -> dict[str, _Tensor]:
    """The tensors of a safetensors file (8 bytes length, JSON header, data)."""
    try:
        length = int.from_bytes(file.read(8), "little")
        header = parse_json_bounded(file.read(min(length, _MAX_HEADER)).decode(), "its header")
        header.pop("__metadata__", None)
        return {
            name: _Tensor(
                file,
                8 + length + entry_info["data_offsets"][0],
                tuple(entry_info["shape"]),
                _DTYPES[entry_info["dtype"]],
            )
            for name, entry_info in header.items()
        }
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise Rejected("damaged", f"{path} can't be read ({error}); {_REMAKE}") from None

"""What is done of a shard that is being made, record by record, so that a kill loses at most the one at hand.

Knows nothing of clips: a record is bytes. One process at a time holds a partial.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from latentshift.files import open_locked

_HEAD = struct.Struct("<III")  # number of the record, length, CRC-32 of what follows


class PartialShard:
    """A file of numbered records that is held by this process alone, and cut back to those that are whole.

    Args:
        path: the file; made if it is not there.

    Raises:
        ValueError: if another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _held(path)
        ends = [end for _, end in _records(self._file)]
        self.count, end = len(ends), ends[-1] if ends else 0
        self._file.truncate(end)
        self._file.seek(end)

    def append(self, record: bytes) -> None:
        """Add a record; it is in the file when this returns."""
        self._file.write(_HEAD.pack(self.count, len(record), zlib.crc32(record)) + record)
        self._file.flush()
        self.count += 1

    def records(self) -> Iterator[bytes]:
        """All of them, from the first."""
        self._file.flush()
        return (record for record, _ in _records(self._file))

    def remove(self) -> None:
        """Delete the file: what it held is kept elsewhere now."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> PartialShard:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _held(path: Path) -> BinaryIO:
    try:
        return open_locked(path)
    except BlockingIOError:
        raise ValueError(f"another process is writing {path}; wait for it, or stop it, and run again") from None
    except OSError as error:
        raise ValueError(f"{path} can't be locked ({error.strerror}); choose a folder on another disk") from None


def _records(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The records that are whole, each with where it ends."""
    end = count = 0
    while True:
        file.seek(end)
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return
        number, length, checksum = _HEAD.unpack(head)
        record = file.read(length)
        if number != count or len(record) < length or zlib.crc32(record) != checksum:
            return
        end += _HEAD.size + length
        count += 1
        yield record, end

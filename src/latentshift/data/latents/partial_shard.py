"""An append-only file of the records of an unfinished shard, so that a kill loses at most one record.

Records are bytes; this file knows nothing of clips. One process at a time may open a partial shard.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from latentshift.files import open_to_write_alone

_HEAD = struct.Struct("<III")  # record number, length, CRC-32 of the data


class PartialShard:
    """A locked file of numbered records; an incomplete record at the end is cut off.

    Args:
        path: the file; created if missing.

    Raises:
        ValueError: if another process has locked it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_to_write_alone(path)
        ends = [end for _, end in _records(self._file)]
        self.count, end = len(ends), ends[-1] if ends else 0
        self._file.truncate(end)
        self._file.seek(end)

    def append(self, record: bytes) -> None:
        """Append a record and flush it."""
        self._file.write(_HEAD.pack(self.count, len(record), zlib.crc32(record)) + record)
        self._file.flush()
        self.count += 1

    def records(self) -> Iterator[bytes]:
        """All records in order."""
        self._file.flush()
        return (record for record, _ in _records(self._file))

    def remove(self) -> None:
        """Delete the file, once its records are in a finished shard."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> PartialShard:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _records(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The complete records, each with its end offset."""
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

"""The simulator's memory on disk: what it must know again after it was killed."""

from __future__ import annotations

import json
import os
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from batchkit.testing.lines import Lines

__all__ = ["Journal", "Record"]

Record: TypeAlias = "tuple[dict[str, Any], Lines]"

if sys.platform != "win32":
    import fcntl

_FRAME = struct.Struct(">4sIII")
_MAGIC = b"bkj1"


class Journal:
    """An append-only file of records; each is on disk before `append` returns.

    A record that was torn by a kill is cut off when the file is opened again.

    Args:
        path: The file; it is made if missing.

    Raises:
        ValueError: Another simulator has it open.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")
        if sys.platform != "win32":
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._file.close()
                raise ValueError(f"{path} is in use by another simulator: stop that one first") from None
        path.chmod(0o600)

    def read(self) -> Iterator[Record]:
        """Yield every whole record, then drop what follows the last one."""
        good = 0
        with self._path.open("rb") as file:
            while True:
                frame = file.read(_FRAME.size)
                if len(frame) < _FRAME.size:
                    break
                magic, head_size, body_size, checksum = _FRAME.unpack(frame)
                head, body = file.read(head_size), file.read(body_size)
                if magic != _MAGIC or len(body) < body_size or zlib.crc32(body, zlib.crc32(head)) != checksum:
                    break
                good = file.tell()
                fields = json.loads(head)
                yield fields, Lines(tuple(_cut(body, fields.pop("chunks"))))
        self._file.truncate(good)

    def append(self, record: Mapping[str, Any], lines: Lines | None = None) -> None:
        """Write one record and wait until it is on disk."""
        chunks = lines.chunks if lines is not None else ()
        head = json.dumps({**record, "chunks": [len(chunk) for chunk in chunks]}).encode()
        body = b"".join(chunks)
        self._file.write(_FRAME.pack(_MAGIC, len(head), len(body), zlib.crc32(body, zlib.crc32(head))))
        self._file.write(head)
        self._file.write(body)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _cut(body: bytes, sizes: list[int]) -> Iterator[bytes]:
    start = 0
    for size in sizes:
        yield body[start : start + size]
        start += size

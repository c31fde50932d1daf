"""Many lines of text, kept compressed."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

import attrs

__all__ = ["Lines", "LinesWriter"]

_CHUNK = 1 << 18


@attrs.frozen
class Lines:
    """Lines in compressed chunks; each chunk holds whole lines, each line ends with a line feed."""

    chunks: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, lines: Iterable[str]) -> Lines:
        """Compress ``lines``, which hold no line feeds."""
        writer = LinesWriter()
        for line in lines:
            writer.add(line)
        return writer.close()

    def __iter__(self) -> Iterator[str]:
        """Yield each line without its end."""
        for block in self.blocks():
            text = block.decode()
            # Not splitlines(): it would also split at U+2028 and its like inside JSON strings.
            yield from text[:-1].split("\n")

    def blocks(self) -> Iterator[bytes]:
        """Yield the text in pieces of some 256 KiB."""
        return map(zlib.decompress, self.chunks)


class LinesWriter:
    """Collects lines and compresses them chunk by chunk."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._lines: list[str] = []
        self._size = 0

    def add(self, line: str) -> None:
        """Append one line."""
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _CHUNK:
            self._flush()

    def close(self) -> Lines:
        """Return everything added."""
        if self._lines:
            self._flush()
        return Lines(tuple(self._chunks))

    def _flush(self) -> None:
        self._lines.append("")
        self._chunks.append(zlib.compress("\n".join(self._lines).encode(), 1))
        self._lines = []
        self._size = 0

r"""Lines of a result file, split as bytes.

Only the byte ``\n`` ends a line: text line iterators also split inside JSON strings, on U+2028 and its
kin. Whatever the chunking, the same bytes give the same lines.
"""

from __future__ import annotations

__all__ = ["CutLine", "LineSplitter"]

_BOM = b"\xef\xbb\xbf"
KEPT = 2_048
"""Bytes kept of a line that is longer than the cap: enough to see whose it is."""


class CutLine(bytes):
    """The beginning of a line that was longer than the cap; the rest was dropped."""


class LineSplitter:
    """Takes chunks of bytes and gives whole lines, without their ends, blank ones left out."""

    def __init__(self, *, cap: int = 16 * 1024 * 1024) -> None:
        """Split lines of at most ``cap`` bytes; longer ones come as `CutLine` and use no more memory."""
        self._cap = cap
        self._pending: list[bytes] = []
        self._held = 0
        self._started = False
        self._beginning = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Give the lines that this chunk completes."""
        if not self._started:
            chunk = self._start(chunk)
        if b"\n" not in chunk:
            self._keep(chunk)
            return []
        # JSON escapes a carriage return inside a string, so one is seldom here at all.
        returns = b"\r" in chunk
        if self._held:
            first, _, chunk = chunk.partition(b"\n")
            self._keep(first)
            whole = self._take()
            returns = returns or whole.endswith(b"\r")
            lines = [whole, *chunk.split(b"\n")]
        else:
            lines = chunk.split(b"\n")
        self._keep(lines.pop())
        if len(chunk) > self._cap:
            lines = [self._cut(line) for line in lines]
        if returns or b"" in lines:
            lines = [line for raw in lines if (line := _strip(raw))]
        return lines

    def close(self) -> list[bytes]:
        """Give the last line, if the file did not end with a line end."""
        if not self._started:
            self._started = True
            self._keep(self._beginning)
        line = _strip(self._take())
        return [line] if line else []

    def _start(self, chunk: bytes) -> bytes:
        chunk, self._beginning = self._beginning + chunk, b""
        if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
            self._beginning = chunk
            return b""
        self._started = True
        return chunk.removeprefix(_BOM)

    def _keep(self, part: bytes) -> None:
        if not part:
            return
        room = self._cap + 1 - self._held
        if room <= 0:
            return
        # One byte beyond the cap tells a long line from one that just fits.
        if len(part) > room:
            part = part[:room]
        self._pending.append(part)
        self._held += len(part)

    def _take(self) -> bytes:
        line = b"".join(self._pending)
        self._pending.clear()
        self._held = 0
        return self._cut(line)

    def _cut(self, line: bytes) -> bytes:
        return line if len(line) <= self._cap else CutLine(line[: min(KEPT, self._cap)])


def _strip(line: bytes) -> bytes:
    if isinstance(line, CutLine):
        return line
    return line.removesuffix(b"\r")

"""How source records and id lists are packed, and the two digests made of them. Pure.

The digests are part of the receipt's contract: a page's digest is SHA-256 over its canonical lines
joined by a newline, a run's digest is SHA-256 over its pages' digests joined by a newline.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json

from batchkit.ids import Digest, RowId, position_of
from batchkit.model import PAGE

Fields = Mapping[str, "str | None"]

_FEW: Final = 48
"""Up to so many records of a page are parsed one by one; above, the page is parsed whole."""


def pack(numbers: Iterable[int]) -> bytes:
    """Pack integers as little-endian 64-bit words."""
    words = array("q", numbers)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def unpack(blob: bytes) -> array[int]:
    """Unpack what `pack` made."""
    words = array("q")
    words.frombytes(blob)
    if sys.byteorder == "big":
        words.byteswap()
    return words


def ranges(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Give the runs of consecutive numbers, (first, last), of an ascending sequence."""
    if not numbers:
        return
    first = last = numbers[0]
    for number in numbers:
        if number > last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


def join_lines(lines: Iterable[bytes]) -> bytes:
    """Join canonical lines as a page stores and hashes them."""
    return b"\n".join(lines)


def page_digest(joined: bytes) -> Digest:
    """Give the digest of a page from its joined lines."""
    return Digest(sha256(joined).hexdigest())


def run_digest(pages: Iterable[str]) -> Digest:
    """Give the digest of a run from its pages' digests in order."""
    return Digest(sha256("\n".join(pages).encode()).hexdigest())


def content(line: bytes) -> bytes:
    """Give a canonical line without its position: what makes two records the same."""
    return line[line.index(b",") + 1 :]


def encode_keys(keys: Sequence[str]) -> bytes:
    """Encode a page's keys as one JSON array."""
    try:
        return to_json(keys)
    except ValueError:  # half of a surrogate pair: valid JSON as an escape only
        return json.dumps(keys).encode()


def parse(text: bytes) -> Any:
    """Parse JSON, escaped halves of surrogate pairs included."""
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)


class PackedPage:
    """One frozen page, parsed only as far as somebody asked."""

    __slots__ = ("_fields", "_joined", "_lines", "_load", "keys", "sizes")

    def __init__(self, keys: bytes, sizes: bytes, load: Callable[[], bytes]) -> None:
        self.keys: list[str] = parse(keys)
        self.sizes = unpack(sizes)
        self._load = load
        self._joined: bytes | None = None
        self._lines: list[bytes] | None = None
        self._fields: list[Fields] | None = None

    def lines(self) -> list[bytes]:
        """Give the canonical lines."""
        if self._lines is None:
            self._lines = self._text().split(b"\n")
        return self._lines

    def fields(self, offsets: Sequence[int]) -> list[Fields]:
        """Give the fields of the records at these offsets."""
        if self._fields is None and len(offsets) <= _FEW:
            lines = self.lines()
            return [parse(lines[n])[2] for n in offsets]
        if self._fields is None:
            self._fields = [record[2] for record in parse(b"[" + self._text().replace(b"\n", b",") + b"]")]
            self._joined = self._lines = None
        fields = self._fields
        return [fields[n] for n in offsets]

    def _text(self) -> bytes:
        if self._joined is None:
            self._joined = self._load()
        return self._joined


class Place(NamedTuple):
    """Where a row's record is: the id of its page's first row, and the offset in that page."""

    page: int
    offset: int


def locate(row: RowId) -> Place:
    """Give the page and offset of a row."""
    offset = position_of(row) % PAGE
    return Place(row - offset, offset)

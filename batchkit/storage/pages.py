"""How source records and id lists are packed, and the digest of a page as it is stored. Pure."""

from __future__ import annotations

import json
import sys
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b, sha256
from typing import Final, NamedTuple

from pydantic_core import to_json

from batchkit.frozen import FrozenFields, parse
from batchkit.ids import Digest, RowId, position_of
from batchkit.model import PAGE

_KEPT_BYTES: Final = 2 << 20
"""Memory for frozen pages kept for the next read: enough for readers that go forward, whatever their step."""

_OBJECT: Final = 60
"""Bytes that a short text takes in memory beyond its own, with its place in a list."""


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
    """Give the digest of a page from its joined lines: what `batchkit.digests.page_digest` gives for the lines."""
    return Digest(sha256(joined + b"\n").hexdigest())


def content(line: bytes) -> bytes:
    """Give a canonical line without its position: what makes two records the same."""
    return line[line.index(b",") + 1 :]


def key_hash(key: str) -> int:
    """Give 64 bits of a key. Where two keys share them one is forgotten, and paid again: never taken for the other."""
    return int.from_bytes(
        blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big", signed=True
    )


def content_hash(spec: Digest, line: bytes) -> bytes:
    """Give 128 bits of what makes two records of a series the same: spec, key and fields."""
    return blake2b(spec.encode() + content(line), digest_size=16).digest()


def encode_keys(keys: Sequence[str]) -> bytes:
    """Encode a page's keys as one JSON array."""
    try:
        return to_json(keys)
    except ValueError:  # half of a surrogate pair: valid JSON as an escape only
        return json.dumps(keys).encode()


class PackedPage:
    """One frozen page, parsed only as far as somebody asks."""

    __slots__ = ("_lines", "_load", "keys", "sizes", "weight")

    def __init__(self, keys: bytes, sizes: bytes, load: Callable[[], bytes]) -> None:
        self.keys: list[str] = parse(keys)
        self.sizes: array[int] = unpack(sizes)
        self.weight: int = len(keys) + len(sizes) + _OBJECT * len(self.keys)
        self._load = load
        self._lines: list[bytes] = []

    @property
    def whole(self) -> bool:
        """Tell whether the lines are here already."""
        return bool(self._lines)

    def lines(self) -> list[bytes]:
        """Give the canonical lines."""
        if not self._lines:
            text = self._load()
            self._lines = text.split(b"\n")
            self.weight += len(text) + _OBJECT * len(self._lines)
        return self._lines

    def fields(self, offsets: Sequence[int]) -> list[FrozenFields]:
        """Give the fields of the records at these offsets."""
        return list(map(FrozenFields, map(self.lines().__getitem__, offsets)))


class PageCache:
    """The pages read last, within a budget of bytes.

    Args:
        budget: how many bytes of text to keep; one page is kept however large it is.
    """

    def __init__(self, budget: int = _KEPT_BYTES) -> None:
        self._budget = budget
        self._pages: OrderedDict[int, PackedPage] = OrderedDict()

    def get(self, page: int) -> PackedPage | None:
        """Give a page that is kept."""
        kept = self._pages.get(page)
        if kept is not None:
            self._pages.move_to_end(page)
        return kept

    def keep(self, page: int, packed: PackedPage) -> None:
        """Keep a page until newer ones weigh too much."""
        self._pages[page] = packed

    def trim(self) -> None:
        """Forget the pages not read for the longest time, until the others are within the budget."""
        weight = sum(kept.weight for kept in self._pages.values())
        while weight > self._budget and len(self._pages) > 1:
            weight -= self._pages.popitem(last=False)[1].weight


class Place(NamedTuple):
    """Where a row's record is: the id of its page's first row, and the offset in that page."""

    page: int
    offset: int


def locate(row: RowId) -> Place:
    """Give the page and offset of a row."""
    offset = position_of(row) % PAGE
    return Place(row - offset, offset)

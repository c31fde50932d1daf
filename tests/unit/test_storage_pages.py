"""Packed pages give back what went in, and their digests can be made again with the standard library."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from batchkit import digests
from batchkit.frozen import parse
from batchkit.ids import MAX_ROWS, RowId, RunId, row_id
from batchkit.storage.pages import (
    PackedPage,
    PageCache,
    content,
    encode_keys,
    join_lines,
    locate,
    pack,
    page_digest,
    ranges,
    unpack,
)

any_text = st.text(st.characters(), max_size=12)  # halves of surrogate pairs included


def line(position: int, key: str, fields: dict[str, str | None]) -> bytes:
    return json.dumps([position, key, fields], sort_keys=True, separators=(",", ":")).encode()


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_packing_is_undone(numbers: list[int]) -> None:
    """Integers come back, and take eight bytes each, lowest first, on every machine."""
    packed = pack(numbers)
    assert list(unpack(packed)) == numbers
    assert packed == b"".join(n.to_bytes(8, "little", signed=True) for n in numbers)


@given(st.lists(st.integers(0, 40)))
def test_ranges_cover_each_number_once(numbers: list[int]) -> None:
    """The ranges of an ascending list hold exactly its numbers and never touch."""
    numbers.sort()
    spans = list(ranges(numbers))
    assert [n for first, last in spans for n in range(first, last + 1)] == sorted(set(numbers))
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(spans))


def test_a_pages_digest_is_the_one_a_receipt_is_checked_by() -> None:
    """The digest of a page as stored is the one made of its lines, each followed by a newline."""
    lines = [b'[0,"a",{}]', b'[1,"b",{}]']
    assert page_digest(join_lines(lines)) == digests.page_digest(lines)
    assert page_digest(join_lines(lines)) == hashlib.sha256(b'[0,"a",{}]\n[1,"b",{}]\n').hexdigest()


def test_content_is_the_line_without_its_position() -> None:
    """Two records are the same if their lines differ in position only."""
    assert content(line(7, "a,b", {"x": "1"})) == content(line(123, "a,b", {"x": "1"}))
    assert content(line(7, "a", {})) != content(line(7, "b", {}))


@given(
    st.lists(
        st.tuples(any_text, st.dictionaries(any_text, st.none() | any_text, max_size=3)),
        min_size=1,
        max_size=120,
    ),
    st.data(),
)
def test_a_page_gives_back_its_records(
    records: list[tuple[str, dict[str, str | None]]], data: st.DataObject
) -> None:
    """Keys, sizes and fields come back, whether few or many records are asked for, in any order."""
    lines = [line(n, key, fields) for n, (key, fields) in enumerate(records)]
    loads: list[int] = []

    def load() -> bytes:
        loads.append(1)
        return join_lines(lines)

    page = PackedPage(encode_keys([key for key, _ in records]), pack(range(len(records))), load)
    assert page.keys == [key for key, _ in records]
    assert list(page.sizes) == list(range(len(records)))
    assert loads == []
    for _ in range(2):
        offsets = data.draw(st.lists(st.integers(0, len(records) - 1), max_size=2 * len(records)))
        assert page.fields(offsets) == [records[n][1] for n in offsets]
        assert [page.lines()[n] for n in offsets] == [lines[n] for n in offsets]
    assert len(loads) <= 1


def test_the_cache_keeps_the_pages_read_last() -> None:
    """Pages are kept within the budget, the least lately read go first, and one is always kept."""

    def page() -> PackedPage:
        return PackedPage(encode_keys(["k"]), pack([0]), lambda: b"x" * 1000)

    cache = PageCache(budget=2500)
    pages = [page() for _ in range(4)]
    for n in (0, 1, 2):
        cache.keep(n, pages[n])
        pages[n].lines()
        cache.trim()
    assert cache.get(0) is None
    assert cache.get(1) is pages[1]
    cache.keep(3, pages[3])
    pages[3].lines()
    cache.trim()
    assert [cache.get(n) is not None for n in range(4)] == [False, True, False, True]
    tiny = PageCache(budget=0)
    for n in (0, 1, 2):
        tiny.keep(n, pages[n])
        tiny.trim()
    assert [tiny.get(n) is not None for n in range(3)] == [False, False, True]


def test_a_row_is_found_on_its_page() -> None:
    """Pages start at multiples of their length within each run."""
    run = RunId(3)
    assert locate(row_id(run, 0)) == (row_id(run, 0), 0)
    assert locate(row_id(run, 1234)) == (row_id(run, 1000), 234)
    assert locate(RowId(row_id(run, MAX_ROWS - 1)))[0] < row_id(RunId(4), 0)


def test_parse_reads_escaped_halves() -> None:
    """JSON with an escaped half of a surrogate pair is read."""
    value: Any = parse(b'["\\ud83d"]')
    assert value == ["\ud83d"]

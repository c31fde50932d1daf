"""Lines of a result file: the same bytes give the same lines, however they arrive."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.lines import KEPT, CutLine, LineSplitter

UGLY = "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e"


def split(data: bytes, cuts: list[int], cap: int = 1 << 20) -> list[bytes]:
    edges = [0, *sorted({min(c, len(data)) for c in cuts}), len(data)]
    splitter = LineSplitter(cap=cap)
    lines: list[bytes] = []
    for start, end in pairwise(edges):
        lines += splitter.feed(data[start:end])
    return lines + splitter.close()


def expected(data: bytes, cap: int = 1 << 20) -> list[bytes]:
    raw = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    whole = [line[: min(KEPT, cap)] if len(line) > cap else line.removesuffix(b"\r") for line in raw]
    return [line for line in whole if line]


pieces = st.sampled_from(
    [b"\n", b"\r\n", b"\r", b"\n\n", b'{"a":1}', b"x" * 70, b"\xef\xbb\xbf", b" ", UGLY.encode(), b"\xff\x00"]
)


@given(st.lists(pieces, max_size=30).map(b"".join), st.lists(st.integers(0, 400), max_size=12))
def test_chunking_never_changes_the_lines(data: bytes, cuts: list[int]) -> None:
    """Wherever the stream is cut into chunks, the lines are those of the whole."""
    assert split(data, cuts) == expected(data)


@given(
    st.lists(pieces, max_size=30).map(b"".join),
    st.lists(st.integers(0, 400), max_size=12),
    st.integers(1, 90),
)
def test_chunking_never_changes_what_is_cut_off(data: bytes, cuts: list[int], cap: int) -> None:
    """A line longer than the cap is cut to the same beginning, whatever the chunks."""
    assert split(data, cuts, cap) == expected(data, cap)


def test_only_the_line_feed_ends_a_line() -> None:
    """Characters that text iterators take for line ends stay inside their line."""
    line = ('{"custom_id":"a","text":"' + UGLY + '"}').encode()
    assert split(line + b"\n" + line, []) == [line, line]


def test_no_final_newline_loses_nothing() -> None:
    """The last line counts whether or not the file ends with a line end."""
    assert split(b"a\nb", [1]) == split(b"a\nb\n", [2]) == [b"a", b"b"]


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    """A mark at the very beginning is dropped, even when it arrives byte by byte; one later stays."""
    assert split(b"\xef\xbb\xbfa\n\xef\xbb\xbfb", [1, 2, 3]) == [b"a", b"\xef\xbb\xbfb"]
    assert split(b"\xef\xbb", [1]) == [b"\xef\xbb"]


def test_a_line_of_any_length_uses_no_more_memory_than_the_cap() -> None:
    """Of a line beyond the cap only the beginning is kept, marked as cut, and the next line is whole."""
    splitter = LineSplitter(cap=1_000)
    for _ in range(5_000):
        assert splitter.feed(b"x" * 1_000) == []
        assert splitter._held <= 1_001
    lines = splitter.feed(b"\nnext\n")
    assert lines == [b"x" * 1_000, b"next"]
    assert isinstance(lines[0], CutLine)
    assert not isinstance(lines[1], CutLine)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_blank_lines_are_left_out(end: bytes) -> None:
    """Empty lines are no lines, with either kind of line end."""
    assert split(end + b"a" + end + end + b"b" + end, [3]) == [b"a", b"b"]

"""Reading a batch's body as it arrives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.testing import body as body_module
from batchkit.testing.body import BodyTooLarge, decode, read_requests
from batchkit.testing.http import APIError
from batchkit.testing.lines import Lines

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def cut(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


@given(st.lists(values, max_size=8), st.integers(1, 40), st.booleans(), st.sampled_from([None, 1]))
def test_any_cut_of_a_body_gives_the_same_requests(
    requests: list[Any], size: int, ascii_only: bool, indent: int | None
) -> None:
    """However a body is cut and written, its requests come out whole, each with its own one-line text."""
    body = json.dumps({"requests": requests}, ensure_ascii=ascii_only, indent=indent)
    with mock.patch.object(body_module, "_PIECE", size):  # so that every cut is met, also in a short body
        found = list(read_requests(body.encode("utf-8", "replace"), 10**9))
    assert len(found) == len(requests)
    for text, value in found:
        assert "\n" not in text
        assert json.loads(text) == value
    assert [value for _, value in found] == json.loads(body.encode("utf-8", "replace"))["requests"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"requests": [{}',
        b'{"requests": [{}}',
        b'{"requests": [{} {}]}',
        b'{"requests": [{},]}',
        b'{"requests" [{}]}',
        b'{"requests": [{}]',
        b'{"requests": [{}]} x',
        b'{"requests": [{}]}{}',
        b'{"requests": [NaN]}',
        b'{"requests": [-Infinity]}',
        b'{"requests": ["\xff"]}',
        b'{"requests": ["\xe2\x80',
        b'{"requests": ["\\ud800"]}',
        b'{"requests": ["a\nb"]}',
        b'{"requests": [' + b"[" * 200_000,
        b'{"requests": [1' + b"0" * 5_000 + b"]}",
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    """A body that is not one strict JSON object is the caller's mistake, never a crash."""
    with pytest.raises(APIError, match="not valid JSON"):
        list(read_requests(body, 10**9))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{}", "requests: Field required"),
        (b'{"requests": {}}', "valid array"),
        (b'{"requests": [], "label": "nightly"}', "label: Extra inputs"),
    ],
)
def test_another_object_is_refused_by_name(body: bytes, words: str) -> None:
    """A JSON object of another shape is refused with the field that is wrong."""
    with pytest.raises(APIError, match=words):
        list(read_requests(body, 10**9))


def test_escaped_pairs_are_text() -> None:
    """An escaped surrogate pair is one character; half of one is refused."""
    assert decode('"\\ud83d\\ude00"') == "\U0001f600"
    with pytest.raises(APIError):
        decode('"\\ud83d"')


def test_the_limit_counts_bytes() -> None:
    """A body of exactly the limit passes; one byte more does not, however it is cut."""
    body = json.dumps({"requests": ["é" * 50]}, ensure_ascii=False).encode()
    assert len(list(read_requests(cut(body, 7), len(body)))) == 1
    for size in (7, 1_000):
        with pytest.raises(BodyTooLarge):
            list(read_requests(cut(body, size), len(body) - 1))


def test_one_huge_request_is_read() -> None:
    """A request far larger than a piece of reading comes out whole."""
    text = "x" * 3_000_000
    ((_, value),) = read_requests(cut(json.dumps({"requests": [text]}).encode(), 65_536), 10**9)
    assert value == text


@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])), max_size=20))
def test_lines_come_back_as_they_went_in(lines: list[str]) -> None:
    """Compressed lines are the same lines, other line separators inside them included."""
    kept = Lines.of(lines)
    assert list(kept) == lines
    assert b"".join(kept.blocks()) == "".join(f"{line}\n" for line in lines).encode()

"""Repeated keys are found whatever their hashes, and treated as the seal says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchkit.errors import DuplicateKeys
from batchkit.model import OnDuplicate
from batchkit.storage import seal

records = st.lists(
    st.tuples(st.sampled_from(["", "a", "b", "c", "dd"]), st.sampled_from(["1", "2"])), max_size=20
)
choices = st.sampled_from(["refuse", "first", "quarantine"])


def find(rows: Sequence[tuple[str, str]], choice: OnDuplicate, page: int = 3) -> list[int]:
    def pages() -> Iterable[tuple[int, list[str]]]:
        for first in range(0, len(rows), page):
            yield first, [key for key, _ in rows[first : first + page]]

    def line(position: int) -> bytes:
        key, text = rows[position]
        return json.dumps([position, key, {"a": text}], separators=(",", ":")).encode()

    return seal.repeats(pages, line, choice)


def expected(rows: Sequence[tuple[str, str]], choice: OnDuplicate) -> list[int] | None:
    """Say it the slow way; None: refused."""
    marked = []
    for key in {key for key, _ in rows if key}:
        positions = [n for n, row in enumerate(rows) if row[0] == key]
        same = len({rows[n][1] for n in positions}) == 1
        if not same and choice == "refuse":
            return None
        marked += positions if not same and choice == "quarantine" else positions[1:]
    return sorted(marked)


@given(records, choices)
def test_repeats_are_found(rows: list[tuple[str, str]], choice: OnDuplicate) -> None:
    """The records marked are those that a comparison of all with all would mark."""
    wanted = expected(rows, choice)
    if wanted is None:
        with pytest.raises(DuplicateKeys):
            find(rows, choice)
    else:
        assert find(rows, choice) == wanted


@given(records, choices)
@example([("", "1"), ("", "2"), ("a", "1"), ("b", "2")], "refuse")
def test_chance_meetings_of_hashes_mean_nothing(rows: list[tuple[str, str]], choice: OnDuplicate) -> None:
    """Different keys of equal hash are not repeats of each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seal, "hash", lambda key: -5, raising=False)
        test_repeats_are_found.hypothesis.inner_test(rows, choice)  # type: ignore[attr-defined]


def test_the_refusal_names_keys_and_records() -> None:
    """At most ten keys are named, each with at most four records, and how many more there are."""
    rows = [(f"k{n % 12}", str(n)) for n in range(72)]
    with pytest.raises(DuplicateKeys) as caught:
        find(rows, "refuse")
    text = str(caught.value)
    assert text.startswith(
        "12 keys stand in the source with different content: 'k0' (records 0, 12, 24, 36, …); "
    )
    assert "'k9'" in text
    assert "'k10'" not in text
    assert "; and 2 more " in text

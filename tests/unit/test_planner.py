"""Sizes of batches: drawn, distinct, never above a limit."""

from __future__ import annotations

import random
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.body import GuardedBody
from batchkit.errors import UsageError
from batchkit.ids import RowId
from batchkit.planner import Limits, Plan, Sized, draw_count, plan


def pages(sizes: list[int], step: int) -> list[Sized]:
    ids = [RowId(n) for n in range(len(sizes))]
    cuts = range(0, len(sizes), step)
    return [
        Sized(ids[n : n + step], sizes[n : n + step], list(range(len(sizes)))[n : n + step]) for n in cuts
    ]


def planned(
    sizes: list[int], limits: Limits, *, taken: frozenset[int] = frozenset(), seed: int = 0, step: int = 7
) -> Plan:
    return plan(pages(sizes, step), len(sizes), limits, taken, random.Random(seed).randint)


@given(st.integers(1, 1_000), st.integers(1, 300), st.frozensets(st.integers(1, 300)), st.integers())
def test_a_size_is_between_80_and_100_percent_of_the_cap(
    pending: int, cap: int, taken: frozenset[int], seed: int
) -> None:
    """More rows than the cap: at least 80 % of it and never above; otherwise all that is left."""
    size = draw_count(pending, cap, taken, random.Random(seed).randint)
    if pending <= cap:
        assert size == pending
    else:
        assert 0.8 * cap <= size <= cap
        free = set(range(-(-cap * 4 // 5), cap + 1)) - taken
        assert size not in taken or not free


def test_sizes_spread_over_the_whole_range() -> None:
    """Sizes are drawn uniformly: both halves of the range come up about equally often."""
    rng = random.Random(1)
    sizes = [draw_count(10**6, 1_000, frozenset(), rng.randint) for _ in range(4_000)]
    assert min(sizes) < 810
    assert max(sizes) > 990
    assert 0.45 < sum(size > 900 for size in sizes) / len(sizes) < 0.55


@given(
    st.lists(st.integers(1, 60), max_size=60),
    st.integers(1, 30),
    st.integers(40, 500),
    st.none() | st.integers(20, 500),
    st.frozensets(st.integers(1, 30)),
    st.integers(),
)
def test_a_plan_keeps_every_limit_and_the_order(
    sizes: list[int], max_rows: int, max_bytes: int, learned: int | None, taken: frozenset[int], seed: int
) -> None:
    """Rows come in order from the front, the length is exact, no limit is passed, and no row that fits is skipped."""
    limits = Limits(max_rows=max_rows, max_bytes=max_bytes, learned_bytes=learned)
    made = planned(sizes, limits, taken=taken, seed=seed)
    assert len(made.rows) <= max_rows
    if made.rows:
        assert made.size == GuardedBody.length_of(sizes[row] for row in made.rows)
        assert made.size <= max_bytes
        if learned is not None and len(made.rows) > 1:
            assert made.size <= learned
        assert made.cost == sum(made.rows)
    refused = set(made.too_large)
    assert all(sizes[row] + len(b'{"requests":[]}') > max_bytes for row in refused)
    considered = max([*made.rows, -1])
    assert set(range(considered + 1)) - refused == set(made.rows)
    assert made.rows or refused or not sizes


def test_a_row_above_a_learned_limit_goes_alone() -> None:
    """A limit that was guessed from a refusal does not decide about a row: the API does, alone."""
    made = planned([100, 100], Limits(max_rows=10, max_bytes=1_000, learned_bytes=50))
    assert made.rows == (0,)
    assert made.too_large == ()


def test_a_row_above_the_hard_limit_is_named() -> None:
    """A row that no batch can hold is given back, and the rows behind it still go."""
    made = planned([10, 2_000, 10], Limits(max_rows=10, max_bytes=1_000))
    assert made.rows == (0, 2)
    assert made.too_large == (1,)


def test_the_body_may_be_exactly_as_long_as_the_limit() -> None:
    """Rows that sum to the byte limit go together; one byte more and the last one waits."""
    sizes = [100] * 3
    exact = GuardedBody.length_of(sizes)
    assert planned(sizes, Limits(max_rows=10, max_bytes=exact)).size == exact
    assert len(planned(sizes, Limits(max_rows=10, max_bytes=exact - 1)).rows) == 2


def test_a_size_cut_by_bytes_avoids_those_taken() -> None:
    """Where bytes end a batch, a few rows are left for the next one to make its size distinct."""
    limits = Limits(max_rows=100, max_bytes=GuardedBody.length_of([10] * 20))
    made = planned([10] * 50, limits, taken=frozenset({20, 19}))
    assert len(made.rows) == 18
    assert made.size == GuardedBody.length_of([10] * 18)


@given(
    st.lists(st.integers(1, 60), max_size=60),
    st.integers(1, 40),
    st.integers(20, 900),
    st.none() | st.integers(20, 900),
    st.integers(1, 20),
)
def test_a_plan_does_not_depend_on_how_its_rows_are_cut_into_pages(
    sizes: list[int], most: int, max_bytes: int, learned: int | None, step: int
) -> None:
    """Whole pages are taken at once where they fit: the plan is the one that asks row by row."""
    limits = Limits(max_rows=most, max_bytes=max_bytes, learned_bytes=learned)
    assert planned(sizes, limits, step=step) == planned(sizes, limits, step=1)


def test_rows_that_wait_for_something_else_are_left_out() -> None:
    """A page without some of its rows has the sizes and costs of the others."""
    page = pages([10, 20, 30], 3)[0]
    assert page.without(frozenset({RowId(1)})) == Sized([RowId(0), RowId(2)], [10, 30], [0, 2])
    assert page.without(frozenset(page.rows)) == Sized((), (), ())


def test_rows_are_read_no_further_than_needed() -> None:
    """Planning one batch out of endless rows reads about one batch's worth of them."""
    read: list[int] = []

    def endless() -> object:
        for n in count():
            read.append(n)
            yield Sized([RowId(n)], [10], [0])

    plan(endless(), 10**9, Limits(max_rows=50), frozenset(), random.Random(0).randint)  # type: ignore[arg-type]
    assert len(read) <= 50


@pytest.mark.parametrize(
    "limits", [{"max_rows": 0}, {"max_rows": 100_001}, {"max_bytes": 0}, {"max_bytes": 256_000_001}]
)
def test_limits_beyond_the_api_are_refused(limits: dict[str, int]) -> None:
    """What the API would refuse is refused at once."""
    with pytest.raises(UsageError, match="a batch takes"):
        Limits(**limits)

"""How many rows the next batch takes. Pure: chance comes in as a parameter."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, cast

import attrs

from batchkit.body import CLOSING, OPENING
from batchkit.errors import UsageError
from batchkit.ids import RowId

__all__ = ["Limits", "Plan", "Sized", "draw_count", "plan"]

API_ROWS = 100_000
"""Most requests the API takes in one batch."""
API_BYTES = 256_000_000
"""Most bytes the API takes in one batch."""
SHARE = 0.8
"""Sizes are drawn between this share of the cap and the cap."""
REDRAWS = 32

Draw = Callable[[int, int], int]
"""Gives a whole number between its arguments, both included, each equally likely."""


class Sized(NamedTuple):
    """Pending rows: the exact length of the encoded request of each, and its worst cost in nano-dollars."""

    rows: Sequence[RowId]
    sizes: Sequence[int]
    costs: Sequence[int]

    def without(self, rows: AbstractSet[RowId]) -> Sized:
        """Leave some rows out."""
        kept = [item for item in zip(*self, strict=True) if item[0] not in rows]
        return Sized(*map(list, zip(*kept, strict=True))) if kept else Sized((), (), ())


@attrs.frozen(kw_only=True)
class Limits:
    """What one batch may hold.

    ``learned_bytes`` is what the API's refusals taught: a batch stays below it, except that a row which
    alone is larger still goes, alone, so that the API decides about it and not a guess.
    """

    max_rows: int = 40_000
    max_bytes: int = 240_000_000
    learned_bytes: int | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse limits that the API would refuse."""
        if not 1 <= self.max_rows <= API_ROWS:
            raise UsageError(f"max_rows is {self.max_rows}; a batch takes 1 to {API_ROWS:,} rows")
        if not 1 <= self.max_bytes <= API_BYTES:
            raise UsageError(f"max_bytes is {self.max_bytes}; a batch takes 1 to {API_BYTES:,} bytes")


@attrs.frozen(kw_only=True)
class Plan:
    """The rows of one batch in id order, its exact body length, and its worst cost in nano-dollars.

    ``too_large`` are rows that no batch can hold.
    """

    rows: tuple[RowId, ...]
    size: int
    cost: int
    too_large: tuple[RowId, ...] = ()


def draw_count(pending: int, cap: int, taken: AbstractSet[int], draw: Draw) -> int:
    """Draw the size of the next batch: 80 to 100 % of the cap while more rows are left, else the rest.

    Sizes of other batches are avoided where another can be had: the size is what tells a batch of ours
    from a stranger's while it runs.
    """
    if pending <= cap:
        return pending
    low = min(cap, max(1, -(-cap * 4 // 5)))
    count = draw(low, cap)
    for _ in range(REDRAWS):
        if count not in taken:
            break
        count = draw(low, cap)
    else:
        count = next((n for n in range(low, cap + 1) if n not in taken), count)
    return count


def plan(pages: Iterable[Sized], pending: int, limits: Limits, taken: AbstractSet[int], draw: Draw) -> Plan:
    """Choose the rows of the next batch from the front of the pending rows.

    Args:
        pages: The pending rows in id order, some at a time; read no further than needed.
        pending: How many rows are pending.
        limits: What the batch may hold.
        taken: Sizes of other batches that this one should not have.
        draw: The source of chance.
    """
    target = draw_count(pending, limits.max_rows, taken, draw)
    frame = len(OPENING) + len(CLOSING)
    most = limits.max_bytes if limits.learned_bytes is None else min(limits.max_bytes, limits.learned_bytes)
    # Numbers in arrays: 100,000 tuples at once would be looked through by the cyclic collector.
    rows, lengths = array("q"), array("q")
    costs: list[int] = []
    too_large: list[RowId] = []
    size, comma = frame, 0
    full = False
    for page in pages:
        grown = size + comma + sum(page.sizes) + len(page.sizes) - 1
        if page.sizes and grown < most and len(rows) + len(page.sizes) < target:
            # All of them fit, with room for more: no need to ask for each.
            rows.extend(page.rows)
            lengths.extend(page.sizes)
            costs.extend(page.costs)
            size, comma = grown, 1
            continue
        for row, length, cost in zip(*page, strict=True):
            if length + frame > limits.max_bytes:
                too_large.append(row)
                continue
            grown = size + comma + length
            full = bool(comma) and grown > most
            if full:
                break
            rows.append(row)
            lengths.append(length)
            costs.append(cost)
            size, comma = grown, 1
            full = grown >= most or len(rows) >= target
            if full:
                break
        if full:
            break
    if len(rows) + len(too_large) < pending:
        kept = _distinct(len(rows), taken)
        size -= sum(lengths[kept:]) + len(rows) - kept
        del rows[kept:], costs[kept:]
    return Plan(
        rows=cast("tuple[RowId, ...]", tuple(rows)), size=size, cost=sum(costs), too_large=tuple(too_large)
    )


def _distinct(count: int, taken: AbstractSet[int]) -> int:
    """Give how many rows to keep: a few of the last are left for the next batch if that makes the count distinct."""
    spare = min(count // 5, REDRAWS)
    return next((count - n for n in range(spare + 1) if count - n not in taken), count)

"""Where the rows of a page stand, packed: read at once, changed in place. Pure but for the entries it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from struct import Struct
from typing import Final, NamedTuple

from batchkit.errors import StoreError
from batchkit.ids import RowId, RunId
from batchkit.model import SourceRow, Where
from batchkit.states import RowState, after
from batchkit.storage.keyvalue.entries import Entries, key, number, of_run
from batchkit.storage.pages import locate
from batchkit.storage.schema import (
    outcome_masks,
    reason_code,
    reason_mask,
    state_code,
    state_mask,
    tier_mask,
)

_PAGES: Final = 50
"""Pages read at a time: a megabyte."""


class Standing(NamedTuple):
    """Where a row stands, in the numbers that `batchkit.storage.schema` gives to states and reasons.

    ``batch`` and ``result`` are 0 where there is none.
    """

    state: int
    reason: int
    tier: int = 0
    tries: int = 0
    resends: int = 0
    batch: int = 0
    result: int = 0
    cost: int = 0
    answers: int = 0


_ROW: Final = Struct("<BBBIIqqqI")


def frozen_rows(page: Iterable[SourceRow]) -> bytes:
    """Pack the rows of a page that is frozen: each is where its event leads.

    Raises:
        IllegalTransition: an event that freezes nothing.
    """
    rows = ((state_code(after(None, row.event)), reason_code(row.reason), row.result or 0) for row in page)
    return b"".join(_ROW.pack(state, reason, 0, 0, 0, 0, result, 0, 0) for state, reason, result in rows)


def walk_rows(
    entries: Entries, run: RunId, low: RowId | None = None
) -> Iterator[tuple[int, Iterator[tuple[int, ...]]]]:
    """Give the pages of a run, from the page of a row on: the first row's id, and the rows as `Standing` has them."""
    first, end = of_run("rows", run)
    if low is not None:
        first = max(first, key("rows", locate(low).page))
    for name, packed in entries.walk(first, end, _PAGES):
        yield number(name), _ROW.iter_unpack(packed)


def admission(where: Where) -> Callable[[tuple[int, ...]], bool]:
    """Give what tells whether a row is among those that are wanted."""
    states, reasons, tiers = state_mask(where.states), reason_mask(where.reasons), tier_mask(where.tiers)
    outcomes, refused = outcome_masks(where.outcomes)
    quarantined, batch = state_code(RowState.QUARANTINED), where.batch

    @cache
    def stands(state: int, reason: int, tier: int) -> bool:
        wanted = (states & outcomes) >> state & reasons >> reason & tiers >> tier & 1
        return bool(wanted and (state != quarantined or refused >> reason & 1))

    def admits(row: tuple[int, ...]) -> bool:
        return (batch is None or row[5] == batch) and stands(row[0], row[1], row[2])

    return admits


class PackedRows:
    """The pages of some rows, in memory.

    Args:
        entries: where they are.
        rows: whose pages are meant.
    """

    def __init__(self, entries: Entries, rows: Iterable[int]) -> None:
        self._entries = entries
        wanted = {key("rows", locate(RowId(row)).page) for row in rows}
        self._pages = {
            number(name): bytearray(packed) for name, packed in entries.some(sorted(wanted)).items()
        }
        self._changed: set[int] = set()

    def __getitem__(self, row: int) -> Standing:
        """Tell where a row stands.

        Raises:
            StoreError: there is no such row.
        """
        page, offset = locate(RowId(row))
        packed = self._pages.get(page, b"")
        if not 0 <= offset * _ROW.size < len(packed):
            raise StoreError(f"the store holds no row {row}")
        return Standing._make(_ROW.unpack_from(packed, offset * _ROW.size))

    def __setitem__(self, row: int, standing: Standing) -> None:
        """Let a row stand elsewhere."""
        page, offset = locate(RowId(row))
        _ROW.pack_into(self._pages[page], offset * _ROW.size, *standing)
        self._changed.add(page)

    def save(self) -> None:
        """Write back what was changed."""
        self._entries.put({key("rows", page): bytes(self._pages[page]) for page in sorted(self._changed)})

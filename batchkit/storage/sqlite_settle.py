"""Applying what came back: append the results, then one guarded update of the rows they name."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Final

from batchkit.errors import StoreError
from batchkit.ids import BatchId, RowId
from batchkit.model import Applied, Lease, Settled
from batchkit.settledpage import Accepted
from batchkit.states import RowEvent
from batchkit.storage import schema
from batchkit.storage.records import check_rows, clean
from batchkit.storage.settled import check_events, in_order, result_rows
from batchkit.storage.sqlite_base import SQLiteBase

_ACCEPTED: Final = schema.event_code(RowEvent.ACCEPTED)

_APPEND: Final = """
    INSERT INTO result (id, row, batch, event, reason, tier, tries, resends, verdict, cost,
        input, output, cache_write_5m, cache_write_1h, cache_read, model, by, detail, answer)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_ROWS: Final = 100
"""Accepted answers written by one statement: a statement for each would cost more than the writing."""

# What a group of accepted answers shares is bound once, behind 8 values of each answer's own.
_ACCEPT: Final = """
    INSERT INTO result (row, cost, input, output, cache_write_5m, cache_write_1h, cache_read, answer,
        batch, event, tier, tries, resends, model, by, reason, verdict, detail)
    SELECT own.*, shared.*, 0, 0, '' FROM (VALUES {}) AS own CROSS JOIN (SELECT ?, ?, ?, ?, ?, ?, ?) AS shared
"""
_OWN: Final = "(?, ?, ?, ?, ?, ?, ?, ?)"
_ACCEPT_MANY: Final = _ACCEPT.format(", ".join([_OWN] * _ROWS))
_ACCEPT_ONE: Final = _ACCEPT.format(_OWN)

# A row taken from SUBMITTED must be in the batch; every other state is in none.
_APPLY: Final = f"""
    UPDATE row_state SET state = {schema.EVENT_TARGET}, reason = r.reason, tier = r.tier, tries = r.tries,
        resends = r.resends, batch = NULL, result = r.id,
        cost = row_state.cost + iif(r.input IS NULL, 0, r.cost), answers = answers + (r.input IS NOT NULL)
    FROM result AS r
    WHERE r.id BETWEEN ? AND ? AND row_state.id = r.row AND row_state.state = {schema.EVENT_ORIGIN}
        AND (row_state.batch = ? OR row_state.batch IS NULL)
"""  # noqa: S608 (two constants made of the transition table)


class SQLiteSettle(SQLiteBase):
    """``settle`` of `batchkit.storage.BatchStore` on SQLite."""

    _names: dict[str, int]

    def settle(
        self, lease: Lease, source: BatchId | None, page: Sequence[Settled], *, by: str = ""
    ) -> Applied:
        """Append one result per item and apply it to its row, if the row is still where the item takes it from."""
        check_events(page, source)
        try:
            return self._settle(lease, source, page, by)
        except BaseException:
            self._names.clear()  # a name may have been numbered in the transaction that was undone
            raise

    def _settle(self, lease: Lease, source: BatchId | None, page: Sequence[Settled], by: str) -> Applied:
        ordered = in_order(page)
        with self._db.write() as connection:
            run = self._fence(connection, lease)
            if source is not None:
                self._check_source(connection, run.id, source)
            if not page:
                return Applied(applied=0)
            check_rows(run, *ordered.span)
            low = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM result").fetchone()[0]
            count = ordered.total
            high = low + count - 1
            names = {text: self._name(connection, text) for text in {by, *ordered.models}}
            for group in ordered.accepted:
                self._accept(connection, group, (source, names[group.model], names[by]))
            if ordered.others:
                first = high + 1 - len(ordered.others)
                rows = result_rows(first, source, ordered.others, names, by, storable=clean)
                connection.executemany(_APPEND, rows)
            applied = connection.execute(_APPLY, (low, high, source)).rowcount
            cost = ordered.cost
            ignored = ordered.again
            if applied != count:
                unapplied, uncounted = self._withdraw(connection, low, high)
                ignored = sorted([*ordered.again, *unapplied])
                cost -= uncounted
            if source is not None:
                connection.execute(
                    "UPDATE batch SET lines = lines + ?, spent = spent + ? WHERE id = ?",
                    (applied, cost, source),
                )
        return Applied(applied=applied, ignored=tuple(ignored))

    def _accept(
        self, connection: sqlite3.Connection, group: Accepted, names: tuple[BatchId | None, int, int]
    ) -> None:
        source, model, by = names
        shared = (source, _ACCEPTED, group.tier, group.tries, group.resends, model, by)
        lines = group.lines
        whole = len(lines) - len(lines) % _ROWS
        for start in range(0, whole, _ROWS):
            connection.execute(_ACCEPT_MANY, (*chain.from_iterable(lines[start : start + _ROWS]), *shared))
        connection.executemany(_ACCEPT_ONE, [line + shared for line in lines[whole:]])

    def _check_source(self, connection: sqlite3.Connection, run: int, source: BatchId) -> None:
        found = connection.execute("SELECT run FROM batch WHERE id = ?", (source,)).fetchone()
        if found is None or found[0] != run:
            raise StoreError(f"run {run} has no batch {source}; nothing was settled")

    def _withdraw(self, connection: sqlite3.Connection, low: int, high: int) -> tuple[list[RowId], int]:
        """Take back the results that were not applied; give their rows and their cost."""
        gone = connection.execute(
            "DELETE FROM result WHERE id BETWEEN ? AND ? "
            "AND NOT EXISTS (SELECT 1 FROM row_state s WHERE s.id = result.row AND s.result = result.id) "
            "RETURNING row, cost",
            (low, high),
        ).fetchall()
        return [RowId(row) for row, _ in gone], sum(cost for _, cost in gone)

    def _name(self, connection: sqlite3.Connection, text: str) -> int:
        """Give the number of a model's or person's name."""
        known = self._names.get(text)
        if known is None:
            stored = clean(text)
            connection.execute("INSERT OR IGNORE INTO name (text) VALUES (?)", (stored,))
            known = connection.execute("SELECT id FROM name WHERE text = ?", (stored,)).fetchone()[0]
            self._names[text] = known
        return known

"""Applying what came back in PostgreSQL: copy the results in, then one guarded update of the rows they name."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Final

from batchkit.errors import StoreError
from batchkit.ids import BatchId, RowId, row_id
from batchkit.model import Applied, Lease, Settled
from batchkit.storage import schema
from batchkit.storage.postgres_base import PostgresBase, storable
from batchkit.storage.postgres_database import Transaction
from batchkit.storage.records import check_rows
from batchkit.storage.settled import check_events, first_of_each, result_rows

_APPEND: Final = """
    COPY result (id, "row", batch, event, reason, tier, tries, resends, verdict, cost,
        input, output, cache_write_5m, cache_write_1h, cache_read, model, by, detail, answer) FROM STDIN
"""
# A row taken from SUBMITTED must be in the batch; every other state is in none. The ids of the rows stand here although
# the results name them: a list says how many there are. Of a range of results the server guesses it while the table was
# never analyzed, half a percent of all there are, and reads all rows of all runs for a thousand of them.
_APPLY: Final = f"""
    UPDATE row_state s SET state = {schema.EVENT_TARGET}, reason = r.reason, tier = r.tier, tries = r.tries,
        resends = r.resends, batch = NULL, result = r.id,
        cost = s.cost + CASE WHEN r.input IS NULL THEN 0 ELSE r.cost END, answers = s.answers + (r.input IS NOT NULL)::integer
    FROM result AS r
    WHERE r.id BETWEEN %s AND %s AND s.id = r."row" AND s.id = ANY(%s) AND s.state = {schema.EVENT_ORIGIN}
        AND (s.batch = %s OR s.batch IS NULL)
"""  # noqa: S608 (two constants made of the transition table)
_WITHDRAW: Final = """
    DELETE FROM result r WHERE r.id BETWEEN %s AND %s
    AND NOT EXISTS (SELECT 1 FROM row_state s WHERE s.id = r."row" AND s.id = ANY(%s) AND s.result = r.id)
    RETURNING r."row", r.cost
"""


class PostgresSettle(PostgresBase):
    """``settle`` of `batchkit.storage.BatchStore` on PostgreSQL."""

    _names: dict[str, int]

    def settle(
        self, lease: Lease, source: BatchId | None, page: Sequence[Settled], *, by: str = ""
    ) -> Applied:
        """Append one result per item and apply it to its row, if the row is still where the item takes it from."""
        check_events(page, source)
        page = list(page)
        ascending, again = first_of_each(page)
        with self._db.write() as transaction:
            run, before = self._fenced(transaction, lease)
            if source is not None:
                self._check_source(transaction, run.id, source)
            if not page:
                return Applied(applied=0)
            check_rows(run, ascending[0].row, ascending[-1].row)
            low = row_id(run.id, before + 1)
            high = low + len(ascending) - 1
            names = self._numbers(transaction, {by, *(item.model for item in page)})
            rows = result_rows(low, source, ascending, names, by, storable=storable)
            transaction.copy(_APPEND, rows)
            named = [item.row for item in ascending]
            applied = transaction.change(_APPLY, (low, high, named, source))
            cost = sum(map(itemgetter(10), ascending))
            ignored = again
            if applied != len(ascending):
                unapplied, uncounted = self._withdraw(transaction, low, high, named)
                ignored = sorted([*again, *unapplied])
                cost -= uncounted
            if applied:
                transaction.change(
                    "UPDATE run SET results = results + %s WHERE id = %s", (len(ascending), run.id)
                )
            if source is not None:
                transaction.change(
                    "UPDATE batch SET lines = lines + %s, spent = spent + %s WHERE id = %s",
                    (applied, cost, source),
                )
        self._names.update(names)  # not before: another thread would use numbers that may still be undone
        return Applied(applied=applied, ignored=tuple(ignored))

    def _check_source(self, transaction: Transaction, run: int, source: BatchId) -> None:
        found = transaction.first("SELECT run FROM batch WHERE id = %s", (source,))
        if found is None or found[0] != run:
            raise StoreError(f"run {run} has no batch {source}; nothing was settled")

    def _withdraw(
        self, transaction: Transaction, low: int, high: int, named: Sequence[RowId]
    ) -> tuple[list[RowId], int]:
        """Take back the results that were not applied; give their rows and their cost."""
        gone = transaction.all(_WITHDRAW, (low, high, list(named)))
        return [RowId(row) for row, _ in gone], sum(cost for _, cost in gone)

    def _numbers(self, transaction: Transaction, texts: set[str]) -> dict[str, int]:
        """Give the numbers of models' and persons' names."""
        known = {text: number for text in texts if (number := self._names.get(text)) is not None}
        if len(known) == len(texts):
            return known
        stored = {text: storable(text) for text in texts}
        # In order, so that two writers who bring the same new names do not wait for each other.
        transaction.change(
            "INSERT INTO name (text) SELECT text FROM unnest(%s::text[]) AS text ORDER BY text ON CONFLICT DO NOTHING",
            (sorted(set(stored.values())),),
        )
        found = transaction.all("SELECT text, id FROM name WHERE text = ANY(%s)", (list(stored.values()),))
        numbers: dict[str, int] = dict(found)
        return {text: numbers[held] for text, held in stored.items()}

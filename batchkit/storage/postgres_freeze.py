"""Freezing source records, and the seal, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from batchkit.digests import run_digest
from batchkit.errors import DuplicateKeys
from batchkit.ids import row_id
from batchkit.model import Lease, Run, Seal, SourceRow
from batchkit.reasons import Reason
from batchkit.states import RowState, RunState, check_run
from batchkit.storage import schema
from batchkit.storage.frozen import FrozenPage, changed, check_end, check_next, frozen_page, mark_values
from batchkit.storage.pages import locate
from batchkit.storage.postgres_base import storable
from batchkit.storage.postgres_database import Transaction
from batchkit.storage.postgres_rows import PostgresRows
from batchkit.storage.records import as_run, bounds
from batchkit.storage.seal import repeats

_FREEZE: Final = """
    INSERT INTO row_state (id, batch, result, cost, state, reason, tier, tries, resends, answers)
    SELECT %s::bigint + number, NULL, NULL, 0, %s, 0, 0, 0, 0, 0 FROM generate_series(0, %s::integer - 1) AS number
"""
_MARK: Final = """
    UPDATE row_state s SET state = m.state, reason = m.reason, result = m.result
    FROM unnest(%s::bigint[], %s::smallint[], %s::smallint[], %s::bigint[]) AS m (id, state, reason, result)
    WHERE s.id = m.id
"""


class PostgresFreeze(PostgresRows):
    """``freeze`` of `batchkit.storage.RowStore` on PostgreSQL."""

    def freeze(self, lease: Lease, page: Sequence[SourceRow], *, seal: Seal | None = None) -> int:
        """Append a page of source records; with a seal, check the keys and open the run."""
        refused: DuplicateKeys | None = None
        with self._db.write() as transaction:
            run = self._fence(transaction, lease)
            if page:
                run = self._add(transaction, run, page)
            if seal is not None:
                check_end(run, page, seal)
                if run.state is RunState.FREEZING:
                    try:
                        self._seal(transaction, run, seal)
                    except DuplicateKeys as error:  # the drop must be committed, so the raise waits
                        self._drop(transaction, run)
                        refused = error
        if refused is not None:
            raise refused
        return run.rows

    def _add(self, transaction: Transaction, run: Run, page: Sequence[SourceRow]) -> Run:
        made = frozen_page(page)
        if made.first < run.rows:
            self._compare(transaction, run, made)
            return run
        check_next(run, made.first)
        base, count = row_id(run.id, made.first), made.records
        transaction.change(
            "INSERT INTO source_page (id, count, digest, sizes, keys, lines) VALUES (%s, %s, %s, %s, %s, %s)",
            (base, *made[1:6]),
        )
        transaction.change(_FREEZE, (base, schema.state_code(RowState.PENDING), count))
        if made.marked:
            self._mark(transaction, run, made.marked)
        return as_run(
            transaction.all(
                "UPDATE run SET rows = %s WHERE id = %s RETURNING *", (made.first + count, run.id)
            )[0]
        )

    def _mark(self, transaction: Transaction, run: Run, page: Sequence[SourceRow]) -> None:
        """Bring the records that did not simply become PENDING to where their events lead."""
        columns = zip(*(mark_values(run, row) for row in page), strict=True)
        transaction.change(_MARK, [list(column) for column in columns])
        details = [(row_id(run.id, row.position), storable(row.detail)) for row in page if row.detail]
        if details:
            transaction.change(
                "INSERT INTO refusal (id, detail) SELECT * FROM unnest(%s::bigint[], %s::text[])",
                [list(column) for column in zip(*details, strict=True)],
            )

    def _compare(self, transaction: Transaction, run: Run, page: FrozenPage) -> None:
        held, text = transaction.all(
            "SELECT digest, CASE WHEN digest <> %s THEN lines END FROM source_page WHERE id = %s",
            (page.digest, row_id(run.id, page.first)),
        )[0]
        if held != page.digest:
            raise changed(run, page, bytes(text))

    def _seal(self, transaction: Transaction, run: Run, seal: Seal) -> None:
        check_run(run.state, RunState.OPEN)

        def line(position: int) -> bytes:
            place = locate(row_id(run.id, position))
            return self._packed(transaction, place.page, source=True).lines()[place.offset]

        marked = repeats(lambda: self._keys(transaction, run.id), line, seal.on_duplicate)
        repeat = schema.reason_code(Reason.INPUT_DUPLICATE_KEY)
        quarantined = schema.state_code(RowState.QUARANTINED)
        transaction.change(
            # A record refused before keeps its reason.
            "UPDATE row_state SET state = %(to)s, reason = %(repeat)s, result = NULL "
            "WHERE id = ANY(%(ids)s::bigint[]) AND state <> %(to)s",
            {
                "to": quarantined,
                "repeat": repeat,
                "ids": [row_id(run.id, position) for position in marked],
            },
        )
        transaction.change(
            "UPDATE run SET state = %s, digest = %s WHERE id = %s",
            (RunState.OPEN.value, run_digest(self._digests(transaction, run.id)), run.id),
        )

    @override
    def _drop(self, transaction: Transaction, run: Run) -> None:
        span = bounds(run)
        transaction.change("DELETE FROM row_state WHERE id >= %s AND id < %s", span)
        transaction.change("DELETE FROM source_page WHERE id >= %s AND id < %s", span)
        transaction.change("DELETE FROM refusal WHERE id >= %s AND id < %s", span)
        transaction.change("UPDATE run SET rows = 0 WHERE id = %s", (run.id,))

"""Freezing source records, and the seal, in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from batchkit.digests import run_digest
from batchkit.errors import DuplicateKeys
from batchkit.ids import row_id
from batchkit.model import PAGE, Lease, Run, Seal, SourceRow
from batchkit.reasons import Reason
from batchkit.states import RowState, RunState, check_run
from batchkit.storage import schema
from batchkit.storage.frozen import FrozenPage, changed, check_end, check_next, frozen_page, mark_values
from batchkit.storage.pages import locate
from batchkit.storage.records import as_run, bounds, clean
from batchkit.storage.seal import repeats
from batchkit.storage.sqlite_rows import SQLiteRows

_FREEZE: Final = """
    INSERT INTO row_state SELECT ? + value, ?, 0, 0, 0, 0, NULL, NULL, 0, 0 FROM json_each(?) WHERE value < ?
"""
_OFFSETS: Final = json.dumps(list(range(PAGE)))


class SQLiteFreeze(SQLiteRows):
    """``freeze`` of `batchkit.storage.RowStore` on SQLite."""

    def freeze(self, lease: Lease, page: Sequence[SourceRow], *, seal: Seal | None = None) -> int:
        """Append a page of source records; with a seal, check the keys and open the run."""
        refused: DuplicateKeys | None = None
        with self._db.write() as connection:
            run = self._fence(connection, lease)
            if page:
                run = self._add(connection, run, page)
            if seal is not None:
                check_end(run, page, seal)
                if run.state is RunState.FREEZING:
                    try:
                        self._seal(connection, run, seal)
                    except DuplicateKeys as error:  # the drop must be committed, so the raise waits
                        self._drop(connection, run)
                        refused = error
        if refused is not None:
            raise refused
        return run.rows

    def _add(self, connection: sqlite3.Connection, run: Run, page: Sequence[SourceRow]) -> Run:
        made = frozen_page(page)
        if made.first < run.rows:
            self._compare(connection, run, made)
            return run
        check_next(run, made.first)
        base, count = row_id(run.id, made.first), made.records
        connection.execute(
            "INSERT INTO source_page (id, count, digest, sizes, keys, lines) VALUES (?, ?, ?, ?, ?, ?)",
            (base, *made[1:6]),
        )
        connection.execute(_FREEZE, (base, schema.state_code(RowState.PENDING), _OFFSETS, count))
        if made.marked:
            self._mark(connection, run, made.marked)
        return as_run(
            connection.execute(
                "UPDATE run SET rows = ? WHERE id = ? RETURNING *", (made.first + count, run.id)
            ).fetchall()[0]
        )

    def _mark(self, connection: sqlite3.Connection, run: Run, page: Sequence[SourceRow]) -> None:
        """Bring the records that did not simply become PENDING to where their events lead."""
        connection.executemany(
            "UPDATE row_state SET state = ?, reason = ?, result = ? WHERE id = ?",
            [(*values, id_) for id_, *values in (mark_values(run, row) for row in page)],
        )
        connection.executemany(
            "INSERT INTO refusal (row, detail) VALUES (?, ?)",
            [(row_id(run.id, row.position), clean(row.detail)) for row in page if row.detail],
        )

    def _compare(self, connection: sqlite3.Connection, run: Run, page: FrozenPage) -> None:
        held, text = connection.execute(
            "SELECT digest, lines FROM source_page WHERE id = ?", (row_id(run.id, page.first),)
        ).fetchone()
        if held != page.digest:
            raise changed(run, page, bytes(text))

    def _seal(self, connection: sqlite3.Connection, run: Run, seal: Seal) -> None:
        check_run(run.state, RunState.OPEN)

        def line(position: int) -> bytes:
            place = locate(row_id(run.id, position))
            return self._packed(connection, place.page).lines()[place.offset]

        marked = repeats(lambda: self._keys(connection, run.id), line, seal.on_duplicate)
        repeat = schema.reason_code(Reason.INPUT_DUPLICATE_KEY)
        quarantined = schema.state_code(RowState.QUARANTINED)
        connection.executemany(
            # A record refused before keeps its reason.
            "UPDATE row_state SET state = ?, reason = ?, result = NULL WHERE id = ? AND state <> ?",
            ((quarantined, repeat, row_id(run.id, position), quarantined) for position in marked),
        )
        digest = run_digest(digest for (digest,) in self._page_column(connection, run.id, "digest"))
        connection.execute(
            "UPDATE run SET state = ?, digest = ? WHERE id = ?", (RunState.OPEN.value, digest, run.id)
        )

    @override
    def _drop(self, connection: sqlite3.Connection, run: Run) -> None:
        span = bounds(run)
        connection.execute("DELETE FROM row_state WHERE id >= ? AND id < ?", span)
        connection.execute("DELETE FROM source_page WHERE id >= ? AND id < ?", span)
        connection.execute("DELETE FROM refusal WHERE row >= ? AND row < ?", span)
        connection.execute("UPDATE run SET rows = 0 WHERE id = ?", (run.id,))

"""Batches and their members in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from batchkit.errors import OverBudget, StoreError, Unresolved
from batchkit.ids import BatchId, RemoteId, RowId
from batchkit.model import (
    Batch,
    BatchFacts,
    BatchWhere,
    Intent,
    Lease,
    Members,
    Run,
)
from batchkit.states import UNRESOLVED, BatchState, RowState
from batchkit.storage.pages import pack, ranges, unpack
from batchkit.storage.records import after_move, as_batch, check_open, check_rows, moved_values, remote_taken
from batchkit.storage.schema import state_code
from batchkit.storage.sqlite_base import SQLiteBase, numbered

_NOTHING = BatchFacts()
_PENDING: Final = state_code(RowState.PENDING)
_SUBMITTED: Final = state_code(RowState.SUBMITTED)


class SQLiteBatches(SQLiteBase):
    """`batchkit.storage.BatchStore` on SQLite, but for ``settle``."""

    def intend(self, lease: Lease, intent: Intent, rows: Sequence[RowId]) -> Batch:
        """Record a batch with its rows and reserve its cost, or nothing."""
        self._guard.check()
        with self._db.write() as connection:
            run = self._fence(connection, lease)
            check_open(run)
            self._check_intent(connection, intent)
            batch = self._insert_batch(connection, run, intent, len(rows))
            self._take(connection, run, batch, rows)
            seq = self._writes(connection)
        self._guard.note(seq)
        return batch

    def batches(self, where: BatchWhere) -> Sequence[Batch]:
        """Give the matching batches."""
        place = where.place
        with self._db.read() as connection:
            found = connection.execute(
                "SELECT * FROM batch WHERE (:p1 IS NULL OR run = :p1) "
                "AND (:p2 IS NULL OR state IN (SELECT value FROM json_each(:p2))) "
                "AND (:p3 IS NULL OR (base_url = :p3 AND organization = :p4 AND workspace = :p5)) "
                "AND (:p6 IS NULL OR id IN (SELECT value FROM json_each(:p6))) ORDER BY id",
                numbered(
                    where.run,
                    None if where.states is None else json.dumps([state.value for state in where.states]),
                    *(
                        (None, None, None)
                        if place is None
                        else (place.base_url, place.organization, place.workspace)
                    ),
                    None if where.ids is None else json.dumps(where.ids),
                ),
            ).fetchall()
            return [as_batch(row) for row in found]

    def members(self, batch: BatchId) -> Members:
        """Give the rows of a batch, in the order they were given to ``intend``."""
        with self._db.read() as connection:
            return Members(batch=batch, rows=unpack(self._member_blob(connection, batch)))

    def move_batch(
        self,
        lease: Lease,
        batch: BatchId,
        *,
        expect: BatchState,
        to: BatchState,
        facts: BatchFacts = _NOTHING,
        free: bool = False,
    ) -> Batch:
        """Move a batch and apply the facts; with ``free`` give its rows back."""
        claim = to is BatchState.SENDING and expect is not to
        if claim:
            self._guard.check()
        with self._db.write() as connection:
            run = self._fence(connection, lease)
            held = self._batch(connection, run, batch)
            moved = self._update_batch(connection, after_move(held, expect, to, facts))
            if free:
                self._free(connection, batch)
            self._append_events(connection, run.id, facts.events)
            seq = self._writes(connection)
        if claim:
            self._guard.note(seq)
        return moved

    def strangers(self, workspace: str, ids: Sequence[RemoteId]) -> frozenset[RemoteId]:
        """Give those of the ids that were dismissed as not ours in this workspace."""
        with self._db.read() as connection:
            found = connection.execute(
                "SELECT id FROM stranger WHERE workspace = ? AND id IN (SELECT value FROM json_each(?))",
                (workspace, json.dumps(list(ids))),
            ).fetchall()
            return frozenset(RemoteId(id_) for (id_,) in found)

    def dismiss(self, workspace: str, ids: Sequence[RemoteId]) -> None:
        """Remember that these remote batches are not ours."""
        with self._db.write() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO stranger VALUES (?, ?)", ((workspace, id_) for id_ in ids)
            )

    def held(self) -> str:
        """Tell why this store makes no batches: it looks copied or restored. Empty if it does not."""
        return self._guard.why

    def confirm(self) -> None:
        """Let a held store go on: a person knows that no other copy of it does.

        Batches that the other copy may have sent, in INTENT or SENDING, become DOUBTFUL, so that they
        are looked up before anything is sent again, and every lease ends. Does nothing unless held.
        """
        if not self._guard.why:
            return
        with self._db.write() as connection:
            connection.execute(
                "UPDATE batch SET state = ? WHERE state IN (?, ?)",
                (BatchState.DOUBTFUL.value, BatchState.INTENT.value, BatchState.SENDING.value),
            )
            connection.execute("UPDATE run SET seq = seq + 1, epoch = epoch + 1, owner = '', lease_until = 0")
            seq = self._writes(connection)
        self._guard.confirm(seq)

    def _check_intent(self, connection: sqlite3.Connection, intent: Intent) -> None:
        place = intent.place
        waiting = connection.execute(
            "SELECT id, state FROM batch WHERE base_url = ? AND organization = ? AND workspace = ? "
            "AND (state IN (SELECT value FROM json_each(?)) OR (state = ? AND held_from = ?)) LIMIT 1",
            (
                place.base_url,
                place.organization,
                place.workspace,
                json.dumps(sorted(state.value for state in UNRESOLVED)),
                BatchState.HELD.value,
                BatchState.DOUBTFUL.value,
            ),
        ).fetchone()
        if waiting is not None:
            raise Unresolved(
                f"batch {waiting[0]} is {waiting[1]}; until that is settled no other batch is made here"
            )
        if connection.execute("SELECT 1 FROM batch WHERE nonce = ?", (intent.nonce,)).fetchone():
            raise StoreError(f"the nonce {intent.nonce} was used before; draw another")
        if intent.cap is not None:
            spent, reserved = connection.execute(
                "SELECT coalesce(sum(spent), 0), coalesce(sum(reserved), 0) FROM batch"
            ).fetchone()
            if spent + reserved + intent.reserve > intent.cap:
                raise OverBudget(wanted=intent.reserve, spent=spent, reserved=reserved, cap=intent.cap)

    def _insert_batch(self, connection: sqlite3.Connection, run: Run, intent: Intent, count: int) -> Batch:
        head, place = intent.head, intent.place
        made = connection.execute(
            "INSERT INTO batch (run, state, nonce, count, size, base_url, organization, workspace, head_id, head_at, "
            "reserved, deadline, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
            (
                run.id,
                BatchState.INTENT.value,
                intent.nonce,
                count,
                intent.size,
                place.base_url,
                place.organization,
                place.workspace,
                None if head is None else head.remote_id,
                None if head is None else head.created_at,
                intent.reserve,
                intent.deadline,
                self.now(),
            ),
        ).fetchall()
        return as_batch(made[0])

    def _take(self, connection: sqlite3.Connection, run: Run, batch: Batch, rows: Sequence[RowId]) -> None:
        if not rows:
            raise StoreError("a batch has at least one row; nothing was written")
        ascending = sorted(rows)
        check_rows(run, ascending[0], ascending[-1])
        taken = connection.executemany(
            "UPDATE row_state SET state = ?, batch = ? WHERE id BETWEEN ? AND ? AND state = ?",
            ((_SUBMITTED, batch.id, first, last, _PENDING) for first, last in ranges(ascending)),
        ).rowcount
        if taken != len(rows):  # rows that are not pending, or one given twice
            raise StoreError(
                f"{len(rows) - taken} of {len(rows)} rows are not pending or given twice; no batch was made"
            )
        connection.execute("INSERT INTO member (batch, rows) VALUES (?, ?)", (batch.id, pack(rows)))

    def _free(self, connection: sqlite3.Connection, batch: BatchId) -> None:
        connection.executemany(
            "UPDATE row_state SET state = ?, batch = NULL WHERE id BETWEEN ? AND ? AND batch = ? AND state = ?",
            (
                (_PENDING, first, last, batch, _SUBMITTED)
                for first, last in ranges(sorted(unpack(self._member_blob(connection, batch))))
            ),
        )

    def _member_blob(self, connection: sqlite3.Connection, batch: BatchId) -> bytes:
        found = connection.execute("SELECT rows FROM member WHERE batch = ?", (batch,)).fetchone()
        if found is None:
            raise StoreError(f"the store holds no batch {batch}")
        return bytes(found[0])

    def _batch(self, connection: sqlite3.Connection, run: Run, batch: BatchId) -> Batch:
        found = connection.execute("SELECT * FROM batch WHERE id = ?", (batch,)).fetchone()
        if found is None or found[1] != run.id:
            raise StoreError(f"run {run.name!r} has no batch {batch}; nothing was changed")
        return as_batch(found)

    def _update_batch(self, connection: sqlite3.Connection, batch: Batch) -> Batch:
        if batch.remote_id is not None:
            other = connection.execute(
                "SELECT id FROM batch WHERE remote_id = ? AND id <> ?", (batch.remote_id, batch.id)
            ).fetchone()
            if other is not None:
                raise remote_taken(batch.remote_id, other[0])
        connection.execute(
            "UPDATE batch SET state = ?, claim = ?, remote_id = ?, sent_at = ?, expires_at = ?, reserved = ?, held_from = ?, "
            "need = ?, notes = ?, spent = ? WHERE id = ?",
            moved_values(batch),
        )
        return batch

    def _writes(self, connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT coalesce(sum(seq), 0) FROM run").fetchone()[0])

"""Batches and their members in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from batchkit.errors import OverBudget, StoreError, Unresolved
from batchkit.ids import BatchId, RemoteId, RowId
from batchkit.model import Batch, BatchFacts, BatchWhere, Intent, Lease, Members, Run
from batchkit.states import UNRESOLVED, BatchState, RowState
from batchkit.storage.pages import pack, ranges, unpack
from batchkit.storage.postgres_base import NOW, PostgresBase
from batchkit.storage.postgres_database import Transaction
from batchkit.storage.postgres_schema import IDENTITY
from batchkit.storage.records import after_move, as_batch, check_open, check_rows, moved_values, remote_taken
from batchkit.storage.schema import state_code

_NOTHING = BatchFacts()
_PENDING: Final = state_code(RowState.PENDING)
_SUBMITTED: Final = state_code(RowState.SUBMITTED)
_INTEND: Final = f"""
    INSERT INTO batch (run, state, nonce, count, size, base_url, organization, workspace, head_id, head_at, reserved,
        deadline, created_at)
    VALUES (%(run)s, %(state)s, %(nonce)s, %(count)s, %(size)s, %(base_url)s, %(organization)s, %(workspace)s, %(head_id)s,
        %(head_at)s, %(reserved)s, %(deadline)s, {NOW})
    RETURNING *
"""  # noqa: S608 (a constant)
_TAKE: Final = """
    UPDATE row_state s SET state = %s, batch = %s FROM unnest(%s::bigint[], %s::bigint[]) AS taken (first, last)
    WHERE s.id BETWEEN taken.first AND taken.last AND s.state = %s
"""
_FREE: Final = """
    UPDATE row_state s SET state = %s, batch = NULL FROM unnest(%s::bigint[], %s::bigint[]) AS freed (first, last)
    WHERE s.id BETWEEN freed.first AND freed.last AND s.batch = %s AND s.state = %s
"""


class PostgresBatches(PostgresBase):
    """`batchkit.storage.BatchStore` on PostgreSQL, but for ``settle``."""

    def intend(self, lease: Lease, intent: Intent, rows: Sequence[RowId]) -> Batch:
        """Record a batch with its rows and reserve its cost, or nothing."""
        self._check_held()
        with self._db.write() as transaction:
            run = self._fence(transaction, lease)
            check_open(run)
            self._check_intent(transaction, intent)
            batch = self._insert_batch(transaction, run, intent, len(rows))
            self._take(transaction, run, batch, rows)
        return batch

    def batches(self, where: BatchWhere) -> Sequence[Batch]:
        """Give the matching batches."""
        place = where.place
        with self._db.read() as transaction:
            found = transaction.all(
                "SELECT * FROM batch WHERE (%(run)s::bigint IS NULL OR run = %(run)s::bigint) "
                "AND (%(states)s::text[] IS NULL OR state = ANY(%(states)s::text[])) "
                "AND (%(base_url)s::text IS NULL OR (base_url = %(base_url)s::text "
                "AND organization = %(organization)s::text AND workspace = %(workspace)s::text)) "
                "AND (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s::bigint[])) ORDER BY id",
                {
                    "run": where.run,
                    "states": None if where.states is None else [state.value for state in where.states],
                    "base_url": place and place.base_url,
                    "organization": place and place.organization,
                    "workspace": place and place.workspace,
                    "ids": None if where.ids is None else list(where.ids),
                },
            )
        return [as_batch(row) for row in found]

    def members(self, batch: BatchId) -> Members:
        """Give the rows of a batch, in the order they were given to ``intend``."""
        with self._db.read() as transaction:
            return Members(batch=batch, rows=unpack(self._member_blob(transaction, batch)))

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
        if to is BatchState.SENDING and expect is not to:
            self._check_held()
        with self._db.write() as transaction:
            run = self._fence(transaction, lease)
            held = self._batch(transaction, run, batch)
            moved = self._update_batch(transaction, after_move(held, expect, to, facts))
            if free:
                self._free(transaction, batch)
            self._append_events(transaction, run.id, facts.events)
        return moved

    def strangers(self, workspace: str, ids: Sequence[RemoteId]) -> frozenset[RemoteId]:
        """Give those of the ids that were dismissed as not ours in this workspace."""
        with self._db.read() as transaction:
            found = transaction.all(
                "SELECT id FROM stranger WHERE workspace = %s AND id = ANY(%s::text[])",
                (workspace, list(ids)),
            )
        return frozenset(RemoteId(id_) for (id_,) in found)

    def dismiss(self, workspace: str, ids: Sequence[RemoteId]) -> None:
        """Remember that these remote batches are not ours."""
        with self._db.write() as transaction:
            transaction.change(
                "INSERT INTO stranger SELECT %s::text, id FROM unnest(%s::text[]) AS id ORDER BY id ON CONFLICT DO NOTHING",
                (workspace, list(ids)),
            )

    def held(self) -> str:
        """Tell why this store makes no batches: it looks copied or restored. Empty if it does not."""
        return self._why

    def confirm(self) -> None:
        """Let a held store go on: a person knows that no other copy of it does.

        Batches that the other copy may have sent, in INTENT or SENDING, become DOUBTFUL, so that they
        are looked up before anything is sent again, and every lease ends. Does nothing unless held.
        """
        if not self._why:
            return
        with self._db.write() as transaction:
            transaction.change("UPDATE run SET seq = seq + 1, epoch = epoch + 1, owner = '', lease_until = 0")
            transaction.change(
                "UPDATE batch SET state = %s WHERE state = ANY(%s)",
                (BatchState.DOUBTFUL.value, [BatchState.INTENT.value, BatchState.SENDING.value]),
            )
            transaction.change(f"UPDATE store SET (cluster, database) = (SELECT {IDENTITY})")  # noqa: S608 (a constant)
        self._why = ""

    def _check_intent(self, transaction: Transaction, intent: Intent) -> None:
        place = intent.place
        # One intent at a time in the whole store: what is counted here must still be so when it is committed.
        transaction.all("SELECT version FROM store FOR UPDATE")
        waiting = transaction.first(
            "SELECT id, state FROM batch WHERE base_url = %s AND organization = %s AND workspace = %s "
            "AND (state = ANY(%s) OR (state = %s AND held_from = %s)) LIMIT 1",
            (
                place.base_url,
                place.organization,
                place.workspace,
                sorted(state.value for state in UNRESOLVED),
                BatchState.HELD.value,
                BatchState.DOUBTFUL.value,
            ),
        )
        if waiting is not None:
            raise Unresolved(
                f"batch {waiting[0]} is {waiting[1]}; until that is settled no other batch is made here"
            )
        if transaction.first("SELECT 1 FROM batch WHERE nonce = %s", (intent.nonce,)):
            raise StoreError(f"the nonce {intent.nonce} was used before; draw another")
        if intent.cap is not None:
            spent, reserved = transaction.all(
                "SELECT coalesce(sum(spent), 0)::bigint, coalesce(sum(reserved), 0)::bigint FROM batch"
            )[0]
            if spent + reserved + intent.reserve > intent.cap:
                raise OverBudget(wanted=intent.reserve, spent=spent, reserved=reserved, cap=intent.cap)

    def _insert_batch(self, transaction: Transaction, run: Run, intent: Intent, count: int) -> Batch:
        head, place = intent.head, intent.place
        values = self._moment(
            run=run.id,
            state=BatchState.INTENT.value,
            nonce=intent.nonce,
            count=count,
            size=intent.size,
            base_url=place.base_url,
            organization=place.organization,
            workspace=place.workspace,
            head_id=None if head is None else head.remote_id,
            head_at=None if head is None else head.created_at,
            reserved=intent.reserve,
            deadline=intent.deadline,
        )
        return as_batch(transaction.all(_INTEND, values)[0])

    def _take(self, transaction: Transaction, run: Run, batch: Batch, rows: Sequence[RowId]) -> None:
        if not rows:
            raise StoreError("a batch has at least one row; nothing was written")
        ascending = sorted(rows)
        check_rows(run, ascending[0], ascending[-1])
        taken = transaction.change(_TAKE, (_SUBMITTED, batch.id, *_columns(ascending), _PENDING))
        if taken != len(rows):  # rows that are not pending, or one given twice
            raise StoreError(
                f"{len(rows) - taken} of {len(rows)} rows are not pending or given twice; no batch was made"
            )
        transaction.change("INSERT INTO member (batch, rows) VALUES (%s, %s)", (batch.id, pack(rows)))

    def _free(self, transaction: Transaction, batch: BatchId) -> None:
        ascending = sorted(unpack(self._member_blob(transaction, batch)))
        transaction.change(_FREE, (_PENDING, *_columns(ascending), batch, _SUBMITTED))

    def _member_blob(self, transaction: Transaction, batch: BatchId) -> bytes:
        found = transaction.first("SELECT rows FROM member WHERE batch = %s", (batch,))
        if found is None:
            raise StoreError(f"the store holds no batch {batch}")
        return bytes(found[0])

    def _batch(self, transaction: Transaction, run: Run, batch: BatchId) -> Batch:
        found = transaction.first("SELECT * FROM batch WHERE id = %s", (batch,))
        if found is None or found[1] != run.id:
            raise StoreError(f"run {run.name!r} has no batch {batch}; nothing was changed")
        return as_batch(found)

    def _update_batch(self, transaction: Transaction, batch: Batch) -> Batch:
        if batch.remote_id is not None:
            other = transaction.first(
                "SELECT id FROM batch WHERE remote_id = %s AND id <> %s", (batch.remote_id, batch.id)
            )
            if other is not None:
                raise remote_taken(batch.remote_id, other[0])
        transaction.change(
            "UPDATE batch SET state = %s, claim = %s, remote_id = %s, sent_at = %s, expires_at = %s, reserved = %s, "
            "held_from = %s, need = %s, notes = %s, spent = %s WHERE id = %s",
            moved_values(batch),
        )
        return batch


def _columns(ascending: Sequence[int]) -> tuple[list[int], list[int]]:
    """Give the first and the last of each run of consecutive rows."""
    spans = list(ranges(ascending))
    return [first for first, _ in spans], [last for _, last in spans]

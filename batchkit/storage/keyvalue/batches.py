"""Batches and their members in an ordered map."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from batchkit.errors import OverBudget, StoreError, Unresolved
from batchkit.ids import BatchId, RowId
from batchkit.model import Batch, BatchFacts, BatchWhere, Intent, Lease, Members, Run
from batchkit.states import UNRESOLVED, BatchState, RowState
from batchkit.storage.keyvalue.documents import KeyValueDocuments
from batchkit.storage.keyvalue.entries import Entries, key
from batchkit.storage.keyvalue.packed import PackedRows
from batchkit.storage.pages import pack, unpack
from batchkit.storage.records import (
    after_move,
    as_batch,
    batch_values,
    check_open,
    check_rows,
    dump,
    remote_taken,
)
from batchkit.storage.schema import state_code

_NOTHING = BatchFacts()
_PENDING = state_code(RowState.PENDING)
_SUBMITTED = state_code(RowState.SUBMITTED)


class KeyValueBatches(KeyValueDocuments):
    """`batchkit.storage.BatchStore` on an ordered map, but for ``settle`` and strangers."""

    def intend(self, lease: Lease, intent: Intent, rows: Sequence[RowId]) -> Batch:
        """Record a batch with its rows and reserve its cost, or nothing."""
        with self._write() as entries:
            run = self._fence(entries, lease)
            check_open(run)
            _check_intent(list(_batches(entries)), intent)
            if not rows:
                raise StoreError("a batch has at least one row; nothing was written")
            check_rows(run, min(rows), max(rows))
            batch = Batch(
                id=BatchId(entries.draw("batch")),
                run=run.id,
                state=BatchState.INTENT,
                nonce=intent.nonce,
                count=len(rows),
                size=intent.size,
                place=intent.place,
                head=intent.head,
                reserved=intent.reserve,
                deadline=intent.deadline,
                created_at=self.now(),
            )
            held = PackedRows(entries, rows)
            for row in rows:
                standing = held[row]
                if standing.state != _PENDING:
                    raise StoreError(f"row {row} is not pending or given twice; no batch was made")
                held[row] = standing._replace(state=_SUBMITTED, batch=batch.id)
            held.save()
            entries.put({key("members", batch.id): pack(rows)})
            self._keep_batch(entries, batch)
            return batch

    def batches(self, where: BatchWhere) -> Sequence[Batch]:
        """Give the matching batches."""
        with self._read() as entries:
            if where.ids is None:
                found = list(_batches(entries))
            else:
                stored = entries.some(key("batch", id_) for id_ in where.ids)
                found = [_decoded(stored[name]) for name in sorted(stored)]
        return [
            batch
            for batch in found
            if (where.run is None or batch.run == where.run)
            and (where.states is None or batch.state in where.states)
            and (where.place is None or batch.place == where.place)
        ]

    def members(self, batch: BatchId) -> Members:
        """Give the rows of a batch, in the order they were given to ``intend``."""
        with self._read() as entries:
            packed = entries.one(key("members", batch))
        if packed is None:
            raise StoreError(f"the store holds no batch {batch}")
        return Members(batch=batch, rows=unpack(packed))

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
        with self._write() as entries:
            run = self._fence(entries, lease)
            held = self._batch(entries, run, batch)
            moved = after_move(held, expect, to, facts)
            if moved.remote_id is not None and moved.remote_id != held.remote_id:
                for other in _batches(entries):
                    if other.remote_id == moved.remote_id:
                        raise remote_taken(moved.remote_id, other.id)
            self._keep_batch(entries, moved)
            if free:
                _free(entries, batch)
            self._tell(entries, run.id, facts.events)
            return moved

    def _batch(self, entries: Entries, run: Run, batch: BatchId) -> Batch:
        stored = entries.one(key("batch", batch))
        found = None if stored is None else _decoded(stored)
        if found is None or found.run != run.id:
            raise StoreError(f"run {run.name!r} has no batch {batch}; nothing was changed")
        return found

    def _keep_batch(self, entries: Entries, batch: Batch) -> None:
        entries.put({key("batch", batch.id): dump(batch_values(batch)).encode()})


def _decoded(stored: bytes) -> Batch:
    return as_batch(json.loads(stored))


def _batches(entries: Entries) -> Iterator[Batch]:
    return map(_decoded, entries.table("batch"))


def _check_intent(batches: Sequence[Batch], intent: Intent) -> None:
    """Make sure that a batch may be made beside these, which are all of the store."""
    for batch in batches:
        waits = batch.state in UNRESOLVED or batch.held_from is BatchState.DOUBTFUL
        if waits and batch.place == intent.place:
            raise Unresolved(
                f"batch {batch.id} is {batch.state.value}; until that is settled no other batch is made here"
            )
        if batch.nonce == intent.nonce:
            raise StoreError(f"the nonce {intent.nonce} was used before; draw another")
    spent, reserved = sum(batch.spent for batch in batches), sum(batch.reserved for batch in batches)
    if intent.cap is not None and spent + reserved + intent.reserve > intent.cap:
        raise OverBudget(wanted=intent.reserve, spent=spent, reserved=reserved, cap=intent.cap)


def _free(entries: Entries, batch: BatchId) -> None:
    members = unpack(entries.one(key("members", batch)) or b"")
    held = PackedRows(entries, members)
    for row in members:
        standing = held[row]
        if (standing.state, standing.batch) == (_SUBMITTED, batch):
            held[row] = standing._replace(state=_PENDING, batch=0)
    held.save()

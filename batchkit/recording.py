"""What a create proved, on record: live, rejected, or doubtful."""

from __future__ import annotations

import attrs

from batchkit.doubt import Acknowledged, Cause, Doubtful, Refused, classify
from batchkit.errors import LeaseLost, ProviderError
from batchkit.ids import BatchId, RowId
from batchkit.model import Batch, BatchFacts, BatchWhere, Lease, Need, NewEvent, Settled
from batchkit.reasons import Reason
from batchkit.refusals import Refusals, money_need, need_of, person_need
from batchkit.remote import CreateAnswer
from batchkit.resolver import open_doubt
from batchkit.states import BatchState, RowEvent
from batchkit.storage import Store
from batchkit.suspects import note_suspect
from batchkit.watch import LENGTH, REPLAYED_WITHIN, Watch

__all__ = ["WAITING", "Recorder", "Sent", "refuse_rows", "unlisted"]

MINUTE = 60.0
READ = 1_000
"""Rows settled at a time."""
WAITING = frozenset(
    {BatchState.INTENT, BatchState.SENDING, BatchState.DOUBTFUL, BatchState.LIVE, BatchState.HELD}
)
"""States in which a batch's requests may be waiting at the provider."""


@attrs.frozen(kw_only=True)
class Sent:
    """What one `ChunkedSubmitter.send` did.

    Args:
        batch: The batch that was tried, as it is now. None: none was.
        rows: How many requests went out, or may have.
        wait_until: When to try again (epoch seconds of the store's clock); None: when something else changes.
        need: What only somebody else can give; the run should pause.
        why: Why nothing was sent, in a few words; empty if something was, or nothing is pending.
        quarantined: Rows that no batch can hold.
        last: The last row that went out. Until something else changes, the pending rows are those after it.
    """

    batch: Batch | None = None
    rows: int = 0
    wait_until: float | None = None
    need: Need | None = None
    why: str = ""
    quarantined: int = 0
    last: RowId | None = None


class Recorder:
    """Writes down what became of creates."""

    def __init__(self, store: Store) -> None:
        """Prepare."""
        self._store = store

    def record(self, lease: Lease, batch: Batch, answer: CreateAnswer, *, stopped: bool = False) -> Sent:
        """Move a batch in SENDING to what the answer proves: live, rejected, or doubtful.

        Raises:
            LeaseLost: another process moves the run now; the id of a batch that exists is left for it.
        """
        verdict = classify(answer, batch.count)
        notes: dict[str, object] = {}
        if answer.handed_over:
            notes["handed_over_at"] = answer.date
        if answer.request_id:
            notes["request_id"] = answer.request_id
        if answer.handed_over and not isinstance(verdict, Doubtful):
            # Something on the way may have sent the whole body twice, whatever the answer says.
            at = answer.date if answer.date is not None else self._store.now()
            notes["watch"] = Watch(until=at + LENGTH, latest=at + REPLAYED_WITHIN).to_json()
        match verdict:
            case Acknowledged():
                return self._live(lease, batch, verdict, notes)
            case Refused():
                return self._rejected(lease, batch, verdict, notes, stopped=stopped)
            case Doubtful():
                moved = open_doubt(
                    self._store,
                    lease,
                    batch,
                    verdict.why,
                    suspect=verdict.suspect,
                    date=answer.date,
                    notes=notes,
                )
                return Sent(batch=moved, rows=batch.count, wait_until=self._store.now() + MINUTE)

    def record_left(self, lease: Lease, batch: BatchId, claim: str, answer: CreateAnswer) -> None:
        """Write down what is known of a batch under this claim, where a sender was interrupted before it could."""
        held = self._store.batches(BatchWhere(ids=(batch,)))[0]
        if held.state is BatchState.SENDING and held.claim == claim:
            self.record(lease, held, answer, stopped=True)

    def _live(self, lease: Lease, batch: Batch, verdict: Acknowledged, notes: dict[str, object]) -> Sent:
        remote = verdict.remote
        facts = BatchFacts(
            remote_id=remote.id,
            expires_at=remote.expires_at,
            notes={**notes, "remote_created_at": remote.created_at},
            events=(NewEvent(kind="batch.sent", data={"batch": batch.id, "rows": batch.count}),),
        )
        try:
            moved = self._store.move_batch(
                lease, batch.id, expect=BatchState.SENDING, to=BatchState.LIVE, facts=facts
            )
        except LeaseLost:
            # Fenced off with a paid batch in hand: whoever moves the run now must look at this one first.
            note_suspect(self._store, batch.id, remote.id)
            raise
        return Sent(batch=moved, rows=batch.count)

    def _rejected(
        self, lease: Lease, batch: Batch, verdict: Refused, notes: dict[str, object], *, stopped: bool
    ) -> Sent:
        now = self._store.now()
        cause = verdict.cause
        history = Refusals(batches=self._store.batches(BatchWhere(run=batch.run)), now=now)
        retry_at: float | None = None
        if cause is Cause.RATE:
            retry_at = now + (verdict.retry_after or MINUTE)
        elif cause is Cause.QUEUE or (cause is Cause.UNSENT and not stopped):
            retry_at = now + history.backoff
        refused: dict[str, object] = {
            "cause": cause.value,
            "at": now,
            "retry_at": retry_at,
            "status": verdict.status,
            "message": verdict.message,
        }
        if cause is Cause.QUEUE:
            waiting = sum(b.count for b in self._store.batches(BatchWhere()) if b.state in WAITING)
            refused["queue_limit"] = max(1, waiting // 2)
        moved = self._store.move_batch(
            lease,
            batch.id,
            expect=BatchState.SENDING,
            to=BatchState.REJECTED,
            facts=BatchFacts(
                reserved=0,
                notes={**notes, "refused": refused},
                events=(NewEvent(kind="batch.rejected", data={"batch": batch.id, "cause": cause.value}),),
            ),
            free=True,
        )
        alone = cause is Cause.TOO_LARGE and batch.count == 1
        if alone:
            row = RowId(self._store.members(batch.id).rows[0])
            refuse_rows(self._store, lease, (row,), "the API refused a batch of this row alone as too large")
        return Sent(
            batch=moved, wait_until=retry_at, need=need_of(verdict), why=cause.value, quarantined=int(alone)
        )


def unlisted(error: ProviderError, now: float) -> Sent:
    """Say what it means that the list could not be read before a create: nothing was sent."""
    if error.status in {401, 403}:
        return Sent(need=person_need(str(error)))
    if error.status == 402:
        return Sent(need=money_need(str(error)))
    wait = error.retry_after if error.retry_after is not None else MINUTE
    return Sent(wait_until=now + wait, why=str(error))


def refuse_rows(store: Store, lease: Lease, rows: tuple[RowId, ...], why: str) -> None:
    """Quarantine rows that no batch can hold."""
    for start in range(0, len(rows), READ):
        settled = [
            Settled(
                row.id,
                RowEvent.UNSENDABLE,
                Reason.INPUT_TOO_LARGE,
                row.tier,
                row.tries,
                row.resends,
                verdict=Reason.INPUT_TOO_LARGE,
                detail=why,
            )
            for row in store.rows(rows[start : start + READ])
        ]
        store.settle(lease, None, settled)

"""Asking after running batches: when, how, and what a missing one means."""

from __future__ import annotations

from collections.abc import Mapping

from batchkit.api import Gateway
from batchkit.chance import Chance
from batchkit.clock import LONGEST, to_come
from batchkit.errors import ProviderError
from batchkit.fixes import decision_fix
from batchkit.ids import BatchId, RemoteId
from batchkit.listing import server_time
from batchkit.model import Batch, BatchFacts, BatchWhere, Lease, Need, NewEvent, Run
from batchkit.remote import RemoteBatch
from batchkit.states import BatchState
from batchkit.storage import Store

__all__ = ["Poller", "hold"]

MINUTE = 60.0
HOUR = 3_600.0
DAY = 86_400.0
MISSES = 10
"""Times in a row that a known batch must be unknown to the API, besides 24 hours, before a person is asked."""
TOGETHER = 10.0
"""Seconds within which polls are made in one go."""
BY_ID = 3
"""Running batches up to which each is asked for by id; more are looked up in the list."""


class Poller:
    """Asks after the running batches of runs."""

    def __init__(self, store: Store, gateway: Gateway, rng: Chance) -> None:
        """Prepare; ``rng`` spreads the polls."""
        self._store = store
        self._gateway = gateway
        self._rng = rng
        self._next_look: dict[BatchId, float] = {}

    def poll(self, lease: Lease, run: Run) -> float | None:
        """Ask after the run's running batches, if it is time; give when to ask next.

        Raises:
            ProviderError: the API refuses the credential (401, 402, 403); the run should pause.
            LeaseLost: another process moves the run now.
        """
        live = self._store.batches(BatchWhere(run=run.id, states=frozenset({BatchState.LIVE})))
        now = self._store.now()
        looks = {batch.id: self._next_look.get(batch.id, now) for batch in live}
        looks = {batch: at if to_come(at, now) else now for batch, at in looks.items()}
        # Once somebody has to ask, those whose turn is near are asked after too: fewer passes, no more calls.
        near = now + TOGETHER if any(at <= now for at in looks.values()) else now
        due = [batch for batch in live if looks[batch.id] <= near]
        self._next_look = looks
        listed = self._listed() if len(due) > BY_ID else {}
        for batch in due:
            if self._look(lease, batch, listed, now):
                del self._next_look[batch.id]
        return min(self._next_look.values(), default=None)

    def cancel(self, lease: Lease, run: Run) -> float | None:
        """Ask the API to cancel the run's running batches, each once; give when to ask again.

        What was finished before the cancellation is paid for and is collected when the batch has ended.

        Raises:
            ProviderError: the API refuses the credential (401, 402, 403); somebody has to mend it first.
            LeaseLost: another process moves the run now.
        """
        wake: float | None = None
        for batch in self._store.batches(BatchWhere(run=run.id, states=frozenset({BatchState.LIVE}))):
            if batch.remote_id is None or batch.notes.get("cancel_asked"):
                continue
            try:
                asked = self._gateway.cancel(batch.remote_id) is not None  # a 404 proves nothing here either
            except ProviderError as error:
                if error.status in {401, 402, 403}:
                    raise
                # It has ended meanwhile, which the next poll sees; every other error may pass.
                asked = error.status in {400, 409}
            if not asked:
                wake = self._store.now() + MINUTE
                continue
            self._stay(lease, batch, {**batch.notes, "cancel_asked": self._store.now()})
            self._next_look.pop(batch.id, None)
        return wake

    def _listed(self) -> dict[RemoteId, RemoteBatch]:
        try:
            return {item.id: item for item in self._gateway.list(100).items}
        except ProviderError:
            return {}

    def _look(self, lease: Lease, batch: Batch, listed: Mapping[RemoteId, RemoteBatch], now: float) -> bool:
        """Look after one batch; tell whether it is no longer running."""
        assert batch.remote_id is not None
        try:
            found = listed.get(batch.remote_id) or self._gateway.retrieve(batch.remote_id)
        except ProviderError as error:
            if error.status in {401, 402, 403}:
                raise
            self._next_look[batch.id] = now + min(error.retry_after or MINUTE, LONGEST)
            return False
        if found is None:
            return self._missed(lease, batch, now)
        notes = {
            name: value for name, value in batch.notes.items() if name not in {"missing_since", "misses"}
        }
        if found.ended:
            notes |= {"counts": dict(found.counts), "ended_at": found.ended_at}
            self._move(lease, batch, BatchState.ENDED, BatchFacts(notes=notes))
            return True
        if found.expires_at is not None and (found.seen_at or 0.0) >= found.expires_at + HOUR:
            hold(
                self._store,
                lease,
                batch,
                "batch.overdue",
                "it is still running more than an hour past its expiry",
                notes,
            )
            return True
        if notes != batch.notes:
            self._stay(lease, batch, notes)
        age = max((found.seen_at or found.created_at) - found.created_at, 0.0)
        self._next_look[batch.id] = now + min(max(age / 10, 10.0), 300.0) * (0.8 + 0.4 * self._rng.random())
        return False

    def _missed(self, lease: Lease, batch: Batch, now: float) -> bool:
        """A 404 proves nothing for a day of the server's, and never makes a row go out again."""
        date = server_time(self._gateway)
        at = now if date is None else date
        since, misses = batch.notes.get("missing_since"), batch.notes.get("misses")
        since = min(since, at) if isinstance(since, int | float) else at
        misses = misses + 1 if isinstance(misses, int) else 1
        notes = {**batch.notes, "missing_since": since, "misses": misses}
        if at - since >= DAY and misses >= MISSES:
            place = batch.place.workspace or "its own"
            why = f"the API has not known it for 24 hours: either it was deleted, or the key opens another workspace than {place}"
            hold(self._store, lease, batch, "batch.missing", why, notes)
            return True
        self._stay(lease, batch, notes)
        self._next_look[batch.id] = now + 300.0 * (0.8 + 0.4 * self._rng.random())
        return False

    def _move(self, lease: Lease, batch: Batch, to: BatchState, facts: BatchFacts) -> Batch:
        return self._store.move_batch(lease, batch.id, expect=batch.state, to=to, facts=facts)

    def _stay(self, lease: Lease, batch: Batch, notes: Mapping[str, object]) -> Batch:
        return self._move(lease, batch, batch.state, BatchFacts(notes=notes))


def hold(store: Store, lease: Lease, batch: Batch, code: str, why: str, notes: Mapping[str, object]) -> Batch:
    """Hold a batch for a person, who is told why and what may be decided."""
    missing = ("accept-missing",) if batch.state is BatchState.ENDED else ()
    need = Need(
        who="person",
        why=f"batch {batch.id} ({batch.count:,} rows): {why}. No row was sent again",
        fix=decision_fix(batch.id, "look-again", *missing, "give-up"),
        code=code,
    )
    event = NewEvent(kind="run.needs_person", severity="page", data={"batch": batch.id, "code": code})
    facts = BatchFacts(need=need, notes=notes, events=(event,))
    return store.move_batch(lease, batch.id, expect=batch.state, to=BatchState.HELD, facts=facts)

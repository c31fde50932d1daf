"""Doubtful batches: take a reading, look at the suspects, do what the rules of `doubt` allow."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs

from batchkit.doubt import (
    GRACE,
    MINUTE,
    Absent,
    Finding,
    Held,
    Known,
    Open,
    Proved,
    Reading,
    Trail,
    Wait,
    look,
    observe,
    resolve,
)
from batchkit.errors import ProviderError
from batchkit.fixes import decision_fix
from batchkit.ids import RemoteId
from batchkit.listing import read_list
from batchkit.model import Batch, BatchFacts, BatchWhere, Lease, NewEvent, Run
from batchkit.states import BatchState
from batchkit.storage import Store
from batchkit.suspects import Provider, inspect, known_to, reported, with_strangers
from batchkit.watch import LENGTH, Twin, Watch, set_aside
from batchkit.watcher import Watcher

__all__ = ["CHEAP", "Resolver", "open_doubt", "trail_of"]

CHEAP = 50_000_000
"""Nano-dollars of reserved cost up to which a batch counts as cheap: 5 cents."""


class Resolver:
    """Settles doubts, one reading at a time."""

    def __init__(
        self,
        store: Store,
        gateway: Provider,
        watcher: Watcher,
        *,
        grace: float = GRACE,
        cheap_grace: float | None = None,
    ) -> None:
        """Prepare.

        Args:
            store: Where the batches are.
            gateway: The way to the API.
            watcher: Is shown every list that is read.
            grace: Seconds of server time without a sign of a batch after which it counts as absent.
            cheap_grace: The same for batches that cannot cost more than `CHEAP`; None: as for all others.
        """
        self._store = store
        self._gateway = gateway
        self._watcher = watcher
        self._grace = grace
        self._cheap_grace = cheap_grace

    def resolve(self, lease: Lease, run: Run) -> float | None:
        """Take one reading for the run's doubtful batch, look after its watches; give when to look next.

        Raises:
            LeaseLost: another process moves the run now.
        """
        where = BatchWhere(run=run.id, states=frozenset({BatchState.DOUBTFUL}))
        wakes = [self._step(lease, run, batch) for batch in self._store.batches(where)]
        wakes.append(self._watcher.look(lease, run))
        return min((wake for wake in wakes if wake is not None), default=None)

    def _step(self, lease: Lease, run: Run, batch: Batch) -> float | None:
        now = self._store.now()
        trail = trail_of(batch, now)
        # A clock that was set back says that the last reading is yet to come: another one is due, then.
        if trail.asked_at is not None and 0 <= now - trail.asked_at < MINUTE:
            return trail.asked_at + MINUTE
        gateway = self._gateway.snapshot()
        known = known_to(self._store, batch)
        reading: Reading | None = None
        try:
            # DOUBTFUL was committed before this pass asked, so every page of it was requested afterwards.
            back_to = None if batch.head is None else batch.head.created_at
            reading = read_list(gateway, back_to=back_to, whole=batch.head is None)
            known = with_strangers(self._store, known, batch, reading.items)
            self._watcher.notice(lease, run, reading.place, reading.items)
        except ProviderError as error:
            trail = attrs.evolve(trail, no_list=error.status in {404, 405})
        trail = observe(batch, trail, reading, known, now=now)
        at = reading.date if reading is not None and reading.date is not None else now
        trail = self._reported(batch, trail, at)
        if reading is not None or trail.no_list:
            for suspect in [s for s in trail.suspects.values() if s.open]:
                trail = self._look_at(gateway, batch, trail, suspect.id, known, at)
        return self._apply(lease, batch, trail, known, now)

    def _reported(self, batch: Batch, trail: Trail, at: float) -> Trail:
        """Add ids that a fenced-off sender left: the first to be opened."""
        for remote in reported(self._store).get(batch.id, ()):
            if remote not in trail.suspects:
                trail = look(trail, remote, Finding.RUNNING, at=at)
        return trail

    def _look_at(
        self, gateway: Provider, batch: Batch, trail: Trail, remote: RemoteId, known: Known, at: float
    ) -> Trail:
        seen = inspect(self._store, gateway, batch, remote, known)
        # No answer is no finding: what was known of it stays.
        return trail if seen is None else look(trail, remote, seen.finding, at=at, expires_at=seen.expires_at)

    def _grace_of(self, batch: Batch) -> float:
        cheap = 0 < batch.reserved <= CHEAP and math.isfinite(self._grace)
        return self._cheap_grace if cheap and self._cheap_grace is not None else self._grace

    def _apply(self, lease: Lease, batch: Batch, trail: Trail, known: Known, now: float) -> float | None:
        fix = decision_fix(batch.id, "look-again", "adopt", "declare-absent")
        resolution = resolve(batch, trail, known, now=now, grace=self._grace_of(batch), held_fix=fix)
        notes: dict[str, object] = {**batch.notes, "doubt": trail.to_json()}
        match resolution:
            case Wait(until=until) | Open(until=until):
                self._move(lease, batch, BatchState.DOUBTFUL, BatchFacts(notes=notes))
                return until
            case Proved(remote=remote):
                found = (
                    s.id for s in trail.suspects.values() if s.finding is Finding.OURS and s.id != remote
                )
                at = trail.dated or now
                notes["twins"] = set_aside([Twin(remote_id=twin, found_at=at) for twin in sorted(found)])
                notes["watch"] = Watch(until=at + LENGTH, suspects=trail.suspects).to_json()
                notes["proved_at"] = at
                event = NewEvent(kind="doubt.adopted", data={"batch": batch.id, "rows": batch.count})
                self._move(
                    lease, batch, BatchState.ENDED, BatchFacts(remote_id=remote, notes=notes, events=(event,))
                )
                return now
            case Absent():
                # A late twin would still be found for a day, so the reservation stays as long.
                watch = Watch(until=(trail.last or now) + LENGTH, suspects=trail.suspects)
                notes["watch"] = watch.to_json()
                event = NewEvent(
                    kind="doubt.absent", severity="warn", data={"batch": batch.id, "rows": batch.count}
                )
                self._move(
                    lease, batch, BatchState.ABSENT, BatchFacts(notes=notes, events=(event,)), free=True
                )
                return now
            case Held(need=need):
                event = NewEvent(
                    kind="run.needs_person", severity="page", data={"batch": batch.id, "code": need.code}
                )
                self._move(lease, batch, BatchState.HELD, BatchFacts(need=need, notes=notes, events=(event,)))
                return None

    def _move(
        self, lease: Lease, batch: Batch, to: BatchState, facts: BatchFacts, *, free: bool = False
    ) -> None:
        self._store.move_batch(lease, batch.id, expect=BatchState.DOUBTFUL, to=to, facts=facts, free=free)


def open_doubt(
    store: Store,
    lease: Lease,
    batch: Batch,
    why: str,
    *,
    suspect: RemoteId | None = None,
    date: float | None = None,
    notes: Mapping[str, object] | None = None,
) -> Batch:
    """Record that nobody knows whether a batch exists; a suspect that an odd answer named comes first."""
    now = store.now()
    trail = Trail(since=now)
    at = date if date is not None else now
    if suspect is not None:
        trail = look(trail, suspect, Finding.RUNNING, at=at)
    return store.move_batch(
        lease,
        batch.id,
        expect=batch.state,
        to=BatchState.DOUBTFUL,
        facts=BatchFacts(
            notes={**batch.notes, **(notes or {}), "doubt": trail.to_json(), "why": why},
            events=(
                NewEvent(kind="doubt.opened", severity="warn", data={"batch": batch.id, "rows": batch.count}),
            ),
        ),
    )


def trail_of(batch: Batch, now: float) -> Trail:
    """Read a doubtful batch's trail from its notes; a batch without one starts now."""
    noted = batch.notes.get("doubt")
    return Trail.from_json(noted) if isinstance(noted, Mapping) else Trail(since=now)

"""Doubtful batches: take a reading, look at the suspects, do what the rules of `doubt` allow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

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
    owner,
    resolve,
)
from batchkit.errors import ProviderError
from batchkit.ids import BatchId, RemoteId
from batchkit.listing import read_list
from batchkit.model import Batch, BatchFacts, BatchWhere, DocKind, Lease, NewEvent, Run
from batchkit.remote import ListPage, RemoteBatch
from batchkit.states import BatchState
from batchkit.storage import Store

__all__ = ["Provider", "Resolver", "known_to", "note_suspect", "open_doubt", "trail_of"]

HOUR = 3_600.0
WATCH = 90_000.0
"""Seconds for which a batch declared absent is still watched for: 25 hours."""
HOLDERS = frozenset({BatchState.LIVE, BatchState.ENDED, BatchState.COLLECTED, BatchState.UNRECOVERABLE})


class Provider(Protocol):
    """What a resolver needs of a gateway."""

    def snapshot(self) -> Provider:
        """Give one whose credential stays the same."""
        ...

    def list(self, limit: int = ..., after_id: RemoteId | None = ...) -> ListPage:
        """Read one page of the list."""
        ...

    def retrieve(self, remote: RemoteId) -> RemoteBatch | None:
        """Read one batch; None on 404."""
        ...

    def first_line(self, remote: RemoteId) -> bytes | None:
        """Read the first result line of an ended batch; None where there is none."""
        ...


class Resolver:
    """Settles doubts, one reading at a time."""

    def __init__(self, store: Store, gateway: Provider, *, grace: float = GRACE) -> None:
        """Prepare; ``grace`` is in seconds of server time."""
        self._store = store
        self._gateway = gateway
        self._grace = grace

    def resolve(self, lease: Lease, run: Run) -> float | None:
        """Take one reading for the run's doubtful batches; give when to take the next.

        Raises:
            LeaseLost: another process moves the run now.
        """
        where = BatchWhere(run=run.id, states=frozenset({BatchState.DOUBTFUL}))
        wakes = [self._step(lease, batch) for batch in self._store.batches(where)]
        absent = BatchWhere(run=run.id, states=frozenset({BatchState.ABSENT}))
        for batch in self._store.batches(absent):
            self._end_watch(lease, batch)
        return min((wake for wake in wakes if wake is not None), default=None)

    def _step(self, lease: Lease, batch: Batch) -> float | None:
        now = self._store.now()
        trail = trail_of(batch, now)
        if trail.asked_at is not None and now - trail.asked_at < MINUTE:
            return trail.asked_at + MINUTE
        gateway = self._gateway.snapshot()
        known = known_to(self._store, batch)
        reading: Reading | None = None
        try:
            # DOUBTFUL was committed before this pass asked, so every page of it was requested afterwards.
            back_to = None if batch.head is None else batch.head.created_at
            reading = read_list(gateway, back_to=back_to, whole=batch.head is None)
            known = self._with_strangers(known, batch, reading)
        except ProviderError as error:
            trail = attrs.evolve(trail, no_list=error.status in {404, 405})
        trail = observe(batch, trail, reading, known, now=now)
        at = reading.date if reading is not None and reading.date is not None else now
        trail = self._reported(batch, trail, at)
        if reading is not None or trail.no_list:
            for suspect in [s for s in trail.suspects.values() if s.open]:
                trail = self._look_at(gateway, batch, trail, suspect.id, known, at)
        return self._apply(lease, batch, trail, known, now)

    def _end_watch(self, lease: Lease, batch: Batch) -> None:
        """Release what an absent batch still reserves, once a day of server time showed no late twin of it.

        One clean reading in place is enough, taken no earlier than the watch's end; while a batch that may
        be the twin is in the list, the reservation stays.
        """
        watch, now = batch.notes.get("watch"), self._store.now()
        if (
            not isinstance(watch, Mapping)
            or watch.get("ended_at") is not None
            or now < watch.get("next_at", now)
        ):
            return
        if now < watch["until"]:
            return
        known = known_to(self._store, batch)
        reading: Reading | None = None
        with suppress(ProviderError):
            back_to = None if batch.head is None else batch.head.created_at
            reading = read_list(self._gateway.snapshot(), back_to=back_to, whole=batch.head is None)
            known = self._with_strangers(known, batch, reading)
        seen = observe(batch, Trail(since=now), reading, known, now=now)
        clean = seen.dated is not None and seen.dated >= watch["until"] and not seen.suspects
        noted = {**watch, "ended_at": seen.dated} if clean else {**watch, "next_at": now + HOUR}
        facts = BatchFacts(notes={**batch.notes, "watch": noted}, reserved=0 if clean else None)
        self._store.move_batch(lease, batch.id, expect=BatchState.ABSENT, to=BatchState.ABSENT, facts=facts)

    def _reported(self, batch: Batch, trail: Trail, at: float) -> Trail:
        """Add ids that a fenced-off sender left: the first to be opened."""
        for _, body in self._store.docs(DocKind.READING, scope=f"suspect/{batch.id}"):
            remote = RemoteId(json.loads(body)["remote_id"])
            if remote not in trail.suspects:
                trail = look(trail, remote, Finding.RUNNING, at=at)
        return trail

    def _with_strangers(self, known: Known, batch: Batch, reading: Reading) -> Known:
        ids = [item.id for item in reading.items if item.total == batch.count]
        strangers = self._store.strangers(batch.place.workspace, ids) if ids else frozenset()
        return attrs.evolve(known, strangers=strangers)

    def _look_at(
        self, gateway: Provider, batch: Batch, trail: Trail, remote: RemoteId, known: Known, at: float
    ) -> Trail:
        """Open one suspect as far as it can be opened. Nothing is done to it: it may be a stranger's."""
        try:
            found = gateway.retrieve(remote)
            if found is None:
                return look(trail, remote, Finding.MISSING, at=at)
            if not found.ended:
                return look(trail, remote, Finding.RUNNING, at=at, expires_at=found.expires_at)
            line = gateway.first_line(remote)
        except ProviderError:
            # No answer is no finding: what was known of it stays.
            return trail
        finding = owner(_custom_id(line), batch, known)
        if finding is Finding.STRANGER:
            self._store.dismiss(batch.place.workspace, [remote])
        return look(trail, remote, finding, at=at)

    def _apply(self, lease: Lease, batch: Batch, trail: Trail, known: Known, now: float) -> float | None:
        fix = f"python -m batchkit status STORE, then look_again({batch.id}), adopt({batch.id}, ID) or declare_absent({batch.id})"
        resolution = resolve(batch, trail, known, now=now, grace=self._grace, held_fix=fix)
        notes: dict[str, object] = {**batch.notes, "doubt": trail.to_json()}
        match resolution:
            case Wait(until=until) | Open(until=until):
                self._move(lease, batch, BatchState.DOUBTFUL, BatchFacts(notes=notes))
                return until
            case Proved(remote=remote):
                event = NewEvent(kind="doubt.adopted", data={"batch": batch.id, "rows": batch.count})
                self._move(
                    lease, batch, BatchState.ENDED, BatchFacts(remote_id=remote, notes=notes, events=(event,))
                )
                return now
            case Absent():
                # A late twin would still be found for a day, so the reservation stays as long.
                notes["watch"] = {"count": batch.count, "until": (trail.last or 0.0) + WATCH}
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


def note_suspect(store: Store, batch: BatchId, remote: RemoteId) -> None:
    """Leave a remote id for whoever moves the run now; needs no lease."""
    store.append(DocKind.READING, f"suspect/{batch}", json.dumps({"remote_id": remote}).encode())


def trail_of(batch: Batch, now: float) -> Trail:
    """Read a doubtful batch's trail from its notes; a batch without one starts now."""
    noted = batch.notes.get("doubt")
    return Trail.from_json(noted) if isinstance(noted, Mapping) else Trail(since=now)


def known_to(store: Store, batch: Batch) -> Known:
    """Gather what the store knows for telling its own batches from strangers."""
    batches = store.batches(BatchWhere())
    return Known(
        nonces=frozenset(b.nonce for b in batches),
        claimed=frozenset(b.remote_id for b in batches if b.remote_id is not None),
        in_place=frozenset(
            b.remote_id
            for b in batches
            if b.remote_id is not None
            and b.place == batch.place
            and (b.state in HOLDERS or b.held_from in HOLDERS)
        ),
        late_twin=any(b.state is BatchState.LATE and b.place == batch.place for b in batches),
    )


def _custom_id(line: bytes | None) -> str | None:
    """Give the custom id of a result line that parses fully, else None."""
    try:
        parsed = json.loads(line) if line else None
    except (ValueError, RecursionError):
        return None
    named = parsed.get("custom_id") if isinstance(parsed, dict) and "result" in parsed else None
    return named if isinstance(named, str) else None

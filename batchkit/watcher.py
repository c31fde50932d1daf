"""Watches: a create whose last byte left may still show up twice, for a day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import attrs

from batchkit.clock import to_come
from batchkit.doubt import DAY, MINUTE, Finding, Known, Reading, Trail, elsewhere, may_be, observe, stuck
from batchkit.errors import ProviderError
from batchkit.ids import BatchId, RemoteId, RowId
from batchkit.listing import read_list, server_time
from batchkit.model import Batch, BatchFacts, BatchWhere, Lease, NewEvent, Place, Run
from batchkit.remote import RemoteBatch
from batchkit.states import UNRESOLVED, BatchState
from batchkit.storage import Store
from batchkit.suspects import (
    Provider,
    inspect,
    known_to,
    note_suspect,
    reported,
    with_strangers,
)
from batchkit.trail import Suspect
from batchkit.watch import NEVER_TAKEN, Twin, Watch, claimed_by, set_aside, twins_of, unread, watch_of

__all__ = ["Watcher", "watched_until"]

HOUR = 3_600.0


class Watcher:
    """Looks after the watches of a run."""

    def __init__(self, store: Store, gateway: Provider) -> None:
        """Prepare."""
        self._store = store
        self._gateway = gateway
        self._away: dict[BatchId, float] = {}
        """When to look again after a look with a key of another workspace."""

    def notice(
        self,
        lease: Lease,
        run: Run,
        place: Place,
        items: Sequence[RemoteBatch],
        batches: Sequence[Batch] | None = None,
    ) -> None:
        """Take from a list, read for whatever purpose, what may be a copy of a watched batch of any run.

        ``batches`` are all of the store, where the caller has them.
        """
        batches = batches if batches is not None else self._store.batches(BatchWhere())
        claimed = {remote for batch in batches for remote in claimed_by(batch)}
        sizes = {item.total for item in items if item.id not in claimed}
        for batch in batches:
            watch = watch_of(batch) if batch.count in sizes and batch.state not in UNRESOLVED else None
            if watch is None or not watch.running or elsewhere(batch.place, place):
                continue
            known = with_strangers(self._store, Known(claimed=claimed), batch, items)
            new = [item for item in _candidates(batch, watch, items, known) if item.id not in watch.suspects]
            if batch.run != run.id:
                for item in new:
                    note_suspect(self._store, batch.id, item.id)
            elif new:
                watch = _suspecting(watch, new, self._store.now())
                self._move(
                    lease, batch, batch.state, BatchFacts(notes={**batch.notes, "watch": watch.to_json()})
                )

    def deferred(self, run: Run) -> frozenset[RowId]:
        """Give the rows that no intent may take: an answer that was paid for may be on its way to them.

        They are those of a twin that is not read yet, and of batches that count as never created while a
        remote batch that may be one of them is not opened.
        """
        rows: set[RowId] = set()
        for batch in self._store.batches(BatchWhere(run=run.id)):
            if batch.state not in UNRESOLVED and (unread(batch) or _defers(batch)):
                rows.update(map(RowId, self._store.members(batch.id).rows))
        return frozenset(rows)

    def look(self, lease: Lease, run: Run) -> float | None:
        """Open the suspects whose turn it is, end the watches whose time is over; give when to look next.

        Raises:
            LeaseLost: another process moves the run now.
        """
        batches = self._store.batches(BatchWhere(run=run.id))
        left = reported(self._store)
        wakes: list[float] = []
        for batch in batches:
            if batch.state in UNRESOLVED or batch.held_from is BatchState.DOUBTFUL:
                continue
            watch = self._with_reported(batch, left.get(batch.id, ()))
            if watch is None or not watch.running:
                continue
            now = self._store.now()
            due = watch.next_at if watch.next_at is not None else (now if watch.open else watch.until)
            if due > now:
                wakes += _wakes(batch, watch, now)
                continue
            away = self._away.get(batch.id, now)
            if not to_come(away, now):
                after = self._step(lease, batch, watch)
                if after is not None:
                    wakes += _wakes(after, watch_of(after) or watch, self._store.now())
                    continue
                away = self._away[batch.id] = self._store.now() + HOUR
            wakes.append(away)
        return min(wakes, default=None)

    def _step(self, lease: Lease, batch: Batch, watch: Watch) -> Batch | None:
        """Look once: at the list where the watch's time is over, and at every open suspect.

        None where our key opens another workspace. Nothing is written down then, so that it stays due for others.
        """
        now = self._store.now()
        gateway = self._gateway.snapshot()
        known = known_to(self._store, batch)
        over = False
        at: float | None = None
        if now >= watch.until:
            reading = self._read(gateway, batch)
            if reading is not None:
                if elsewhere(batch.place, reading.place):
                    return None
                known = with_strangers(self._store, known, batch, reading.items)
                items = [
                    i for i in _candidates(batch, watch, reading.items, known) if i.id not in watch.suspects
                ]
                watch = _suspecting(watch, items, now)
            seen = observe(batch, Trail(since=now), reading, known, now=now)
            at, over = seen.dated, seen.dated is not None and seen.dated >= watch.until
        watch = self._opened(gateway, batch, watch, known, at)
        ended = at if over and all(map(_past_finding, watch.open)) else None
        wait = MINUTE if watch.open and not all(map(stuck, watch.open)) else HOUR
        watch = attrs.evolve(
            watch, ended_at=ended, next_at=now + wait if watch.open or now >= watch.until else None
        )
        return self._record(lease, batch, watch, at if at is not None else now)

    def _read(self, gateway: Provider, batch: Batch) -> Reading | None:
        try:
            back_to = None if batch.head is None else batch.head.created_at
            return read_list(gateway, back_to=back_to, whole=batch.head is None)
        except ProviderError:
            return None

    def _opened(self, gateway: Provider, batch: Batch, watch: Watch, known: Known, at: float | None) -> Watch:
        suspects = dict(watch.suspects)
        for suspect in watch.open:
            seen = inspect(self._store, gateway, batch, suspect.id, known)
            when = at if at is not None or seen is None else seen.at
            if seen is not None and when is None:
                when = server_time(gateway)
            if seen is None or when is None:
                continue  # no answer, or no word of the server's time: no finding
            same = seen.finding is suspect.finding
            suspects[suspect.id] = Suspect(
                id=suspect.id,
                finding=seen.finding,
                since=suspect.since if same else when,
                seen_at=when,
                expires_at=seen.expires_at if seen.expires_at is not None else suspect.expires_at,
            )
        return attrs.evolve(watch, suspects=suspects)

    def _record(self, lease: Lease, batch: Batch, watch: Watch, at: float) -> Batch:
        """Write down what a look showed; a copy that was found is booked as a twin, later."""
        known = set(claimed_by(batch))
        found = sorted(
            s.id for s in watch.suspects.values() if s.finding is Finding.OURS and s.id not in known
        )
        notes: dict[str, object] = {**batch.notes, "watch": watch.to_json()}
        if not found:
            # What can no longer be found out may have been ours: its cost stays reserved, and in the receipt.
            free = batch.state is BatchState.ABSENT and not watch.running and not watch.open
            return self._move(
                lease, batch, batch.state, BatchFacts(notes=notes, reserved=0 if free else None)
            )
        notes["twins"] = set_aside([*twins_of(batch), *(Twin(remote_id=r, found_at=at) for r in found)])
        event = NewEvent(
            kind="doubt.twin",
            severity="page",
            data={"batch": batch.id, "rows": batch.count, "found": len(found)},
        )
        if batch.state not in NEVER_TAKEN:
            return self._move(lease, batch, batch.state, BatchFacts(notes=notes, events=(event,)))
        notes["late"] = at
        facts = BatchFacts(remote_id=found[0], notes=notes, events=(event,))
        return self._move(lease, batch, BatchState.LATE, facts)

    def _with_reported(self, batch: Batch, left: Sequence[RemoteId]) -> Watch | None:
        """Take up the remote ids that were left for a batch, also where its watch is over."""
        watch = watch_of(batch)
        new = _news(batch, left)
        if not new:
            return watch
        now = self._store.now()
        suspects = {r: Suspect(id=r, finding=Finding.RUNNING, since=now, seen_at=now) for r in new}
        base = watch or Watch(until=now)
        return attrs.evolve(base, suspects={**base.suspects, **suspects}, ended_at=None, next_at=now)

    def _move(self, lease: Lease, batch: Batch, to: BatchState, facts: BatchFacts) -> Batch:
        return self._store.move_batch(lease, batch.id, expect=batch.state, to=to, facts=facts)


def watched_until(
    batches: Sequence[Batch], left: Mapping[BatchId, Sequence[RemoteId]] = MappingProxyType({})
) -> float | None:
    """Give when a closed run wants to be looked at because of what may still turn up; None: it does not.

    ``left`` are the remote ids that movers of other runs left for its batches: those are looked at without delay.
    """
    settled = [batch for batch in batches if batch.state not in UNRESOLVED]
    if any(unread(batch) or _news(batch, left.get(batch.id, ())) for batch in settled):
        return 0.0
    wakes = [
        wake
        for batch in settled
        if (watch := watch_of(batch)) is not None and watch.running
        for wake in _wakes(batch, watch, watch.until)
    ]
    return min(wakes, default=None)


def _news(batch: Batch, left: Sequence[RemoteId]) -> list[RemoteId]:
    """Give those of the ids left for a batch that it does not know yet."""
    watch, known = watch_of(batch), set(claimed_by(batch))
    return [r for r in left if r not in known and (watch is None or r not in watch.suspects)]


def _past_finding(suspect: Suspect) -> bool:
    """Tell whether a day went by since a suspect vanished, stayed unreadable or should have ended: so it will remain."""
    return stuck(suspect) is not None and suspect.seen_at - suspect.since >= DAY


def _wakes(batch: Batch, watch: Watch, now: float) -> list[float]:
    if not watch.running or (batch.state is not BatchState.ABSENT and not watch.open):
        return []  # an answered create is watched in passing: nobody gets up for it
    due = watch.next_at if watch.next_at is not None else (now if watch.open else watch.until)
    return [due]


def _candidates(batch: Batch, watch: Watch, items: Sequence[RemoteBatch], known: Known) -> list[RemoteBatch]:
    return [item for item in items if watch.covers(item) and may_be(batch, item, known)]


def _suspecting(watch: Watch, items: Sequence[RemoteBatch], now: float) -> Watch:
    new = {
        item.id: Suspect(
            id=item.id,
            finding=Finding.RUNNING,
            since=item.created_at,
            seen_at=item.created_at,
            expires_at=item.expires_at,
        )
        for item in items
    }
    return attrs.evolve(watch, suspects={**watch.suspects, **new}, next_at=now if new else watch.next_at)


def _defers(batch: Batch) -> bool:
    watch = watch_of(batch)
    return (
        batch.state in NEVER_TAKEN
        and watch is not None
        and any(stuck(s) is None and s.id not in watch.overruled for s in watch.open)
    )

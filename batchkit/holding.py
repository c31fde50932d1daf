"""What a person may decide about a batch that is held. Each is one move under the run's lease."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TypeVar

import attrs

from batchkit.builder import RequestBuilder
from batchkit.doubt import GRACE, Finding, Trail, look
from batchkit.errors import DoubtHeld, UsageError
from batchkit.ids import BatchId, RemoteId
from batchkit.manifest import Manifest
from batchkit.model import Batch, BatchFacts, BatchWhere, DocKind, Lease, NewEvent, Place
from batchkit.reading import close_rows
from batchkit.reasons import Reason
from batchkit.resolver import trail_of
from batchkit.states import BatchState, RowEvent
from batchkit.storage import Store
from batchkit.suspects import place_scope
from batchkit.twins import book
from batchkit.watch import LENGTH, Watch, set_aside, twins_of, was_late

__all__ = ["accept_missing", "adopt", "declare_absent", "disown", "give_up", "look_again", "trust_place"]

T = TypeVar("T")

_READINGS = frozenset(
    {"readings", "read_at", "read_next", "differences", "missing_since", "misses", "broken", "in_hand"}
)


def look_again(store: Store, lease: Lease, batch: BatchId) -> Batch:
    """Put a held batch back where it came from, with the patience it had at first.

    Open suspects of a doubt stay open.

    Raises:
        UsageError: the batch is not held.
    """
    held = _held(store, batch)
    notes = {name: value for name, value in held.notes.items() if name not in _READINGS}
    if held.held_from is BatchState.DOUBTFUL:
        notes["doubt"] = _restarted(store, held).to_json()
    notes["twins"] = set_aside([attrs.evolve(twin, readings=0, counted_at=None) for twin in twins_of(held)])
    assert held.held_from is not None
    return _move(store, lease, held, held.held_from, notes)


def adopt(store: Store, lease: Lease, batch: BatchId, remote: RemoteId) -> Batch:
    """Name the remote batch that a doubtful one is thought to be; its first line still has to prove it.

    Raises:
        UsageError: the batch is not held from a doubt.
    """
    held = _held(store, batch, BatchState.DOUBTFUL)
    trail = look(_restarted(store, held), remote, Finding.RUNNING, at=store.now())
    return _move(store, lease, held, BatchState.DOUBTFUL, {**held.notes, "doubt": trail.to_json()})


def declare_absent(
    store: Store, lease: Lease, batch: BatchId, *, by: str, grace: float = GRACE, force: bool = False
) -> Batch:
    """Say that a doubtful batch does not exist remotely: its rows are free and go out again.

    If it does exist after all, they are paid twice; the batch stays watched for, and its cost stays
    reserved meanwhile.

    Args:
        store: The store.
        lease: The right to move the run.
        batch: The batch.
        by: Who says so.
        grace: Seconds after the send deadline before which it takes ``force``.
        force: Also before the grace is over, or with suspects that nobody opened.

    Raises:
        UsageError: the batch is not held from a doubt.
        DoubtHeld: it is too early, or a suspect is open; the message names it.
    """
    held = _held(store, batch, BatchState.DOUBTFUL)
    trail = trail_of(held, store.now())
    suspects = sorted(s.id for s in trail.suspects.values() if s.open)
    early = held.deadline + (grace if grace < float("inf") else GRACE) - store.now()
    if not force and early > 0:
        raise DoubtHeld(
            f"batch {batch} could still arrive: its grace ends in {early / 60:.0f} minutes. To say so anyway: force=True"
        )
    if not force and suspects:
        raise DoubtHeld(
            f"batch {batch} may be {', '.join(suspects)}, which nobody has opened. Look at the provider's console first; "
            "to say so anyway: force=True"
        )
    # Too long a watch costs nothing but patience, so the latest of all clocks counts: a reading may be a day old,
    # and the store's clock may be behind, or have been set back since the send.
    newest = held.head.created_at if held.head is not None else 0.0
    told = max(store.now(), held.deadline, newest, trail.dated or 0.0)
    watch = Watch(until=told + LENGTH, suspects=trail.suspects, overruled=frozenset(suspects))
    event = NewEvent(
        kind="doubt.declared_absent",
        severity="warn",
        data={"batch": batch, "by": by, "suspects": len(suspects)},
    )
    notes = {**held.notes, "watch": watch.to_json(), "declared_by": by}
    return _move(store, lease, held, BatchState.ABSENT, notes, event, free=True)


def accept_missing(
    store: Store, lease: Lease, batch: BatchId, builder: RequestBuilder[T], *, by: str
) -> Batch:
    """Close a batch whose result file never agreed: rows without a line become ``batch.missing_result``.

    Raises:
        UsageError: the batch is not held from ended or late.
    """
    held = _held(store, batch, BatchState.ENDED, BatchState.LATE)
    if held.held_from is BatchState.LATE:
        (own,) = (twin for twin in twins_of(held) if twin.remote_id == held.remote_id)
        noted = attrs.evolve(held, notes={**held.notes, "declared_by": by})
        return book(store, lease, noted, attrs.evolve(own, read_at=store.now()))
    lines = _close(store, lease, held, builder, RowEvent.MISSING_ACCEPTED, Reason.BATCH_MISSING_RESULT)
    event = NewEvent(
        kind="batch.missing_accepted", severity="warn", data={"batch": batch, "by": by, "rows": lines}
    )
    notes = {**held.notes, "declared_missing": lines, "declared_by": by}
    return _move(store, lease, held, BatchState.COLLECTED, notes, event, reserved=0)


def give_up(store: Store, lease: Lease, batch: BatchId, builder: RequestBuilder[T], *, by: str) -> Batch:
    """Close a batch whose results nobody will ever read: its rows become ``batch.unrecoverable``.

    What the provider billed for it is not known here; its reservation is released, and the batch's state
    tells the receipt so.

    Raises:
        UsageError: the batch is not held from live, ended or late.
    """
    held = _held(store, batch, BatchState.LIVE, BatchState.ENDED, BatchState.LATE)
    lines = _close(store, lease, held, builder, RowEvent.RESULTS_GONE, Reason.BATCH_UNRECOVERABLE)
    event = NewEvent(kind="batch.given_up", severity="warn", data={"batch": batch, "by": by, "rows": lines})
    notes = {**held.notes, "declared_missing": lines, "declared_by": by}
    return _move(store, lease, held, BatchState.UNRECOVERABLE, notes, event, reserved=0)


def trust_place(store: Store, place: Place, *, by: str) -> None:
    """Let absence be concluded again without a person in a place where a batch turned up late before."""
    late = [batch.id for batch in store.batches(BatchWhere()) if batch.place == place and was_late(batch)]
    body = json.dumps({"at": store.now(), "by": by, "late": late})
    store.append(DocKind.READING, place_scope(place), body.encode())


def disown(store: Store, place: Place, remotes: Iterable[RemoteId], *, by: str) -> None:
    """Say that remote batches which carry this store's keys under unknown nonces are no reason to wait.

    They were sent by a copy of this store, or by this one before it was set back. What they paid for is
    not known here, so rows that go on are paid for again.
    """
    named = list(remotes)
    store.dismiss(place.workspace, named)
    store.append(DocKind.READING, "disowned", json.dumps({"by": by, "remote_ids": named}).encode())


def _held(store: Store, batch: BatchId, *origins: BatchState) -> Batch:
    found = store.batches(BatchWhere(ids=(batch,)))
    if not found:
        raise UsageError(f"the store has no batch {batch}")
    held = found[0]
    if held.state is not BatchState.HELD:
        raise UsageError(f"batch {batch} is {held.state.value}, not held: there is nothing to decide")
    if origins and held.held_from not in origins:
        came = held.held_from.value if held.held_from else "nowhere"
        raise UsageError(
            f"batch {batch} is held from {came}; this decision is for one held from "
            + " or ".join(state.value for state in origins)
        )
    return held


def _restarted(store: Store, held: Batch) -> Trail:
    """Begin the readings again, with the suspects that are still open."""
    now = store.now()
    before = trail_of(held, now)
    trail = Trail(since=now)
    for suspect in before.suspects.values():
        if suspect.open:
            trail = look(
                trail, suspect.id, Finding.RUNNING, at=suspect.seen_at, expires_at=suspect.expires_at
            )
    return trail


def _close(
    store: Store, lease: Lease, held: Batch, builder: RequestBuilder[T], event: RowEvent, reason: Reason
) -> int:
    manifest = Manifest.load(store, builder, held)
    return close_rows(store, lease, held, manifest, list(manifest.still_open()), event, reason)


def _move(
    store: Store,
    lease: Lease,
    held: Batch,
    to: BatchState,
    notes: Mapping[str, object],
    *events: NewEvent,
    free: bool = False,
    reserved: int | None = None,
) -> Batch:
    facts = BatchFacts(notes=notes, events=events, reserved=reserved)
    return store.move_batch(lease, held.id, expect=BatchState.HELD, to=to, facts=facts, free=free)

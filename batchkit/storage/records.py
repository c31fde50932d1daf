"""Runs and batches made of a row of their table, and the small checks that every database needs. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from batchkit.errors import StoreError
from batchkit.ids import BatchId, Digest, Nonce, RemoteId, RowId, RunId, row_id, run_of
from batchkit.model import Batch, BatchFacts, Head, Need, Place, Run, RunFacts
from batchkit.states import BatchState, RunState, check_batch, check_run


def bounds(run: Run) -> tuple[int, int]:
    """Give the first row id of a run and the one after its last."""
    return row_id(run.id, 0), row_id(run.id, run.rows)


def check_rows(run: Run, lowest: RowId, highest: RowId) -> None:
    """Make sure that two ids, and so all between them, are rows of the run.

    Raises:
        StoreError: one of them is not.
    """
    first, end = bounds(run)
    for row in (lowest, highest):
        if not first <= row < end:
            where = "another run" if run_of(row) != run.id else f"beyond the run's {run.rows} rows"
            raise StoreError(f"row {row} is {where}, not of run {run.id}; nothing was changed")


def clean(text: str) -> str:
    """Give text that UTF-8 can hold: halves of surrogate pairs become escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def dump(value: object) -> str:
    """Encode a value as JSON text, keys sorted."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def load_map(text: str) -> Mapping[str, object]:
    """Decode a JSON object."""
    value: Mapping[str, object] = json.loads(text)
    return value


def dump_needs(needs: Iterable[Need]) -> str:
    """Encode needs as a JSON array."""
    return dump([attrs.asdict(need) for need in needs])


def as_run(found: tuple[Any, ...]) -> Run:
    """Make a run of a row of its table."""
    id_, name, spec, parent, options, state, rows, digest, created_at, needs, seq, *_ = found
    return Run(
        id=RunId(id_),
        name=name,
        spec=Digest(spec),
        parent=None if parent is None else RunId(parent),
        options=load_map(options),
        state=RunState(state),
        rows=rows,
        digest=None if digest is None else Digest(digest),
        created_at=float(created_at),  # RETURNING gives what was bound, before the column made it a float
        needs=tuple(Need(**need) for need in json.loads(needs)),
        seq=seq,
    )


def run_values(run: Run) -> tuple[object, ...]:
    """Give what `as_run` makes the run of."""
    return (
        run.id,
        run.name,
        run.spec,
        run.parent,
        dump(dict(run.options)),
        run.state.value,
        run.rows,
        run.digest,
        run.created_at,
        dump_needs(run.needs),
        run.seq,
    )


def check_open(run: Run) -> None:
    """Make sure that the run may make batches.

    Raises:
        StoreError: it may not.
    """
    if run.state is not RunState.OPEN:
        raise StoreError(f"run {run.name!r} is {run.state.value}; only an open run makes batches")


def check_move(run: Run, expect: RunState, to: RunState, facts: RunFacts) -> None:
    """Make sure that the run is where the move takes it from, and that the move is listed.

    Raises:
        StoreError: it is elsewhere, or sealed and to be frozen again.
        IllegalTransition: there is no such edge.
    """
    if run.state is not expect:
        raise StoreError(f"run {run.name!r} is {run.state.value}, not {expect.value}; nothing was changed")
    if to is not expect:
        check_run(expect, to)
    if facts.refreeze is not None and {run.state, to} != {RunState.FREEZING}:
        raise StoreError(f"run {run.name!r} is sealed: its records stay as they are; nothing was changed")


def after_move(batch: Batch, expect: BatchState, to: BatchState, facts: BatchFacts) -> Batch:
    """Give the batch as it is after a move with these facts.

    Raises:
        StoreError: it is not where the move takes it from.
        IllegalTransition: there is no such edge.
    """
    if batch.state is not expect:
        raise StoreError(f"batch {batch.id} is {batch.state.value}, not {expect.value}; nothing was changed")
    if to is not expect:
        check_batch(expect, to, held_from=batch.held_from)
    names: Iterable[str] = ("claim", "remote_id", "sent_at", "expires_at", "reserved", "need", "notes")
    changes: dict[str, Any] = {name: value for name in names if (value := getattr(facts, name)) is not None}
    if to is BatchState.HELD and batch.state is not BatchState.HELD:
        changes["held_from"] = batch.state
    elif to is not BatchState.HELD:
        changes["held_from"] = None
        if batch.state is BatchState.HELD:
            changes["need"] = None
    return attrs.evolve(batch, state=to, spent=batch.spent + facts.booked, **changes)


def moved_values(batch: Batch) -> tuple[object, ...]:
    """Give what a move changes, from ``state`` to ``spent`` in the order of the table's columns, and the id."""
    return (
        batch.state.value,
        batch.claim,
        batch.remote_id,
        batch.sent_at,
        batch.expires_at,
        batch.reserved,
        None if batch.held_from is None else batch.held_from.value,
        None if batch.need is None else dump(attrs.asdict(batch.need)),
        dump(dict(batch.notes)),
        batch.spent,
        batch.id,
    )


def as_batch(found: tuple[Any, ...]) -> Batch:
    """Make a batch of a row of its table."""
    (
        id_,
        run,
        state,
        nonce,
        count,
        size,
        base_url,
        organization,
        workspace,
        head_id,
        head_at,
        reserved,
        deadline,
    ) = found[:13]
    created_at, spent, lines, claim, remote_id, sent_at, expires_at, held_from, need, notes = found[13:]
    return Batch(
        id=BatchId(id_),
        run=run,
        state=BatchState(state),
        nonce=Nonce(nonce),
        count=count,
        size=size,
        place=Place(base_url=base_url, organization=organization, workspace=workspace),
        head=None if head_id is None else Head(remote_id=RemoteId(head_id), created_at=float(head_at)),
        reserved=reserved,
        deadline=float(deadline),  # RETURNING gives what was bound, before the column made it a float
        created_at=float(created_at),
        spent=spent,
        lines=lines,
        claim=claim,
        remote_id=None if remote_id is None else RemoteId(remote_id),
        sent_at=sent_at,
        expires_at=expires_at,
        held_from=None if held_from is None else BatchState(held_from),
        need=None if need is None else Need(**json.loads(need)),
        notes=load_map(notes),
    )


def batch_values(batch: Batch) -> tuple[object, ...]:
    """Give what `as_batch` makes the batch of."""
    head = batch.head
    state, claim, remote_id, sent_at, expires_at, reserved, held_from, need, notes, spent, id_ = moved_values(
        batch
    )
    return (
        id_,
        batch.run,
        state,
        batch.nonce,
        batch.count,
        batch.size,
        batch.place.base_url,
        batch.place.organization,
        batch.place.workspace,
        None if head is None else head.remote_id,
        None if head is None else head.created_at,
        reserved,
        batch.deadline,
        batch.created_at,
        spent,
        batch.lines,
        claim,
        remote_id,
        sent_at,
        expires_at,
        held_from,
        need,
        notes,
    )


def remote_taken(remote: RemoteId, batch: int) -> StoreError:
    """Give the error for a remote batch that another batch of the store has already."""
    return StoreError(
        f"the remote batch {remote} belongs to batch {batch} already; nothing was changed. The API gives each id once; "
        "a simulator that starts anew gives the same ones again: take another store for each"
    )

"""Where a run stands, read from the store alone: no spec, no key, no lease."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from batchkit.errors import UsageError
from batchkit.ids import Digest, RunId
from batchkit.model import Batch, BatchWhere, DocKind, Event, Need, Run, Tally
from batchkit.progress import Lockmark, Progress, ProgressState
from batchkit.states import UNRESOLVED, BatchState, RowState, RunState
from batchkit.storage import DocumentStore, Store

ENDED: Final = frozenset({BatchState.ENDED, BatchState.COLLECTED, BatchState.LATE})
_HOUR: Final = 3_600.0
RUNNING: Final = frozenset({BatchState.LIVE})


def scope_of(run: RunId) -> str:
    """Give the scope under which a run's requests, judgements and events stand."""
    return f"run-{run}"


def find_run(store: Store, name: str) -> Run:
    """Give the run of this name; of a series (``nightly#1``, ``nightly#2`` …) the newest.

    Raises:
        UsageError: there is no such run; the message lists those there are.
    """
    found = store.runs(name=name)
    if found:
        return found[0]
    every = store.runs()
    members = series(every, name)
    if members:
        return members[-1]
    known = ", ".join(repr(run.name) for run in every[-10:]) or "none"
    raise UsageError(f"no run {name!r} in this store; the newest runs are: {known}")


def series(runs: Sequence[Run], name: str) -> list[Run]:
    """Give the runs ``name#1``, ``name#2`` … in order."""
    members: list[tuple[int, Run]] = []
    for run in runs:
        base, mark, number = run.name.rpartition("#")
        if mark and base == name and number.isdigit():
            members.append((int(number), run))
    return [run for _, run in sorted(members, key=lambda pair: pair[0])]


def series_number(run: Run) -> int:
    """Give the number of a member of a series: 42 for ``nightly#42``."""
    return int(run.name.rpartition("#")[2])


@attrs.frozen(kw_only=True)
class Cap:
    """The store's spending cap. ``usd_nano`` is in nano-dollars; ``origin`` is "code" or "person"."""

    usd_nano: int
    origin: str
    by: str
    why: str
    at: float


def read_cap(store: DocumentStore) -> Cap | None:
    """Give the cap that is in force: the last one set, by code or by a person."""
    caps = store.docs(DocKind.CAP)
    return Cap(**json.loads(caps[-1][1])) if caps else None


def write_cap(store: DocumentStore, cap: Cap) -> None:
    """Put a cap in force."""
    store.append(DocKind.CAP, "store", json.dumps(attrs.asdict(cap)).encode())


def read_events(store: DocumentStore, run: Run, *, after: str = "") -> list[Event]:
    """Give the run's events after the one whose id is ``after``, oldest first."""
    found = store.docs(DocKind.EVENT, scope=scope_of(run.id), after=after)
    return [Event(id=key, run=run.name, **json.loads(body)) for key, body in found]


def lockmark(store: DocumentStore, spec: Digest) -> Lockmark:
    """Give who accepted a spec, for display."""
    body = store.get(DocKind.LOCK, spec)
    if body is None:
        return Lockmark(spec=spec)
    lock = json.loads(body)
    return Lockmark(spec=spec, by=lock["by"], rows=lock.get("rows", 0), share=lock.get("share"))


def blocking(store: Store, run: Run, batches: Sequence[Batch]) -> Batch | None:
    """Give a batch of another run whose hold keeps this run from sending: nobody knows whether it exists.

    Args:
        store: The store.
        run: The run that would send.
        batches: Its own batches; their place is where it sends.
    """
    places = {batch.place.base_url for batch in batches}
    held = store.batches(BatchWhere(states=frozenset({BatchState.HELD})))
    for batch in held:
        same_place = not places or batch.place.base_url in places
        if batch.run != run.id and batch.held_from is BatchState.DOUBTFUL and same_place:
            return batch
    return None


def neglected(store: Store, run: Run, batches: Sequence[Batch]) -> Batch | None:
    """Give a batch of another run whose create is unresolved, and which nobody has looked after for an hour.

    Until somebody moves that run on, nothing of this one is sent; its own mover would wait without end or word.
    """
    now, places = store.now(), {batch.place.base_url for batch in batches}
    for batch in store.batches(BatchWhere(states=UNRESOLVED)):
        doubt = batch.notes.get("doubt")
        asked = doubt.get("asked_at") if isinstance(doubt, Mapping) else None
        looked = asked if isinstance(asked, int | float) else (batch.sent_at or batch.created_at)
        same_place = not places or batch.place.base_url in places
        if batch.run != run.id and same_place and now - looked > _HOUR and store.holder(batch.run) is None:
            return batch
    return None


def progress_of(
    store: Store,
    run: Run,
    *,
    moved: bool = False,
    wake_at: float | None = None,
    tally: Tally | None = None,
    where: str = "",
) -> Progress:
    """Derive a run's progress from what the store holds.

    Args:
        store: The store.
        run: The run, as it is now.
        moved: Whether the pass that reports changed anything.
        wake_at: When the next pass may find something to do.
        tally: The rows as they are now, where they were counted already: a count is a scan.
        where: The store's path or address, for the commands that are shown.
    """
    tally = tally if tally is not None else store.tally(run.id)
    batches = store.batches(BatchWhere(run=run.id))
    running = [batch for batch in batches if batch.state in RUNNING]
    found = [*run.needs, *(batch.need for batch in batches if batch.need is not None)]
    if tally.in_state(RowState.PENDING) and (blocker := blocking(store, run, batches)) is not None:
        # It is decided about in the run that it belongs to.
        owner = next(other.name for other in store.runs() if other.id == blocker.run)
        found += [_addressed(blocker.need, where, owner)] if blocker.need is not None else []
    elif tally.in_state(RowState.PENDING) and (left := neglected(store, run, batches)) is not None:
        owner = next(other.name for other in store.runs() if other.id == left.run)
        found.append(_neglected_need(left, owner))
    needs = tuple(_addressed(need, where, run.name) for need in found)
    cap = read_cap(store)
    sent = [batch.sent_at for batch in running if batch.sent_at is not None]
    ends = [batch.expires_at for batch in running if batch.expires_at is not None]
    return Progress(
        name=run.name,
        state=_state(run, tally, batches, needs),
        run_state=run.state,
        moved=moved,
        wake_at=wake_at,
        rows=run.rows,
        tally=tally,
        spent=sum(batch.spent for batch in batches),
        reserved=sum(batch.reserved for batch in batches),
        cap=cap.usd_nano if cap else None,
        needs=needs,
        lock=lockmark(store, run.spec),
        batches_ended=sum(batch.state in ENDED for batch in batches),
        batches_running=len(running),
        batches_doubtful=sum(
            batch.state in UNRESOLVED or batch.state is BatchState.HELD for batch in batches
        ),
        oldest_sent_at=min(sent, default=None),
        hard_end_at=min(ends, default=None),
        now=store.now(),
        where=where,
    )


def _neglected_need(batch: Batch, owner: str) -> Need:
    return Need(
        who="person",
        why=f"batch {batch.id} of {owner!r} may or may not exist remotely, and nobody has moved that run for an hour; "
        "nothing new is sent before that is settled",
        fix=f"move it on: flow.resume({owner!r}).wait(), or flow.work()",
        code="doubt.neglected",
    )


def _addressed(need: Need, where: str, name: str) -> Need:
    """Write the store and the run into a need's command, as a shell takes them."""
    fix = re.sub(r"\bSTORE\b", lambda _: shlex.quote(where) if where else "STORE", need.fix)
    return attrs.evolve(need, fix=re.sub(r"\bRUN\b", lambda _: shlex.quote(name), fix))


def _state(run: Run, tally: Tally, batches: Sequence[Batch], needs: tuple[Need, ...]) -> ProgressState:
    if run.state is RunState.FREEZING:
        return "freezing"
    if run.state is RunState.CLOSED:
        return "done"
    if run.state is RunState.CANCELING:
        return "canceling"
    if run.state is RunState.PAUSED:
        return "paused"
    if any(batch.state is BatchState.HELD for batch in batches) or needs:
        return "held"
    return "sending" if tally.in_state(RowState.PENDING) else "waiting"

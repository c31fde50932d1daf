"""Calls that are about to be made, of every method of a store, and what tells whether they were made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from batchkit.errors import DuplicateKeys
from batchkit.ids import Digest, RemoteId, ResultId, RowId, RowKey, position_of
from batchkit.model import (
    PAGE,
    BatchFacts,
    BatchWhere,
    DocKind,
    Intent,
    Lease,
    Need,
    NewEvent,
    NewRun,
    Place,
    RunFacts,
    Seal,
    Settled,
    Where,
)
from batchkit.reasons import Reason
from batchkit.states import BatchState, RowEvent, RunState
from batchkit.storage import Store
from batchkit.testing.store_contract.base import Opened, a_run, accepted, an_intent, an_open_run, record


@attrs.frozen
class Scene:
    """A call that is about to be made, and what tells whether it was: the same in every scene of one kind."""

    call: Callable[[Store], object]
    look: Callable[[Store], object]


@attrs.frozen
class LeasedScene:
    """A call that is about to be made under the lease of a run."""

    opened: Opened
    write: Callable[[Store, Lease], object]
    more: Callable[[Store], object] = lambda _: None

    def call(self, store: Store) -> object:
        """Make the call under the lease that the run was opened with."""
        return self.write(store, self.opened.lease)

    def look(self, store: Store) -> dict[str, object]:
        """Give all that tells whether it was made."""
        return looks(self.opened, self.more)(store)


# -- what a run looks like, without numbers that differ from run to run


def looks(
    opened: Opened, more: Callable[[Store], object] = lambda _: None
) -> Callable[[Store], dict[str, object]]:
    """Give what tells all of a run that is not drawn or counted anew for each, such as ids, nonces and times."""

    def look(store: Store) -> dict[str, object]:
        run = store.runs(name=opened.run.name)[0]
        held = store.holder(run.id)
        batches = store.batches(BatchWhere(run=run.id))
        return {
            "run": (run.spec, run.state, run.rows, run.digest, run.needs, run.options),
            "lease": (run.seq, held and (held.owner, held.epoch)),
            "pages": store.digests(run.id),
            "rows": [
                (*row[1:8], row.batch is None, row.result is None, *row[10:16])
                for row in store.page(run.id, Where(source=True, results=True))
            ],
            "tally": store.tally(run.id).counts,
            "batches": [
                (
                    b.state,
                    b.count,
                    b.claim,
                    b.remote_id is None,
                    b.spent,
                    b.lines,
                    b.reserved,
                    b.need,
                    b.notes,
                )
                for b in batches
            ],
            "members": [[position_of(RowId(row)) for row in store.members(b.id).rows] for b in batches],
            "results": [(position_of(r.row), r.batch is None, *r[3:10], r.by) for r in store.results(run.id)],
            "events": [
                json.loads(body)["kind"] for _, body in store.docs(DocKind.EVENT, scope=f"run-{run.id}")
            ],
            "more": more(store),
        }

    return look


# -- the writes


def _open_run(store: Store, number: int) -> Scene:
    new = NewRun(name=f"run {number}", spec=Digest("ab" * 32), options={"a": 1})
    return Scene(
        lambda s: s.open_run(new),
        lambda s: [(run.spec, run.state, run.options) for run in s.runs(name=new.name)],
    )


def _acquire(store: Store, number: int) -> Scene:
    run, _ = store.open_run(NewRun(name=f"run {number}", spec=Digest("ab" * 32)))

    def look(store: Store) -> object:
        held = store.holder(run.id)
        return store.runs(name=run.name)[0].seq, held and (held.owner, held.epoch)

    return Scene(lambda s: s.acquire(run.id, "me", 60), look)


def _release(store: Store, number: int) -> Scene:
    opened = a_run(store, f"run {number}")
    return Scene(lambda s: s.release(opened.lease), looks(opened))


def _move_run(store: Store, number: int) -> LeasedScene:
    opened = an_open_run(store, 3, f"run {number}")
    facts = RunFacts(
        needs=(Need(who="money", why="why", fix="fix"),),
        options={"b": 2},
        events=(NewEvent(kind="first"), NewEvent(kind="second")),
    )
    return LeasedScene(
        opened,
        lambda s, lease: s.move_run(lease, expect=RunState.OPEN, to=RunState.PAUSED, facts=facts),
    )


def _refreeze(store: Store, number: int) -> LeasedScene:
    opened = a_run(store, f"run {number}")
    store.freeze(opened.lease, [record(n) for n in range(3)])
    facts, freezing = RunFacts(refreeze=Digest("cd" * 32)), RunState.FREEZING
    return LeasedScene(opened, lambda s, lease: s.move_run(lease, expect=freezing, to=freezing, facts=facts))


def _freeze(store: Store, number: int) -> LeasedScene:
    opened = a_run(store, f"run {number}")
    store.freeze(opened.lease, [record(n) for n in range(PAGE)])
    refused = record(PAGE + 1, "", event=RowEvent.INPUT_REFUSED, reason=Reason.INPUT_MISSING_KEY, detail="d")
    page = [record(PAGE), refused, record(PAGE + 2)]
    return LeasedScene(opened, lambda s, lease: s.freeze(lease, page))


def _seal(store: Store, number: int) -> LeasedScene:
    opened = a_run(store, f"run {number}")
    store.freeze(opened.lease, [record(0), record(1, "k0", {"text": "other"}), record(2)])
    seal = Seal(on_duplicate="first")
    return LeasedScene(opened, lambda s, lease: s.freeze(lease, [], seal=seal))


def _refused_seal(store: Store, number: int) -> LeasedScene:
    opened = a_run(store, f"run {number}")
    store.freeze(opened.lease, [record(0), record(1, "k0", {"text": "other"})])

    def write(store: Store, lease: Lease) -> None:
        try:
            store.freeze(lease, [], seal=Seal())
        except DuplicateKeys:
            return
        raise AssertionError("the seal was not refused")

    return LeasedScene(opened, write)


def _intend(store: Store, number: int) -> LeasedScene:
    opened = an_open_run(store, 6, f"run {number}")
    intent = _intent(number)
    return LeasedScene(opened, lambda s, lease: s.intend(lease, intent, opened.ids([3, 0, 1])))


def _intent(number: int) -> Intent:
    """Give an intent in a place of its own, where no other scene's batch waits."""
    place = Place(base_url="https://api.example.test", workspace=str(number))
    return an_intent(f"{number:08d}", place=place, cap=10**9)


def _move_batch(store: Store, number: int) -> LeasedScene:
    opened = an_open_run(store, 6, f"run {number}")
    batch = opened.intend([0, 1, 3], _intent(number))
    facts = BatchFacts(claim="c", booked=5, notes={"n": [1]}, events=(NewEvent(kind="first"),))
    intent, rejected = BatchState.INTENT, BatchState.REJECTED
    return LeasedScene(
        opened,
        lambda s, lease: s.move_batch(lease, batch.id, expect=intent, to=rejected, facts=facts, free=True),
    )


def _settle(store: Store, number: int) -> LeasedScene:
    """Settle lines of which the last is of no row in the batch, and of a model not heard of before."""
    opened = an_open_run(store, 6, f"run {number}")
    batch, ids = opened.live(range(5), f"{number:08d}"), opened.ids(range(6))
    page = [
        accepted(ids[2], b'{"a":1}'),
        Settled(ids[0], RowEvent.RETRIED, Reason.OUTPUT_EMPTY, 0, 1, 0, Reason.OUTPUT_EMPTY, "why", cost=3),
        Settled(ids[1], RowEvent.TO_HUMAN, Reason.OUTPUT_SPARSE, 0, 1, 0, model=f"model {number}"),
        accepted(ids[5]),
    ]
    return LeasedScene(opened, lambda s, lease: s.settle(lease, batch.id, page))


def _answer(store: Store, number: int) -> LeasedScene:
    opened = an_open_run(store, 2, f"run {number}")
    batch, row = opened.live([0], f"{number:08d}"), opened.ids([0])[0]
    store.settle(opened.lease, batch.id, [Settled(row, RowEvent.TO_HUMAN, Reason.OUTPUT_SPARSE, 0, 1, 0)])
    answer = Settled(row, RowEvent.ANSWERED, None, 0, 1, 0, answer=b"{}")
    return LeasedScene(opened, lambda s, lease: s.settle(lease, None, [answer], by="Ada"))


def _index_staged(store: Store, number: int) -> LeasedScene:
    first, second = some_settled(store, number), a_run(store, f"run {number} again")
    return LeasedScene(
        second,
        lambda s, lease: s.index_staged(lease, [first.run.id]),
        lambda s: [found is None for found in _found(s, first)],
    )


def _dismiss(store: Store, number: int) -> Scene:
    ids = [RemoteId(f"{number} {n}") for n in range(3)]
    return Scene(lambda s: s.dismiss("w", ids), lambda s: len(s.strangers("w", ids)))


def _put(store: Store, number: int) -> Scene:
    return Scene(
        lambda s: s.put(DocKind.LOCK, f"key {number}", b"body"),
        lambda s: s.get(DocKind.LOCK, f"key {number}"),
    )


def _append(store: Store, number: int) -> Scene:
    scope = f"scope {number}"
    store.append(DocKind.CAP, scope, b"one")
    return Scene(
        lambda s: s.append(DocKind.CAP, scope, b"two"),
        lambda s: [(key[-2:], body) for key, body in s.docs(DocKind.CAP, scope=scope)],
    )


LEASED: Final[Mapping[str, Callable[[Store, int], LeasedScene]]] = {
    "move_run": _move_run,
    "move_run with refreeze": _refreeze,
    "freeze": _freeze,
    "freeze with a seal": _seal,
    "freeze with a seal that is refused": _refused_seal,
    "intend": _intend,
    "move_batch": _move_batch,
    "settle": _settle,
    "settle without a batch": _answer,
    "index_staged": _index_staged,
}

WRITES: Final[Mapping[str, Callable[[Store, int], Scene | LeasedScene]]] = {
    "open_run": _open_run,
    "acquire": _acquire,
    "release": _release,
    "dismiss": _dismiss,
    "put": _put,
    "append": _append,
    **LEASED,
}


# -- the reads


def some_settled(store: Store, number: int) -> Opened:
    """Give a run of which some rows are staged."""
    opened = an_open_run(store, 6, f"run {number}")
    batch = opened.live(range(5), f"{number:08d}")
    store.settle(opened.lease, batch.id, [accepted(row) for row in opened.ids([0, 2])])
    return opened


def _found(store: Store, opened: Opened) -> list[ResultId | None]:
    return list(store.find_staged(opened.run.id, opened.run.spec, [record(n) for n in range(6)]))


READS: Final[Mapping[str, Callable[[Store, Opened], object]]] = {
    "runs": lambda s, _: list(s.runs()),
    "holder": lambda s, o: s.holder(o.run.id),
    "tally": lambda s, o: s.tally(o.run.id),
    "page": lambda s, o: list(s.page(o.run.id, Where(source=True, results=True))),
    "rows": lambda s, o: list(s.rows(o.ids([4, 0, 2]), source=True)),
    "locate": lambda s, o: dict(s.locate(o.run.id, [RowKey("k3"), RowKey("nobody")])),
    "digests": lambda s, o: list(s.digests(o.run.id)),
    "results": lambda s, o: list(s.results(o.run.id)),
    "settled_order": lambda s, o: list(s.settled_order([r.id for r in s.results(o.run.id)])),
    "ledger": lambda s, o: list(s.ledger(o.run.id)),
    "find_staged": _found,
    "batches": lambda s, o: list(s.batches(BatchWhere(run=o.run.id))),
    "members": lambda s, o: list(s.members(s.batches(BatchWhere(run=o.run.id))[0].id).rows),
    "strangers": lambda s, _: s.strangers("w", [RemoteId("a")]),
    "get": lambda s, _: s.get(DocKind.SPEC, "a"),
    "docs": lambda s, _: list(s.docs(DocKind.EVENT)),
}

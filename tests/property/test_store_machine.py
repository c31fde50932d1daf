"""A store against a dictionary: whatever is done to it in whatever order, they tell the same."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from orderedmap import Memory, MemoryStore
from pg import empty

from batchkit.errors import IllegalTransition, LeaseLost, OverBudget, StoreError, Unresolved
from batchkit.ids import BatchId, Digest, Nonce, RemoteId, RowId, RowKey, row_id
from batchkit.model import (
    BatchFacts,
    BatchWhere,
    Intent,
    Lease,
    NewRun,
    Place,
    Seal,
    Settled,
    SourceRow,
    Usage,
    Where,
)
from batchkit.reasons import Reason
from batchkit.states import (
    BATCH_TRANSITIONS,
    ROW_TRANSITIONS,
    UNRESOLVED,
    BatchState,
    Outcome,
    RowEvent,
    RowState,
    RunState,
    outcome,
)
from batchkit.storage import Store
from batchkit.storage.postgres import PostgresStore
from batchkit.storage.sqlite import SQLiteStore
from batchkit.testing.clock import FakeClock

TTL = 60.0
BY_BATCH: list[RowEvent] = [
    event
    for event, (origin, _) in ROW_TRANSITIONS.items()
    if (origin is RowState.SUBMITTED and event is not RowEvent.FREED) or event is RowEvent.TWIN_ACCEPTED
]
ALONE: list[RowEvent] = [
    event
    for event, (origin, _) in ROW_TRANSITIONS.items()
    if origin in {RowState.PENDING, RowState.HUMAN, RowState.SUCCEEDED}
    and event not in {RowEvent.TAKEN, RowEvent.TWIN_ACCEPTED}
]
PERSONS_CHOICE: dict[BatchState | None, set[BatchState]] = {
    BatchState.DOUBTFUL: {BatchState.ABSENT},
    BatchState.LIVE: {BatchState.UNRECOVERABLE},
    BatchState.ENDED: {BatchState.COLLECTED, BatchState.UNRECOVERABLE},
    BatchState.LATE: {BatchState.COLLECTED, BatchState.UNRECOVERABLE},
}
REASONS = st.sampled_from(
    [None, Reason.OUTPUT_SCHEMA, Reason.BATCH_EXPIRED, Reason.API_SERVER, Reason.OUTPUT_SPARSE]
)
positions = st.lists(st.integers(0, 14), unique=True, min_size=1, max_size=8)


@attrs.define
class Row:
    state: RowState = RowState.PENDING
    reason: Reason | None = None
    tier: int = 0
    tries: int = 0
    resends: int = 0
    batch: int | None = None
    cost: int = 0
    answers: int = 0
    applied: list[int | None] = attrs.field(factory=list)


@attrs.define
class Sent:
    state: BatchState
    members: list[int]
    reserved: int
    held_from: BatchState | None = None
    lines: int = 0
    spent: int = 0


@st.composite
def items(
    draw: st.DrawFn, events: list[RowEvent]
) -> tuple[int, RowEvent, Reason | None, int, int, int, int | None]:
    usage = draw(st.one_of(st.none(), st.integers(0, 50)))
    return (
        draw(st.integers(0, 14)),
        draw(st.sampled_from(events)),
        draw(REASONS),
        draw(st.integers(0, 2)),
        draw(st.integers(0, 3)),
        draw(st.integers(0, 3)),
        usage,
    )


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.abandoned: list[Store] = []
        self.begin()
        self.store = self.open()
        self.run, _ = self.store.open_run(NewRun(name="run", spec=Digest("ab" * 32)))
        self.state = RunState.FREEZING
        self.rows: list[Row] = []
        self.sent: dict[int, Sent] = {}
        self.nonces = 0
        self.stale: list[Lease] = []
        self.lease = self._acquire()

    def begin(self) -> None:
        """Make an empty store."""
        raise NotImplementedError

    def open(self) -> Store:
        """Open it."""
        raise NotImplementedError

    def end(self) -> None:
        """Throw it away."""

    def _acquire(self) -> Lease:
        lease = self.store.acquire(self.run.id, "me", TTL)
        assert lease is not None
        return lease

    def ids(self, numbers: list[int]) -> list[RowId]:
        return [row_id(self.run.id, n) for n in numbers]

    @initialize(
        events=st.lists(
            st.sampled_from(
                [
                    RowEvent.FROZEN,
                    RowEvent.FROZEN,
                    RowEvent.FROZEN,
                    RowEvent.INPUT_SPARSE,
                    RowEvent.INPUT_REFUSED,
                ]
            ),
            min_size=1,
            max_size=12,
        ),
        keys=st.lists(st.integers(0, 30), min_size=12, max_size=12),
    )
    def freeze(self, events: list[RowEvent], keys: list[int]) -> None:
        reasons = {RowEvent.INPUT_SPARSE: Reason.INPUT_SPARSE, RowEvent.INPUT_REFUSED: Reason.INPUT_TOO_LARGE}
        page = [
            SourceRow(
                n,
                RowKey(f"k{key}"),
                json.dumps([n, f"k{key}", {"a": None}], separators=(",", ":")).encode(),
                3,
                event,
                reasons.get(event),
            )
            for n, (event, key) in enumerate(zip(events, keys, strict=False))
        ]
        seen: set[RowKey] = set()
        for row in page:
            made = Row(ROW_TRANSITIONS[row.event][1], row.reason)
            if row.key in seen and row.event is not RowEvent.INPUT_REFUSED:  # all contents are equal
                made = Row(RowState.QUARANTINED, Reason.INPUT_DUPLICATE_KEY)
            seen.add(row.key)
            self.rows.append(made)
        assert self.store.freeze(self.lease, page) == len(page)
        assert self.store.tally(self.run.id).total == len(page)
        self.store.freeze(self.lease, page, seal=Seal())
        self.state = RunState.OPEN

    @rule(numbers=positions, reserve=st.integers(0, 60), elsewhere=st.booleans())
    def intend(self, numbers: list[int], reserve: int, elsewhere: bool) -> None:
        place = Place(base_url="https://b.test" if elsewhere else "https://a.test")
        nonce = Nonce(f"{self.nonces:08d}")
        intent = Intent(nonce=nonce, size=1, place=place, head=None, reserve=reserve, cap=300, deadline=2e9)
        waits = any(
            b.state in UNRESOLVED or (b.state is BatchState.HELD and b.held_from is BatchState.DOUBTFUL)
            for b in (self.sent[stored.id] for stored in self.store.batches(BatchWhere(place=place)))
        )
        used = sum(b.spent + b.reserved for b in self.sent.values())
        fit = all(n < len(self.rows) and self.rows[n].state is RowState.PENDING for n in numbers)
        if waits or not fit or self.state is not RunState.OPEN or used + reserve > 300:
            with pytest.raises(StoreError) as caught:
                self.store.intend(self.lease, intent, self.ids(numbers))
            assert caught.type in {StoreError, Unresolved, OverBudget}
            return
        batch = self.store.intend(self.lease, intent, self.ids(numbers))
        self.nonces += 1
        self.sent[batch.id] = Sent(BatchState.INTENT, numbers, reserve)
        for n in numbers:
            self.rows[n].state, self.rows[n].batch = RowState.SUBMITTED, batch.id

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), to=st.sampled_from(list(BatchState)), free=st.booleans(), listed=st.booleans())
    def move(self, data: st.DataObject, to: BatchState, free: bool, listed: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.sent)))
        sent = self.sent[number]
        if listed and BATCH_TRANSITIONS[sent.state]:
            to = data.draw(st.sampled_from(sorted(BATCH_TRANSITIONS[sent.state], key=str)))
        facts = BatchFacts(remote_id=RemoteId(f"msgbatch_{number}"), reserved=sent.reserved // 2)
        legal = to is sent.state or to in BATCH_TRANSITIONS[sent.state]
        if sent.state is BatchState.HELD and to is not BatchState.HELD:
            legal = to in {sent.held_from, *PERSONS_CHOICE[sent.held_from]}
        move = partial(
            self.store.move_batch,
            self.lease,
            BatchId(number),
            expect=sent.state,
            to=to,
            facts=facts,
            free=free,
        )
        if not legal:
            with pytest.raises(IllegalTransition):
                move()
            return
        move()
        if to is BatchState.HELD and sent.state is not BatchState.HELD:
            sent.held_from = sent.state
        elif to is not BatchState.HELD:
            sent.held_from = None
        sent.state, sent.reserved = to, sent.reserved // 2
        for n in sent.members if free else []:
            if self.rows[n].batch == number:
                self.rows[n].state, self.rows[n].batch = RowState.PENDING, None

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), page=st.lists(items(BY_BATCH), max_size=8), twice=st.booleans())
    def settle(self, data: st.DataObject, page: list[Any], twice: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.sent)))
        for _ in range(2 if twice else 1):
            self._settle(number, page)

    @rule(page=st.lists(items(ALONE), max_size=6))
    def decide(self, page: list[Any]) -> None:
        self._settle(None, page)

    def _settle(self, source: int | None, page: list[Any]) -> None:
        page = [item for item in page if item[0] < len(self.rows)]
        settled = [
            Settled(
                self.ids([n])[0],
                event,
                reason,
                tier,
                tries,
                resends,
                usage=None if cost is None else Usage(1, 1),
                cost=cost or 0,
                model="m",
            )
            for n, event, reason, tier, tries, resends, cost in page
        ]
        ignored: list[int] = []
        seen: set[int] = set()
        for n, event, reason, tier, tries, resends, cost in page:
            row, (origin, to) = self.rows[n], ROW_TRANSITIONS[event]
            if n in seen or row.state is not origin or (row.batch is not None and row.batch != source):
                ignored.append(n)
                seen.add(n)
                continue
            seen.add(n)
            row.state, row.reason, row.tier, row.tries, row.resends, row.batch = (
                to,
                reason,
                tier,
                tries,
                resends,
                None,
            )
            row.cost += cost or 0
            row.answers += cost is not None
            row.applied.append(source)
            if source is not None:
                self.sent[source].lines += 1
                self.sent[source].spent += cost or 0
        batch = None if source is None else BatchId(source)
        applied = self.store.settle(self.lease, batch, settled, by="" if batch else "Ada")
        assert applied.applied == len(page) - len(ignored)
        assert sorted(applied.ignored) == self.ids(sorted(ignored))

    @precondition(lambda self: self.state in {RunState.OPEN, RunState.PAUSED})
    @rule()
    def pause_or_go_on(self) -> None:
        to = RunState.PAUSED if self.state is RunState.OPEN else RunState.OPEN
        self.store.move_run(self.lease, expect=self.state, to=to)
        self.state = to

    @rule(seconds=st.sampled_from([1.0, TTL * 2]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def take_the_lease_again(self) -> None:
        self.stale.append(self.lease)
        self.lease = self._acquire()

    @precondition(lambda self: self.stale)
    @rule(data=st.data(), number=st.integers(0, 3))
    def write_under_a_stale_lease(self, data: st.DataObject, number: int) -> None:
        stale = data.draw(st.sampled_from(self.stale))
        intent = Intent(
            nonce=Nonce("stale000"),
            size=1,
            place=Place(base_url="u"),
            head=None,
            reserve=0,
            cap=None,
            deadline=2e9,
        )
        canceled = Settled(self.ids([0])[0], RowEvent.RUN_CANCELED, None, 0, 0, 0)
        write: list[Callable[[], object]] = [
            lambda: self.store.intend(stale, intent, self.ids([0])),
            lambda: self.store.settle(stale, None, [canceled]),
            lambda: self.store.move_run(stale, expect=self.state, to=RunState.CANCELING),
            lambda: self.store.freeze(stale, [], seal=Seal()),
        ]
        with pytest.raises(LeaseLost):
            write[number]()

    @rule(clean=st.booleans())
    def reopen(self, clean: bool) -> None:
        """Close it, or leave it as a killed process would, and open it again."""
        if clean:
            self.store.close()
        else:
            self.abandoned.append(self.store)
        self.store = self.open()

    @invariant()
    def every_row_is_in_one_bucket(self) -> None:
        tally = self.store.tally(self.run.id)
        assert tally.counts == Counter((row.state, row.reason, row.tier) for row in self.rows)
        assert sum(tally.outcomes.values()) == len(self.rows)
        assert tally.outcomes == {
            **dict.fromkeys(Outcome, 0),
            **Counter(outcome(row.state, row.reason) for row in self.rows),
        }

    @invariant()
    def rows_are_as_the_model_has_them(self) -> None:
        stored = self.store.page(self.run.id, Where())
        assert [
            (r.state, r.reason, r.tier, r.tries, r.resends, r.batch, r.cost, r.answers) for r in stored
        ] == [(r.state, r.reason, r.tier, r.tries, r.resends, r.batch, r.cost, r.answers) for r in self.rows]
        assert all((row.state is RowState.SUBMITTED) == (row.batch is not None) for row in stored)

    @invariant()
    def a_submission_is_applied_at_most_once(self) -> None:
        results = self.store.results(self.run.id)
        assert [r.id for r in results] == sorted({r.id for r in results})
        for n, row in enumerate(self.rows):
            mine = [r.batch for r in results if r.row == self.ids([n])[0]]
            assert mine == row.applied
        lines = [
            (r.row, r.batch) for r in results if r.batch is not None and r.event is not RowEvent.TWIN_ACCEPTED
        ]
        assert len(lines) == len(set(lines))
        assert sum(r.cost for r in results) == sum(row.cost for row in self.rows)

    @invariant()
    def batches_are_as_the_model_has_them(self) -> None:
        stored = self.store.batches(BatchWhere())
        assert [(b.id, b.state, b.held_from, b.reserved, b.lines, b.spent, b.count) for b in stored] == [
            (n, b.state, b.held_from, b.reserved, b.lines, b.spent, len(b.members))
            for n, b in sorted(self.sent.items())
        ]
        for batch in stored:
            assert list(self.store.members(batch.id).rows) == self.ids(self.sent[batch.id].members)

    def teardown(self) -> None:
        for store in (*self.abandoned, self.store):
            store.close()
        self.end()


class SQLiteMachine(StoreMachine):
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()

    def open(self) -> Store:
        return SQLiteStore(Path(self.folder.name) / "store.db", clock=self.clock)

    def end(self) -> None:
        self.folder.cleanup()


class OrderedMapMachine(StoreMachine):
    def begin(self) -> None:
        self.memory = Memory()

    def open(self) -> Store:
        return MemoryStore(self.memory, self.clock)


class PostgresMachine(StoreMachine):
    address: ClassVar[str]

    def begin(self) -> None:
        empty(self.address)

    def open(self) -> Store:
        return PostgresStore(self.address, clock=self.clock)


@pytest.fixture(scope="module", autouse=True)
def _address(postgres_store: str) -> None:
    PostgresMachine.address = postgres_store


TestSQLite = SQLiteMachine.TestCase
TestOrderedMap = OrderedMapMachine.TestCase
TestPostgres = PostgresMachine.TestCase
# Every step looks at everything, which takes a server several times as long as a file.
TestPostgres.settings = settings(max_examples=max(settings().max_examples // 10, 3))

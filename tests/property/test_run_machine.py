"""The whole run under any history: two processes, deaths, lost answers, people, promotions; the invariants hold."""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import BaseModel
from rig import Faulty

from batchkit.contract import Contract
from batchkit.errors import NotBalanced, TargetError
from batchkit.ids import BatchId, RowId
from batchkit.model import Batch, BatchWhere, ResultView, RowView, Where
from batchkit.progress import Progress
from batchkit.prompt import Prompt
from batchkit.run import Run
from batchkit.source import Record
from batchkit.spec import Spec
from batchkit.states import (
    BATCH_TRANSITIONS,
    ROW_TRANSITIONS,
    RUN_TRANSITIONS,
    BatchState,
    Outcome,
    RowEvent,
    RowState,
    RunState,
    after,
)
from batchkit.storage.sqlite import SQLiteStore
from batchkit.targets.sqlite import SQLiteTarget
from batchkit.testing import (
    Answer,
    Dropped,
    Handler,
    Latency,
    Request,
    Response,
    SimulatedAPI,
    SimulatedClock,
    simulated_client,
)
from batchkit.tier import Tier
from batchkit.workflow import Workflow

HOUR = 3_600.0
KEYS = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "a ", "A", "1", "ü", "", None]
WORDS = ["fine", "fine", "fine", "refused", "broken", "sparse", "flaky", "overload", "", None, "\ud800"]


RECORDS = st.fixed_dictionaries({"sku": st.sampled_from(KEYS), "word": st.sampled_from(WORDS)})


class Label(BaseModel):
    color: Literal["red", "green", "none"]


class Killed(BaseException):
    """The end of a process: nothing of the library catches it, and nothing of it runs afterwards."""


def model(params: Mapping[str, Any], rng: random.Random) -> Answer:
    """Answer by the record's word; what a larger model does better, the second tier does."""
    text = str(params["messages"])
    large = "sonnet" in params["model"]
    if "refused" in text:
        return Answer(stop_reason="refusal")
    if "broken" in text or ("flaky" in text and not large):
        return Answer(text='{"color": "blue"}')
    if "overload" in text and rng.random() < 0.5:
        return Answer(kind="errored", error_type="overloaded_error")
    return Answer(text=json.dumps({"color": "none" if "sparse" in text else "red"}))


SPEC: Spec[Label] = Spec(
    Contract(Label, sparse=lambda out: out.color == "none"),
    Prompt("Word: {word}"),
    key="sku",
    prefix="t_",
    tiers=[Tier("claude-haiku-4-5", max_tokens=300), Tier("claude-sonnet-4-6", max_tokens=600)],
)


class Process:
    """One process: a workflow on the shared store, which may die at any of its transactions."""

    def __init__(self, path: Path, faults: Faulty, clock: SimulatedClock, seed: int) -> None:
        self.store = SQLiteStore(path, clock=clock)
        self.left: int | None = None
        self.after = False
        self.dead = False
        self._guarded()
        self.flow: Workflow[Label] = Workflow(
            SPEC,
            store=self.store,
            client=simulated_client(api=faults),
            clock=clock,
            rng=random.Random(seed),
            max_batch_rows=4,
            max_in_queue=8,
        )

    def _guarded(self) -> None:
        database = self.store._db
        with database.write():
            pass
        assert database._connection is not None
        # No power cut is modelled, only the death of processes: the operating system keeps what was written.
        database._connection.execute("PRAGMA synchronous = OFF")
        whole = database._transaction

        @contextmanager
        def dying(begin: str, end: str) -> Iterator[sqlite3.Connection]:
            if self.dead or (self._counts(begin) and not self.after):
                self.dead = True
                raise Killed
            with whole(begin, end) as connection:
                yield connection
            if self.left == 0:
                self.dead = True
                raise Killed

        database._transaction = dying  # type: ignore[method-assign]

    def _counts(self, begin: str) -> bool:
        """Count a write down; tell whether it is the one to die at."""
        if self.left is None or begin == "BEGIN":
            return False
        self.left -= 1
        return self.left == 0

    def kill_at(self, write: int, *, after: bool) -> None:
        self.left, self.after = write, after

    def close(self) -> None:
        connection = self.store._db._connection
        if connection is not None:
            connection.close()


class RunMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "store.db"
        self.catalog = Path(self.folder.name) / "catalog.db"
        self.sim = SimulatedAPI(model, latency=Latency(min=60.0, max=2 * HOUR))
        self.faults = Faulty(self.sim)
        self.clock = SimulatedClock(self.sim)
        self.seeds = iter(range(1_000))
        self.processes = [self.born(), self.born()]
        self.observer = SQLiteStore(self.path, clock=self.clock)
        self.seen_batches: dict[BatchId, BatchState] = {}
        self.seen_run: RunState | None = None
        self.images: list[tuple[int, str]] = []
        with closing(sqlite3.connect(self.catalog)) as db, db:
            db.execute("CREATE TABLE t (k TEXT PRIMARY KEY, color TEXT)")

    def born(self) -> Process:
        return Process(self.path, self.faults, self.clock, next(self.seeds))

    def teardown(self) -> None:
        try:
            if hasattr(self, "records"):
                self.finish()
        finally:
            for process in self.processes:
                process.close()
            self.observer.close()
            self.folder.cleanup()

    # -------------------------------------------------------------- the actors

    def run_of(self, number: int) -> Run[Label]:
        return self.processes[number].flow.resume("run")

    @contextmanager
    def mortal(self, number: int) -> Iterator[None]:
        """Let a process do something that it may not survive; another takes its place."""
        try:
            yield
        except Killed:
            pass
        finally:
            self.faults.rules.clear()
            if self.processes[number].dead:
                self.processes[number].close()
                self.processes[number] = self.born()
            self.processes[number].left = None

    @initialize(
        rows=st.one_of(
            st.lists(RECORDS, min_size=8, max_size=14, unique_by=lambda row: row["sku"]),
            st.lists(RECORDS, max_size=14),
        ),
        duplicates=st.sampled_from(["first", "quarantine"]),
        canary=st.booleans(),
        dies_at=st.one_of(st.none(), st.integers(1, 6)),
    )
    def start(
        self,
        rows: list[Record],
        duplicates: Literal["first", "quarantine"],
        canary: bool,
        dies_at: int | None,
    ) -> None:
        self.records = rows
        options = {"canary": 2, "canary_above": 3 if canary else 100}
        with self.mortal(0):
            if dies_at is not None:
                self.processes[0].kill_at(dies_at, after=dies_at % 2 == 0)
            self.processes[0].flow.start("run", rows, unlocked=True, on_duplicate=duplicates, **options)  # type: ignore[arg-type]
        # Whatever was left by a death, the next start finishes it, and gives the same run.
        self.processes[0].flow.start("run", rows, unlocked=True, on_duplicate=duplicates, **options)  # type: ignore[arg-type]
        for key in {row["sku"] for row in rows if row["sku"]}:
            with closing(sqlite3.connect(self.catalog)) as db, db:
                db.execute("INSERT INTO t VALUES (?, ?)", (key, f"before {key}"))

    def step(self, number: int) -> Progress:
        """Make a pass: it leaves a run done, with somebody to ask, or with a time for the next one."""
        progress = self.run_of(number).advance()
        assert progress.done or progress.needs or progress.wake_at is not None, progress
        return progress

    @rule(number=st.integers(0, 1), passes=st.sampled_from([40, 10, 3, 1]))
    def go_on(self, number: int, passes: int) -> None:
        """A process makes some passes, and sleeps between them as it is told."""
        for _ in range(passes):
            progress = self.step(number)
            if progress.wake_at is None:
                break
            self.clock.sleep(min(max(progress.wake_at - self.clock.now(), 1.0), 300.0))

    @rule(
        number=st.integers(0, 1),
        write=st.integers(1, 14),
        after=st.booleans(),
        waited=st.sampled_from([61, 0]),
    )
    def die(self, number: int, write: int, after: bool, waited: int) -> None:
        """A process dies before or after one of its next writes, its lease still held; perhaps until it runs out."""
        with self.mortal(number):
            run = self.run_of(number)
            self.processes[number].kill_at(write, after=after)
            run.advance()
        self.clock.sleep(waited)

    @rule(number=st.integers(0, 1), arrived=st.booleans(), dies=st.booleans())
    def lose_an_answer(self, number: int, arrived: bool, dies: bool) -> None:
        """The answer to a create is lost, after its effect or before; perhaps the sender dies of it."""

        def rule(request: Request, api: Handler) -> Response | None:
            if request.method != "POST" or not request.path.endswith("/batches"):
                return None
            if arrived:
                api.handle(request)
            else:
                b"".join([request.body] if isinstance(request.body, bytes) else request.body)
            if dies:
                self.processes[number].dead = True
                raise Killed
            raise Dropped("no answer")

        self.faults.rules.append(rule)
        with self.mortal(number):
            self.step(number)

    @rule(number=st.integers(0, 1), cut=st.integers(0, 2_000), silent=st.booleans())
    def cut_a_stream(self, number: int, cut: int, silent: bool) -> None:
        """A result file breaks off at any byte, or ends there as if that were all of it."""

        def rule(request: Request, api: Handler) -> Response | None:
            if not request.path.endswith("/results"):
                return None
            response = api.handle(request)
            whole = response.body if isinstance(response.body, bytes) else b"".join(response.body)

            def broken() -> Iterator[bytes]:
                yield whole[:cut]
                if cut < len(whole) and not silent:
                    raise Dropped("cut off")

            return Response(status=response.status, headers=response.headers, body=broken())

        self.faults.rules.append(rule)
        with self.mortal(number):
            self.step(number)

    @rule(
        number=st.integers(0, 1),
        status=st.sampled_from([429, 500, 529]),
        method=st.sampled_from(["GET", "POST"]),
    )
    def fail(self, number: int, status: int, method: str) -> None:
        """The API answers with an error; of a create nobody knows what it did."""
        body = json.dumps({"type": "error", "error": {"type": "api_error", "message": "no"}}).encode()

        def rule(request: Request, api: Handler) -> Response | None:
            if request.method != method:
                return None
            b"".join([request.body] if isinstance(request.body, bytes) else request.body)
            return Response(status=status, headers={"content-type": "application/json"}, body=body)

        self.faults.rules.append(rule)
        with self.mortal(number):
            self.step(number)

    @rule(number=st.integers(0, 1), late=st.booleans())
    def move_at_once(self, number: int, late: bool) -> None:
        """The other process makes a pass in the middle of this one's; ``late``: after this one's lease ran out."""
        inside: list[bool] = []

        def rule(request: Request, api: Handler) -> Response | None:
            if not inside:
                inside.append(True)
                if late:
                    self.clock.sleep(90.0)
                self.step(1 - number)
            return None

        self.faults.rules.append(rule)
        with self.mortal(number):
            self.step(number)

    @rule(seconds=st.sampled_from([1.0, 61.0, 600.0, HOUR, 12 * HOUR]))
    def time_goes_by(self, seconds: float) -> None:
        self.clock.sleep(seconds)

    @rule(number=st.integers(0, 1), stays=st.booleans())
    def pause(self, number: int, stays: bool) -> None:
        """Somebody asks for a pause, and mostly thinks better of it."""
        self.run_of(number).pause("a whim")
        self.step(1 - number)
        if not stays:
            self.run_of(1 - number).unpause("thought better of it")

    @rule(number=st.integers(0, 1), sure=st.integers(0, 9))
    def cancel(self, number: int, sure: int) -> None:
        """Somebody may end the run."""
        if sure == 9:
            self.run_of(number).cancel("a whim")
        elif self.run_of(number).record.state is RunState.PAUSED:
            self.run_of(number).unpause("go on")

    @rule(
        number=st.integers(0, 1),
        verdict=st.sampled_from(["answer", "unanswerable", "reject", "send_back", "undo"]),
        pick=st.integers(0, 100),
    )
    def a_person_decides(self, number: int, verdict: str, pick: int) -> None:
        run = self.run_of(number)
        wanted = RowState.SUCCEEDED if verdict == "undo" else RowState.HUMAN
        views = self.observer.page(run._id, Where(states=frozenset({wanted}), results=True))
        able = [view.key for view in views if verdict != "undo" or view.by]
        if not able:
            return
        key = able[pick % len(able)]
        queue = run.queue()
        with suppress(ValueError):  # taken back too late, or said of already: refused with a reason
            if verdict == "undo":
                queue.undo(key, by="me")
            else:
                queue.judge(key, verdict, by="me", output={"color": "green"} if verdict == "answer" else None)

    # -------------------------------------------------------------- the catalog

    def stands(self) -> dict[str, str]:
        with closing(sqlite3.connect(self.catalog)) as db:
            return dict(db.execute("SELECT k, color FROM t"))

    def target(self) -> SQLiteTarget:
        return SQLiteTarget(self.catalog, "t", "k")

    @rule(number=st.integers(0, 1))
    def promote(self, number: int) -> None:
        """What stands in the catalog after a promotion is what is staged; an open run promotes nothing."""
        run, before = self.run_of(number), self.stands()
        try:
            promotion = run.promote(self.target())
        except NotBalanced:
            assert run.record.state is not RunState.CLOSED
            assert self.stands() == before
            return
        staged = {
            row.key: row.output.color for row in run.rows(outcome="succeeded") if row.output is not None
        }
        now = self.stands()
        if not promotion.repeated:
            assert {key for key in now if now[key] != before[key]} <= staged.keys()
            assert {key: now[key] for key in staged} == staged
        if promotion.id is not None and not promotion.repeated and now != before:
            self.images.append((promotion.id, json.dumps(before)))

    @precondition(lambda self: self.images)
    @rule()
    def roll_back(self) -> None:
        """Rolling back the newest promotion gives the catalog back as it was."""
        promotion, before = self.images.pop()
        with suppress(TargetError):
            self.target().rollback(to=promotion)
            self.target().rollback(promotion)
        assert json.dumps(self.stands()) == before

    # -------------------------------------------------------------- the invariants

    def batches(self) -> list[Batch]:
        return list(self.observer.batches(BatchWhere()))

    def views(self) -> list[RowView]:
        return list(self.observer.page(self.observer.runs()[0].id, Where(results=True)))

    def results(self) -> list[ResultView]:
        return list(self.observer.results(self.observer.runs()[0].id))

    @invariant()
    def every_record_is_in_one_bucket(self) -> None:
        """I1."""
        if not hasattr(self, "records"):
            return
        tally = self.observer.tally(self.observer.runs()[0].id)
        assert tally.total == len(self.records) == len(self.views())
        assert sum(tally.outcomes.values()) == len(self.records)

    @invariant()
    def a_row_is_in_one_batch_at_most(self) -> None:
        """I2, in the store and at the provider."""
        members = {batch.id: set(self.observer.members(batch.id).rows) for batch in self.batches()}
        states = {batch.id: batch.state for batch in self.batches()}
        for view in self.views() if members else []:
            assert (view.state is RowState.SUBMITTED) == (view.batch is not None)
            if view.batch is not None:
                assert view.id in members[view.batch]
                assert states[view.batch] not in {
                    BatchState.COLLECTED,
                    BatchState.REJECTED,
                    BatchState.ABSENT,
                }
        live: Counter[str] = Counter()
        for remote in self.sim._world.batches():
            if remote.requests is not None and self.sim.now < remote.ended_at:
                ids = [json.loads(line)["custom_id"] for line in remote.requests]
                live.update(custom_id.rpartition("-")[0] for custom_id in ids)
        assert not [key for key, n in live.items() if n > 1]

    @invariant()
    def collected_batches_are_whole(self) -> None:
        """I4 and I6: lines = counts = members, and what was spent is what the provider billed."""
        if not hasattr(self, "records"):
            return
        billed: dict[str, Counter[str]] = defaultdict(Counter)
        for entry in self.sim.bill().entries():
            usage = entry["usage"]
            billed[entry["batch_id"]].update(
                lines=1, input=usage["input_tokens"], output=usage["output_tokens"]
            )
        by_batch: dict[BatchId | None, list[ResultView]] = defaultdict(list)
        for result in self.results():
            by_batch[result.batch].append(result)
        for batch in self.batches():
            results = by_batch[batch.id]
            assert batch.spent == sum(result.cost for result in results)
            assert batch.lines == len(results) == len({result.row for result in results})
            if batch.state is BatchState.COLLECTED:
                counts = batch.notes["counts"]
                assert isinstance(counts, dict)
                assert batch.lines == batch.count == sum(counts.values())
                assert batch.reserved == 0
                paid = [result.usage for result in results if result.usage is not None]
                recorded = Counter(
                    lines=len(paid), input=sum(u.input for u in paid), output=sum(u.output for u in paid)
                )
                assert recorded == Counter(billed[str(batch.remote_id)])

    @invariant()
    def nothing_is_paid_twice(self) -> None:
        """I3 and I5: each request is paid once, under a nonce of ours, and each row's line applied once."""
        paid = self.sim.bill().times_paid()
        assert all(n == 1 for n in paid.values())
        nonces = {batch.nonce for batch in self.batches()}
        assert {custom_id.rpartition("-")[2] for custom_id in paid} <= nonces
        applied = Counter((r.row, r.batch) for r in self.results() if r.batch is not None) if nonces else {}
        assert all(n == 1 for n in applied.values())

    @invariant()
    def no_state_goes_back(self) -> None:
        """I8: rows, batches and the run go by listed edges only."""
        if not hasattr(self, "records"):
            return
        for batch in self.batches():
            before = self.seen_batches.get(batch.id, BatchState.INTENT)
            assert batch.state in _reachable(BATCH_TRANSITIONS, before), (before, batch.state)
            self.seen_batches[batch.id] = batch.state
        state = self.observer.runs()[0].state
        assert state in _reachable(RUN_TRANSITIONS, self.seen_run or RunState.FREEZING)
        self.seen_run = state
        history: dict[RowId, list[RowEvent]] = defaultdict(list)
        for result in self.results():
            history[result.row].append(result.event)
        for view in self.views():
            assert _end_of(history[view.id], view) is view.state

    # -------------------------------------------------------------- the end

    def finish(self) -> None:
        """Once the faults stop, the run ends in bounded time, or waits for somebody by name."""
        run = self.run_of(0)
        until = self.clock.now() + 60 * HOUR
        while True:
            progress = run.advance()
            if progress.done:
                break
            if progress.run_state is RunState.PAUSED and not progress.tally.in_state(RowState.SUBMITTED):
                assert progress.needs
                run.unpause("go on")
            elif progress.wake_at is None:
                assert progress.needs
                break
            self.clock.sleep(max((progress.wake_at or 0.0) - self.clock.now(), 1.0))
            assert self.clock.now() < until, progress
        for check in (
            self.every_record_is_in_one_bucket,
            self.a_row_is_in_one_batch_at_most,
            self.collected_batches_are_whole,
            self.nothing_is_paid_twice,
            self.no_state_goes_back,
        ):
            check()
        if progress.done:
            assert progress.tally.outcomes[Outcome.OPEN] == 0
            assert run.reconcile().balanced
            recorded = sum(result.usage is not None for result in self.results())
            assert self.sim.bill().lines == recorded
            assert {b.state for b in self.batches()} <= {
                BatchState.COLLECTED,
                BatchState.REJECTED,
                BatchState.ABSENT,
            }
            self.promote(0)


def _reachable(table: Mapping[Any, Mapping[Any, object]], state: Any) -> set[Any]:
    """Give every state that edges of the table lead to."""
    found, new = {state}, [state]
    while new:
        more = [to for to in table[new.pop()] if to not in found]
        found.update(more)
        new += more
    return found


def _end_of(events: list[RowEvent], view: RowView) -> RowState:
    """Replay a row's history by the table; what an intent takes and a lost batch frees leaves no entry of its own."""
    state = view.state if not events else ROW_TRANSITIONS[events[0]][0]
    for event in events:
        origin = ROW_TRANSITIONS[event][0]
        if (state, origin) == (RowState.PENDING, RowState.SUBMITTED):
            state = after(state, RowEvent.TAKEN)
        state = after(state, event)
    open_states = {RowState.PENDING, RowState.SUBMITTED}
    assert state is not None
    return view.state if {state, view.state} <= open_states else state


TestRunMachine = RunMachine.TestCase
TestRunMachine.settings = settings(
    settings.default,
    max_examples=max(settings.default.max_examples // 2, 8),  # type: ignore[union-attr]
    stateful_step_count=25,
)

"""One bounded pass over one run: what can be done now is done, in the order that wastes least."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import attrs

from batchkit.canary import CanaryVerdict, canary_verdict
from batchkit.clock import Clock
from batchkit.collector import ResultCollector
from batchkit.judgements import settle_judgements
from batchkit.model import BatchWhere, Lease, Need, NewEvent, RowView, Run, RunFacts, Settled, Where
from batchkit.progress import Progress
from batchkit.reasons import Reason
from batchkit.receipt import issue_receipt
from batchkit.requests import carry_out
from batchkit.spec import Spec
from batchkit.standing import progress_of, read_cap
from batchkit.states import BatchState, RowEvent, RowState, RunState
from batchkit.storage import Store
from batchkit.submitter import ChunkedSubmitter

T = TypeVar("T")

TTL = 60.0
"""Seconds a lease lives without a write."""

_PAGE = 5_000
_UNSETTLED = frozenset(
    {
        BatchState.INTENT,
        BatchState.SENDING,
        BatchState.DOUBTFUL,
        BatchState.LIVE,
        BatchState.ENDED,
        BatchState.HELD,
    }
)
_MOVABLE = frozenset({RunState.OPEN, RunState.PAUSED, RunState.CANCELING})


@attrs.frozen(kw_only=True)
class Parts(Generic[T]):
    """What a mover is made of."""

    spec: Spec[T]
    store: Store
    submitter: ChunkedSubmitter[T]
    collector: ResultCollector[T]
    clock: Clock
    owner: str


class Mover(Generic[T]):
    """Moves one run, one pass at a time, while it holds the run's lease."""

    def __init__(self, run: Run, parts: Parts[T]) -> None:
        """Prepare to move ``run``."""
        self._run = run
        self._parts = parts
        self._store = parts.store

    def advance(self, *, timeout: float | None = None, stop: Callable[[], bool] | None = None) -> Progress:
        """Make one pass; :meth:`batchkit.Run.advance` says what it gives and raises."""
        clock = self._parts.clock
        until = None if timeout is None else clock.monotonic() + timeout

        def over() -> bool:
            return (stop is not None and stop()) or (until is not None and clock.monotonic() >= until)

        before = self._fresh()
        lease = self._store.acquire(before.id, self._parts.owner, TTL)
        if lease is None:
            holder = self._store.holder(before.id)
            return progress_of(self._store, before, wake_at=holder.until if holder else self._store.now())
        try:
            wakes = _Pass(self._parts, lease, before, over).make()
        finally:
            self._store.release(lease)
        after = self._fresh()
        wake_at = min(wakes, default=None)
        return progress_of(self._store, after, moved=after.seq > before.seq, wake_at=wake_at)

    def _fresh(self) -> Run:
        return self._store.runs(name=self._run.name)[0]


class _Pass(Generic[T]):
    """The state of one pass: the run as it is now, and when to look again."""

    def __init__(self, parts: Parts[T], lease: Lease, run: Run, over: Callable[[], bool]) -> None:
        self._parts = parts
        self._store = parts.store
        self._lease = lease
        self._run = run
        self._over = over
        self._wakes: list[float] = []

    def make(self) -> Iterable[float]:
        """Do what can be done, step by step; give the moments at which there may be more."""
        self._run = carry_out(self._store, self._lease, self._run)
        self._run = settle_judgements(self._store, self._lease, self._run, self._parts.spec)
        if self._run.state not in _MOVABLE:
            self._note_answers()
            return []
        for step in (self._recover, self._collect, self._resolve, self._cancel, self._send, self._close):
            if self._over():
                return [self._store.now()]
            step()
        return self._wakes

    # ---------------------------------------------------------------- steps

    def _recover(self) -> None:
        """Settle what an earlier mover left between intent and acknowledgement."""
        self._wait(self._parts.submitter.recover(self._lease, self._run))

    def _collect(self) -> None:
        """Ask after running batches and read the results of those that ended."""
        collector = self._parts.collector
        self._wait(collector.poll(self._lease, self._run))
        for batch in self._store.batches(BatchWhere(run=self._run.id, states=frozenset({BatchState.ENDED}))):
            if self._over():
                return
            collected = collector.collect(
                self._lease,
                self._run,
                batch,
                stop=self._over,
                canceling=self._run.state is RunState.CANCELING,
            )
            self._wait(collected.wait_until)
            if collected.need is not None:
                self._pause(collected.need)

    def _resolve(self) -> None:
        """Take one reading of the list for a doubtful batch."""
        self._wait(self._parts.submitter.resolve(self._lease, self._run))

    def _cancel(self) -> None:
        """Carry a cancel through: rows not sent are canceled here, running batches at the provider."""
        if self._run.state is not RunState.CANCELING:
            return
        self._wait(self._parts.collector.cancel(self._lease, self._run))
        for page in self._pending_pages():
            settled = [
                Settled(row.id, RowEvent.RUN_CANCELED, Reason.RUN_CANCELED, row.tier, row.tries, row.resends)
                for row in page
            ]
            self._store.settle(self._lease, None, settled)

    def _send(self) -> None:
        """Send batch after batch while the run is open, the limits allow it and time is left."""
        self._unpause_by_cap()
        while self._run.state is RunState.OPEN and not self._over():
            if not self._tally_pending():
                return
            first = self._canary()
            if first is None:
                return
            cap = read_cap(self._store)
            sent = self._parts.submitter.send(
                self._lease,
                self._run,
                cap=cap.usd_nano if cap else None,
                stop=self._over,
                max_rows=first or None,
            )
            if sent.need is not None:
                self._pause(sent.need)
                return
            self._wait(sent.wait_until)
            if sent.batch is None:
                return
            self._wait(self._store.now())

    def _close(self) -> None:
        """Close the run with a receipt when nothing is open."""
        if self._store.tally(self._run.id).open or self._unsettled():
            return
        issue_receipt(self._store, self._run)
        self._run = self._store.move_run(
            self._lease,
            expect=self._run.state,
            to=RunState.CLOSED,
            facts=RunFacts(needs=(), events=(NewEvent(kind="run.balanced", data={"rows": self._run.rows}),)),
        )
        self._wakes.clear()

    # ---------------------------------------------------------------- parts of steps

    def _note_answers(self) -> None:
        """Give a closed run a new receipt where people's answers changed it."""
        if self._run.state is RunState.CLOSED:
            issue_receipt(self._store, self._run)

    def _canary(self) -> int | None:
        """Give the most rows the next batch may have (0: no special limit), None while the canary is out."""
        verdict = canary_verdict(self._store, self._run)
        match verdict:
            case CanaryVerdict(state="off" | "passed"):
                return 0
            case CanaryVerdict(state="first"):
                return verdict.rows
            case CanaryVerdict(state="failed"):
                self._pause(verdict.need(self._run.name), mark={"canary_overruled": True})
                return None
            case _:
                return None

    def _unpause_by_cap(self) -> None:
        """Go on by itself where the run was paused for money and the cap has been changed since."""
        waiting = next((need for need in self._run.needs if need.code == "budget"), None)
        cap = read_cap(self._store)
        if self._run.state is not RunState.PAUSED or waiting is None:
            return
        if (cap.usd_nano if cap else None) != self._run.options.get("paused_cap"):
            self._run = self._store.move_run(
                self._lease,
                expect=RunState.PAUSED,
                to=RunState.OPEN,
                facts=RunFacts(
                    needs=(), events=(NewEvent(kind="run.unpaused", data={"why": "cap changed"}),)
                ),
            )

    def _pause(self, need: Need, *, mark: dict[str, object] | None = None) -> None:
        if self._run.state is not RunState.OPEN:
            return
        cap = read_cap(self._store)
        options = {**self._run.options, **(mark or {}), "paused_cap": cap.usd_nano if cap else None}
        event = NewEvent(kind="run.paused", severity="page", data={"who": need.who, "code": need.code})
        facts = RunFacts(needs=(need,), options=options, events=(event,))
        self._run = self._store.move_run(self._lease, expect=RunState.OPEN, to=RunState.PAUSED, facts=facts)

    def _pending_pages(self) -> Iterator[Sequence[RowView]]:
        where = Where(states=frozenset({RowState.PENDING}))
        while page := self._store.page(self._run.id, where, limit=_PAGE):
            yield page

    def _tally_pending(self) -> int:
        return self._store.tally(self._run.id).in_state(RowState.PENDING)

    def _unsettled(self) -> bool:
        return bool(self._store.batches(BatchWhere(run=self._run.id, states=_UNSETTLED)))

    def _wait(self, until: float | None) -> None:
        if until is not None:
            self._wakes.append(until)

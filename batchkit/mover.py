"""One bounded pass over one run: what can be done now is done, in the order that wastes least."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Generic, TypeVar

import attrs

from batchkit.canary import SETTLED, canary_verdict
from batchkit.clock import Clock
from batchkit.collector import Collected, ResultCollector
from batchkit.errors import LeaseLost, ProviderError
from batchkit.ids import RowId, RunId
from batchkit.judgements import settle_judgements
from batchkit.lease import held
from batchkit.model import Batch, BatchWhere, Lease, Need, NewEvent, Run, RunFacts, Settled, Tally, Where
from batchkit.modelcheck import CODE, OVERRULED
from batchkit.progress import Progress
from batchkit.reasons import Reason
from batchkit.receipt import issue_receipt
from batchkit.requests import carry_out, unheeded
from batchkit.sharing import shared
from batchkit.spec import Spec
from batchkit.spending import Spending
from batchkit.standing import blocking, progress_of
from batchkit.states import BatchState, RowEvent, RowState, RunState
from batchkit.storage import Store
from batchkit.submitter import ChunkedSubmitter, Sent
from batchkit.suspects import reported
from batchkit.troubles import Troubles
from batchkit.units import Hands
from batchkit.watcher import watched_until

T = TypeVar("T")

_MINUTE = 60.0
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
"""Batches that a run waits for before it closes. A late twin is booked after that, by a receipt of its own."""

_ENDED = frozenset({BatchState.ENDED})
_MOVABLE = frozenset({RunState.OPEN, RunState.PAUSED, RunState.CANCELING})


@attrs.frozen(kw_only=True)
class Parts(Generic[T]):
    """What a mover is made of.

    Attributes:
        spec: What the runs were started with.
        store: Where they are.
        submitter: Sends.
        collector: Collects.
        clock: Time.
        owner: Gives a name for a lease that nobody else has, also in this process.
        warn_at: Shares of the cap at which to warn.
        where: The store's path or address, for people.
        hands: Those who read result files for the mover; None: it does so itself.
    """

    spec: Spec[T]
    store: Store
    submitter: ChunkedSubmitter[T]
    collector: ResultCollector[T]
    clock: Clock
    owner: Callable[[], str]
    warn_at: tuple[float, ...] = ()
    where: str = ""
    hands: Hands | None = None
    _counted: dict[RunId, tuple[int, Tally]] = attrs.field(factory=dict, init=False)

    def recall(self, lease: Lease) -> Tally | None:
        """Give the rows as the last pass counted them, if nobody held the lease since: then none has moved."""
        epoch, tally = self._counted.pop(lease.run, (None, None))
        return tally if epoch == lease.epoch - 1 else None

    def remember(self, lease: Lease, tally: Tally) -> None:
        """Keep a count of the rows for the next pass: at 600,000 rows each count is a third of a second."""
        self._counted[lease.run] = (lease.epoch, tally)


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

        try:
            with held(self._store, self._run.id, self._parts.owner()) as lease:
                if lease is None:
                    return self._not_ours()
                # Read under the lease: what was read before may have moved since.
                progress = self._moved(lease, self._fresh(), over, stop)
        except LeaseLost:
            return self._not_ours()

        # Whoever asked while the lease was held left it to us, and had written it down before we let go.
        if unheeded(self._store, self._fresh()):
            return attrs.evolve(progress, wake_at=self._store.now())
        return progress

    def _moved(
        self, lease: Lease, before: Run, over: Callable[[], bool], stop: Callable[[], bool] | None
    ) -> Progress:
        one = Pass(self._parts, lease, before, over, stop)
        wakes = one.make()
        after = self._fresh()
        if one.alone:  # else others write on, under this epoch and before the next
            self._parts.remember(lease, one.tally)
        return progress_of(
            self._store,
            after,
            moved=after.seq > before.seq,
            wake_at=min(wakes, default=None),
            tally=one.tally,
            where=self._parts.where,
        )

    def _not_ours(self) -> Progress:
        """Report that somebody else moves the run, and until when at least."""
        holder = self._store.holder(self._run.id)
        wake_at = holder.until if holder is not None else self._store.now()
        return progress_of(self._store, self._fresh(), wake_at=wake_at, where=self._parts.where)

    def _fresh(self) -> Run:
        return self._store.runs(name=self._run.name)[0]


class Pass(Generic[T]):
    """The state of one pass: the run as it is now, and when to look again."""

    def __init__(
        self,
        parts: Parts[T],
        lease: Lease,
        run: Run,
        over: Callable[[], bool],
        stop: Callable[[], bool] | None,
    ) -> None:
        """Begin a pass under a lease.

        ``over`` is asked between steps and knows the time budget; ``stop`` is the caller's own and is asked
        in mid-body and mid-file too: a body or file that outlasts one budget would never get to its end.
        """
        self._parts = parts
        self._store = parts.store
        self._lease = lease
        self._run = run
        self._over = over
        self._stop = stop
        self._wakes: list[float] = []
        self._spending = Spending(parts.store, parts.warn_at)
        self._troubles = Troubles(parts.store, lease)
        self._counted = parts.recall(lease)
        self._seq = run.seq
        self.alone: bool = True

    @property
    def tally(self) -> Tally:
        """Give the rows as they are now; counted again only where something was written since."""
        seq = self._store.runs(name=self._run.name)[0].seq
        if self._counted is None or seq != self._seq:
            self._counted, self._seq = self._store.tally(self._run.id), seq
        return self._counted

    def make(self) -> Iterable[float]:
        """Do what can be done, step by step; give the moments at which there may be more."""
        self._run = carry_out(self._store, self._lease, self._run)
        self._settle_judgements()
        if self._run.state is RunState.CLOSED:
            return self._watched()
        if self._run.state not in _MOVABLE:
            return []
        clean = True
        for step in (self._recover, self._collect, self._resolve, self._cancel, self._send, self._close):
            if self._over():
                return [self._store.now()]
            try:
                step()
            except ProviderError as error:
                clean = False
                self._run, wake = self._troubles.note(self._run, error)
                self._wait(wake)
        if clean and self._run.state in _MOVABLE:
            self._run = self._troubles.over(self._run)
        return self._wakes

    def _watched(self) -> list[float]:
        """Look after what may still turn up of a closed run, when its time has come; book what did."""
        until = watched_until(self._store.batches(BatchWhere(run=self._run.id)), reported(self._store))
        if until is None or until > self._store.now():
            return [] if until is None else [until]
        try:
            self._resolve()
            self._collect_twins()
        except ProviderError as error:
            self._wait(self._store.now() + (error.retry_after or _MINUTE))
        issue_receipt(self._store, self._run)
        return self._wakes

    # ---------------------------------------------------------------- steps

    def _settle_judgements(self) -> None:
        """Apply what people decided; a closed run that it changes gets its next receipt."""
        settled = settle_judgements(self._store, self._lease, self._run, self._parts.spec)
        changed, self._run = settled is not self._run, settled
        if changed and self._run.state is RunState.CLOSED:
            issue_receipt(self._store, self._run)

    def _recover(self) -> None:
        """Settle what an earlier mover left between intent and acknowledgement."""
        self._wait(self._parts.submitter.recover(self._lease, self._run))

    def _collect(self) -> None:
        """Ask after running batches and read the results of those that ended."""
        self._wait(self._parts.collector.poll(self._lease, self._run))
        for collected in self._read(self._store.batches(BatchWhere(run=self._run.id, states=_ENDED))):
            self._wait(collected.wait_until)
            if collected.need is not None:
                self._pause(collected.need)
            self._run = self._spending.warned(self._lease, self._run)
        if self._over():
            self._wait(self._store.now())
            return
        self._collect_twins()

    def _read(self, ended: Sequence[Batch]) -> Generator[Collected, None, None]:
        """Read result files: an executor's workers do where there is one, else this process and whoever helps."""
        self.alone, parts = False, self._parts
        if parts.hands is not None:
            left = yield from parts.hands.collect(self._store, self._lease, ended, self._over, self._stop)
        else:
            left = yield from shared(
                self._store,
                self._lease,
                self._run,
                ended,
                read=self._read_here,
                owner=parts.owner(),
                clock=parts.clock,
                over=self._over,
            )
        self.alone = not left

    def _read_here(self, batch: Batch) -> Collected:
        canceling = self._run.state is RunState.CANCELING
        return self._parts.collector.collect(
            self._lease, self._run, batch, stop=self._stop, canceling=canceling
        )

    def _collect_twins(self) -> None:
        """Read what a second remote batch of one create brings."""
        booked, wake = self._parts.collector.twins(self._lease, self._run, stop=self._stop)
        self._wait(wake)
        if booked:
            self._run = self._spending.warned(self._lease, self._run)

    def _resolve(self) -> None:
        """Take one reading of the list for a doubtful batch."""
        self._wait(self._parts.submitter.resolve(self._lease, self._run))

    def _cancel(self) -> None:
        """Carry a cancel through: rows not sent are canceled here, running batches at the provider."""
        if self._run.state is not RunState.CANCELING:
            return
        self._wait(self._parts.collector.cancel(self._lease, self._run))
        pending = Where(states=frozenset({RowState.PENDING}))
        while page := self._store.page(self._run.id, pending, limit=_PAGE):
            settled = [
                Settled(row.id, RowEvent.RUN_CANCELED, Reason.RUN_CANCELED, row.tier, row.tries, row.resends)
                for row in page
            ]
            self._store.settle(self._lease, None, settled)

    def _send(self) -> None:
        """Send batch after batch while the run is open, the limits allow it and time is left."""
        self._heed()
        self._run = self._spending.unpaused(self._lease, self._run)
        pending = self.tally.in_state(RowState.PENDING)
        after: RowId | None = None
        while self._run.state is RunState.OPEN and not self._over():
            if not pending or self._is_blocked():
                return
            most = self._canary()
            if most is None:
                return
            sent = self._parts.submitter.send(
                self._lease,
                self._run,
                cap=self._spending.cap,
                stop=self._stop,
                max_rows=most or None,
                pending=pending,
                after=after,
            )
            pending -= sent.rows + sent.quarantined
            after = sent.last
            if sent.need is not None:
                self._pause(sent.need, {OVERRULED: True} if sent.need.code == CODE else None)
                return
            if sent.batch is None and not sent.quarantined:
                self._wait(self._next_try(sent))
                return
            self._wait(self._store.now())
            self._heed()

    def _close(self) -> None:
        """Close the run with a receipt when nothing is open."""
        if self.tally.open or self._store.batches(BatchWhere(run=self._run.id, states=_UNSETTLED)):
            return
        issue_receipt(self._store, self._run)
        self._run = self._store.move_run(
            self._lease,
            expect=self._run.state,
            to=RunState.CLOSED,
            facts=RunFacts(needs=(), events=(NewEvent(kind="run.balanced", data={"rows": self._run.rows}),)),
        )
        self._wakes.clear()
        self._wait(watched_until(self._store.batches(BatchWhere(run=self._run.id))))

    # ---------------------------------------------------------------- parts of steps

    def _heed(self) -> None:
        """Take the requests and the cap as they are now: one pass may send for an hour."""
        before = self._run.state
        self._run = carry_out(self._store, self._lease, self._run)
        self._spending.look()
        if self._run.state is not before:
            self._wait(self._store.now())

    def _is_blocked(self) -> bool:
        """Tell whether only a person's decision about a held batch lets anything be sent."""
        own = self._store.batches(BatchWhere(run=self._run.id))
        return blocking(self._store, self._run, own) is not None or any(
            batch.held_from is BatchState.DOUBTFUL for batch in own
        )

    def _next_try(self, sent: Sent) -> float | None:
        """Give when to try again to send: what stands in the way may be another run's, which tells us nothing."""
        if sent.wait_until is not None or not sent.why:
            return sent.wait_until
        return self._store.now() + _MINUTE

    def _canary(self) -> int | None:
        """Give the most rows the next batch may have (0: no special limit), None while the canary is out."""
        verdict = canary_verdict(self._store, self._run)
        match verdict.state:
            case "off":
                return 0
            case "first":
                return verdict.rows
            case "out":
                return None
            case "passed":
                event = NewEvent(kind="canary.passed", data={"rows": verdict.rows, "share": verdict.share})
                options = {**self._run.options, SETTLED: "passed"}
                self._run = self._store.move_run(
                    self._lease,
                    expect=RunState.OPEN,
                    to=RunState.OPEN,
                    facts=RunFacts(options=options, events=(event,)),
                )
                return 0
            case "failed":
                # Whoever lets it go on after this has overruled it.
                self._pause(verdict.need(), {SETTLED: "overruled"})
                return None

    def _pause(self, need: Need, mark: dict[str, object] | None = None) -> None:
        self._run = self._troubles.pause(self._run, need, {**self._spending.mark(), **(mark or {})})

    def _wait(self, until: float | None) -> None:
        if until is not None:
            self._wakes.append(until)

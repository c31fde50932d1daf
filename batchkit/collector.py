"""Result files to rows: poll, read, judge, settle, and prove that nothing is missing.

A file is read as a stream and settled in pages. What was settled stays settled, so a broken stream is
simply read again. A batch counts as collected only when its lines, the provider's counts and our members
agree exactly; until then no row is called missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import attrs

from batchkit.api import Client, Gateway
from batchkit.builder import RequestBuilder
from batchkit.chance import Chance, SystemChance
from batchkit.clock import LONGEST, Clock, SystemClock, to_come
from batchkit.errors import LeaseLost, ProviderError, UsageError
from batchkit.escalator import Escalator
from batchkit.inhand import InHand
from batchkit.lease import held, new_owner
from batchkit.listing import server_time
from batchkit.manifest import Manifest
from batchkit.model import Batch, BatchFacts, BatchWhere, Lease, Need, NewEvent, Run, Tally
from batchkit.polling import Poller, hold
from batchkit.prices import Price
from batchkit.pricing import Pricing
from batchkit.reading import FileReading, differences
from batchkit.reasons import Reason
from batchkit.spec import Spec
from batchkit.states import BatchState, RowEvent
from batchkit.storage import Store
from batchkit.twins import TwinCollector
from batchkit.validator import Validator

__all__ = ["Collected", "ResultCollector"]

T = TypeVar("T")

MINUTE = 60.0
DAY = 86_400.0
KEPT_FOR = 29 * DAY
"""Results can be read for this long after a batch was created."""
WARN_AT = 20 * DAY
APART = 600.0
"""Seconds between two readings that count as two."""
READINGS = 3
"""Complete readings that must disagree before a person is asked."""


@attrs.frozen(kw_only=True)
class Collected:
    """What one reading of a result file did.

    Args:
        batch: The batch as it is now.
        lines: Rows settled by this reading.
        complete: The batch is collected: lines, counts and members agree.
        wait_until: When to read again (epoch seconds of the store's clock).
        need: What only somebody else can give; a money need should pause the run.
    """

    batch: Batch
    lines: int = 0
    complete: bool = False
    wait_until: float | None = None
    need: Need | None = None


class ResultCollector(Generic[T]):
    """Brings back what the batches of a run produced."""

    def __init__(
        self,
        store: Store,
        client: Client | Gateway = None,
        *,
        builder: RequestBuilder[T],
        validator: Validator[T] | None = None,
        escalator: Escalator | None = None,
        prices: Mapping[str, Price] | None = None,
        clock: Clock | None = None,
        rng: Chance | None = None,
    ) -> None:
        """Prepare to collect.

        Args:
            store: Where runs, rows and batches are.
            client: A client of the SDK or a `Gateway`; None makes a client from the environment.
            builder: Knows the custom ids.
            validator: Judges lines; None takes that of the builder's spec.
            escalator: Decides what happens to the rows; None takes that of the builder's spec.
            prices: Prices that override the built-in table.
            clock: Waits between attempts of a read.
            rng: Spreads the polls.
        """
        self._store = store
        self._clock: Clock = clock or SystemClock()
        self._gateway = client if isinstance(client, Gateway) else Gateway(client, clock=self._clock)
        if validator is None:
            if not isinstance(builder.spec, Spec):
                raise UsageError(
                    "answers are judged by a Spec's contract; this builder has only a stored spec"
                )
            validator = Validator(builder.spec)
        self._validator = validator
        self._escalator = escalator or Escalator(builder.spec)
        self._builder = builder
        self._pricing = Pricing(tiers=builder.spec.tiers, prices=dict(prices or {}))
        self._poller = Poller(store, self._gateway, rng or SystemChance())
        self._twins = TwinCollector(
            store,
            self._gateway,
            builder=builder,
            validator=self._validator,
            escalator=self._escalator,
            pricing=self._pricing,
        )

    def fetch(self, name: str) -> Tally:
        """Ask after the batches of a run once, settle what has ended, and give the run's rows as they are now.

        For use without a workflow; call it again while rows are open.

        Raises:
            UsageError: the store has no run of that name.
            ProviderError: the API refuses the credential.
            LeaseLost: another process moves the run now.
        """
        found = self._store.runs(name=name)
        if not found:
            raise UsageError(f"the store has no run {name!r}")
        run = found[0]
        with held(self._store, run.id, new_owner("fetch")) as lease:
            if lease is None:
                raise LeaseLost(f"{name!r} is moved by another process now; try again in a minute")
            self.poll(lease, run)
            for batch in self._store.batches(BatchWhere(run=run.id, states=frozenset({BatchState.ENDED}))):
                self.collect(lease, run, batch)
            self.twins(lease, run)
        return self._store.tally(run.id)

    def poll(self, lease: Lease, run: Run) -> float | None:
        """Ask after the run's running batches, if it is time; give when to ask next.

        Raises:
            ProviderError: the API refuses the credential (401, 402, 403); the run should pause.
            LeaseLost: another process moves the run now.
        """
        return self._poller.poll(lease, run)

    def cancel(self, lease: Lease, run: Run) -> float | None:
        """Ask the API to cancel the run's running batches, each once; give when to ask again.

        What was finished before the cancellation is paid for and is collected when the batch has ended.
        """
        return self._poller.cancel(lease, run)

    def twins(
        self, lease: Lease, run: Run, *, stop: Callable[[], bool] | None = None
    ) -> tuple[bool, float | None]:
        """Read the late twins of the run's batches; give whether one was booked, and when to look again.

        Raises:
            ProviderError: the API refuses the credential (401, 402, 403).
            LeaseLost: another process moves the run now.
        """
        return self._twins.collect(lease, run, stop=stop)

    # ---------------------------------------------------------------- collect

    def collect(
        self,
        lease: Lease,
        run: Run,
        batch: Batch,
        *,
        stop: Callable[[], bool] | None = None,
        canceling: bool = False,
        lent: bool = False,
    ) -> Collected:
        """Read the result file of an ended batch once, settling its rows page by page.

        Args:
            lease: The right to move the run.
            run: The run.
            batch: One of its batches, in ENDED.
            stop: Asked at every chunk; True ends the reading early, to be done again from the start.
            canceling: The run is being canceled, so canceled lines are what was asked for.
            lent: It is read for another, who judges what it means where it cannot be read.

        Raises:
            ProviderError: the API refuses the credential (401, 402, 403), or a lent file cannot be read.
            LeaseLost: another process moves the run now; pages settled before stay settled.
        """
        remote = batch.remote_id
        assert remote is not None
        now = self._store.now()
        if (next_at := not_before(batch, now)) is not None:
            return Collected(batch=batch, wait_until=next_at)
        batch = self._warned(lease, batch)
        with InHand.taken_up(self._store, lease, batch, self._clock) as in_hand:
            manifest = Manifest.load(self._store, self._builder, batch)
            reading = FileReading(
                self._store,
                lease,
                batch,
                manifest,
                validator=self._validator,
                escalator=self._escalator,
                pricing=self._pricing,
                canceling=canceling,
                careful=in_hand.note if in_hand.careful else None,
                renewed=in_hand.renewed,
                unjudged=in_hand.unjudged,
            )
            try:
                counts = self._counts(batch)
                with self._gateway.results(remote) as chunks:
                    finished = reading.read(chunks, stop)
            except ProviderError as error:
                batch = in_hand.put_down(batch)
                if lent or error.status in {401, 402, 403}:
                    self._stay(lease, batch, batch.notes)
                    raise
                reading.flush()
                return self._broken(lease, run, batch, reading, error)
            except BaseException:
                in_hand.dropped(reading.in_hand)
                raise
            batch = in_hand.put_down(batch)
            if not finished:
                self._stay(lease, batch, batch.notes)
                return Collected(batch=batch, lines=reading.settled, wait_until=now, need=reading.need)
            return self._judged(lease, batch, reading, counts)

    def _counts(self, batch: Batch) -> dict[str, int] | None:
        noted = batch.notes.get("counts")
        if isinstance(noted, Mapping):
            return {str(name): int(n) for name, n in noted.items()}
        assert batch.remote_id is not None
        found = self._gateway.retrieve(batch.remote_id)
        return dict(found.counts) if found is not None and found.ended else None

    def _judged(
        self, lease: Lease, batch: Batch, reading: FileReading[T], counts: dict[str, int] | None
    ) -> Collected:
        """Compare what was read with what was sent and with what the provider counted."""
        now = self._store.now()
        wrong = differences(reading, counts, batch.count)
        if not wrong:
            reading.settle_parked()
            notes = {**batch.notes, **reading.facts(), "counts": counts}
            event = NewEvent(kind="batch.collected", data={"batch": batch.id, "lines": reading.lines})
            moved = self._move(
                lease, batch, BatchState.COLLECTED, BatchFacts(reserved=0, notes=notes, events=(event,))
            )
            return Collected(batch=moved, lines=reading.settled, complete=True, need=reading.need)
        last, count = batch.notes.get("read_at"), batch.notes.get("readings")
        readings = count if isinstance(count, int) else 0
        counted = not isinstance(last, int | float) or not 0 <= now - last < APART
        if counted:
            readings, last = readings + 1, now
        assert isinstance(last, int | float)
        next_at = now + MINUTE if readings <= 1 and counted else last + APART
        notes = {
            **batch.notes,
            "readings": readings,
            "read_at": last,
            "read_next": next_at,
            "differences": wrong,
        }
        if readings >= READINGS:
            told = ", ".join(f"{name}: {value}" for name, value in wrong.items())
            why = f"three complete readings do not agree with what was sent ({told})"
            moved = hold(self._store, lease, batch, "batch.inconsistent", why, notes)
            return Collected(batch=moved, lines=reading.settled, need=reading.need)
        moved = self._stay(lease, batch, notes)
        return Collected(batch=moved, lines=reading.settled, wait_until=next_at, need=reading.need)

    def _broken(
        self, lease: Lease, run: Run, batch: Batch, reading: FileReading[T], error: ProviderError
    ) -> Collected:
        """The file could not be read to its end: later, or never once its 29 days are over."""
        now = self._store.now()
        if error.status in {404, 410}:
            age = self._age(batch)
            if age is not None and age >= KEPT_FOR:
                return self._unrecoverable(lease, batch, reading)
            if age is None and now - _created(batch) >= KEPT_FOR:
                why = "its results cannot be read, and where nobody tells the server's time, nobody knows whether they ever can"
                moved = hold(self._store, lease, batch, "batch.unreadable", why, batch.notes)
                return Collected(batch=moved, lines=reading.settled, need=reading.need)
        broken = batch.notes.get("broken")
        times = broken if isinstance(broken, int) else 0
        wait = min(error.retry_after or min(MINUTE * 2 ** min(times, 4), 900.0), LONGEST)
        notes = {**batch.notes, "broken": times + 1, "read_next": now + wait}
        moved = self._stay(lease, batch, notes)
        return Collected(batch=moved, lines=reading.settled, wait_until=now + wait, need=reading.need)

    def _age(self, batch: Batch) -> float | None:
        """Give a batch's age by the server's clock, which alone may say that its results are gone: ours may be wrong."""
        date = server_time(self._gateway)
        return None if date is None else date - _created(batch)

    def _unrecoverable(self, lease: Lease, batch: Batch, reading: FileReading[T]) -> Collected:
        lines = reading.close_rows(RowEvent.RESULTS_GONE, Reason.BATCH_UNRECOVERABLE)
        event = NewEvent(kind="batch.unrecoverable", severity="page", data={"batch": batch.id, "rows": lines})
        moved = self._move(
            lease,
            batch,
            BatchState.UNRECOVERABLE,
            BatchFacts(reserved=0, notes=batch.notes, events=(event,)),
        )
        return Collected(batch=moved, lines=lines)

    def _warned(self, lease: Lease, batch: Batch) -> Batch:
        """Say once that the results of a batch will soon be gone."""
        if batch.notes.get("warned") or self._store.now() - _created(batch) < WARN_AT:
            return batch
        age = self._age(batch)
        if age is None or age < WARN_AT:
            return batch
        event = NewEvent(
            kind="results.expiring",
            severity="page",
            data={"batch": batch.id, "days_left": int((KEPT_FOR - age) // DAY)},
        )
        return self._stay(lease, batch, {**batch.notes, "warned": True}, event)

    # ---------------------------------------------------------------- moves

    def _move(self, lease: Lease, batch: Batch, to: BatchState, facts: BatchFacts) -> Batch:
        return self._store.move_batch(lease, batch.id, expect=batch.state, to=to, facts=facts)

    def _stay(self, lease: Lease, batch: Batch, notes: Mapping[str, object], *events: NewEvent) -> Batch:
        return self._move(lease, batch, batch.state, BatchFacts(notes=notes, events=events))


def not_before(batch: Batch, now: float) -> float | None:
    """Give until when the results of a batch are not to be read again, None where they may be now."""
    at = batch.notes.get("read_next")
    return float(at) if isinstance(at, int | float) and to_come(at, now) else None


def _created(batch: Batch) -> float:
    """Give when the batch was created, by the server's word; of one that was found later, when it was found."""
    told = batch.notes.get("remote_created_at", batch.notes.get("proved_at"))
    return float(told) if isinstance(told, int | float) else batch.created_at

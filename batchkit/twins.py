"""Late twins: what a second remote batch of one create brings is used where it can be, and booked where not."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import ClassVar, Generic, TypeVar

import attrs

from batchkit.api import Gateway
from batchkit.builder import RequestBuilder
from batchkit.clock import LONGEST, to_come
from batchkit.errors import ProviderError
from batchkit.escalator import Escalator
from batchkit.fixes import decision_fix
from batchkit.ids import BatchId, CustomId, ResultId, RowId
from batchkit.listing import server_time
from batchkit.manifest import Manifest, Standing
from batchkit.model import Batch, BatchFacts, BatchWhere, Lease, Need, NewEvent, Run, Settled, Usage
from batchkit.money import cost
from batchkit.prices import Price
from batchkit.pricing import Pricing
from batchkit.reading import FileReading, differences
from batchkit.states import UNRESOLVED, BatchState, RowEvent, RowState
from batchkit.storage import Store
from batchkit.validator import ResultLine, Validator, billed
from batchkit.watch import Share, Twin, set_aside, twins_of, unread

__all__ = ["TwinCollector", "TwinReading", "book"]

T = TypeVar("T")

MINUTE = 60.0
APART = 600.0
READINGS = 3
KEPT_FOR = 29 * 86_400.0
READ = 2_000


@attrs.define
class _Standing:
    """Where the members of a batch are now, by number."""

    canceled: bytearray
    taken: bytearray
    """Those that an earlier, broken reading of this twin has settled."""


class TwinReading(FileReading[T]):
    """One reading of a twin's file: pending rows take what is valid, everything else is booked."""

    SHORT_WAY: ClassVar[bool] = False
    unpriced: int

    def __init__(
        self,
        store: Store,
        lease: Lease,
        batch: Batch,
        manifest: Manifest,
        standing: _Standing,
        twin: Twin,
        *,
        validator: Validator[T],
        escalator: Escalator,
        pricing: Pricing,
    ) -> None:
        """Prepare one reading."""
        super().__init__(
            store, lease, batch, manifest, validator=validator, escalator=escalator, pricing=pricing
        )
        self._standing = standing
        self._twin = twin
        self._shares: dict[tuple[str, str, int, str], tuple[int, list[int], int]] = {}
        self.applied: int = sum(standing.taken)

    def told(self, *, read_at: float | None, why: str = "") -> Twin:
        """Give the twin with what this reading brought."""
        shares = tuple(
            Share(
                use=use, model=model, tier=tier, verdict=verdict, lines=lines, usage=Usage(*usage), cost=cost
            )
            for (use, model, tier, verdict), (lines, usage, cost) in sorted(self._shares.items())
        )
        return attrs.evolve(
            self._twin,
            read_at=read_at,
            lines=self.lines,
            applied=self.applied,
            shares=shares,
            sha256=self.digest,
            why=why,
        )

    def settle_parked(self) -> None:
        """Leave rows alone whose line could not be read."""
        self._parked = {}

    def _spare(self, number: int, line: ResultLine) -> None:
        if self._standing.taken[number]:
            return
        use = "unused" if self._standing.canceled[number] else "duplicate"
        _, usage, model = billed(line)
        self._book(use, number, model, "", usage)

    def _judge(self, number: int, line: ResultLine, fields: Mapping[str, str | None] | None) -> None:
        manifest = self._manifest
        verdict = self._verdict(number, line, fields)
        manifest.open[number] = 0
        if verdict.reason is not None:
            self._book("duplicate", number, verdict.model, verdict.reason.value, verdict.usage)
            return
        _, tries, resends, _ = manifest.standings[number]
        tier = self._tier(number, verdict.model)
        usage = verdict.usage
        self._page.append(
            Settled(
                manifest.rows[number],
                RowEvent.TWIN_ACCEPTED,
                None,
                tier,
                tries + 1,
                resends,
                # Tells which twin it was, should this reading break and be made again.
                detail=self._twin.remote_id,
                answer=verdict.text,
                usage=usage,
                cost=0 if usage is None else self._cost(usage, self._pricing.of(tier, verdict.model)),
                model=verdict.model,
            )
        )
        self.applied += 1

    def _tier(self, number: int, model: str) -> int:
        """Give the tier that answered: the row may have gone up since this twin was sent."""
        now = self._manifest.standings[number][0]
        tiers = self._pricing.tiers[: now + 1]
        return next((n for n, tier in enumerate(tiers) if model.startswith(tier.model)), now)

    def _book(self, use: str, number: int, model: str, verdict: str, usage: Usage | None) -> None:
        tier = self._tier(number, model)
        key = (use, model, tier, verdict)
        lines, total, cost = self._shares.get(key, (0, [0] * len(Usage._fields), 0))
        if usage is not None:
            total = [a + b for a, b in zip(total, usage, strict=True)]
            cost += self._cost(usage, self._pricing.of(tier, model))
        self._shares[key] = (lines + 1, total, cost)

    def _cost(self, usage: Usage, price: Price | None) -> int:
        if price is None:
            self.unpriced += 1
            return 0
        return cost(usage, price)


class TwinCollector(Generic[T]):
    """Reads the twins of a run's batches."""

    def __init__(
        self,
        store: Store,
        gateway: Gateway,
        *,
        builder: RequestBuilder[T],
        validator: Validator[T],
        escalator: Escalator,
        pricing: Pricing,
    ) -> None:
        """Prepare."""
        self._store = store
        self._gateway = gateway
        self._builder = builder
        self._validator = validator
        self._escalator = escalator
        self._pricing = pricing
        self._next: dict[BatchId, float] = {}

    def collect(
        self, lease: Lease, run: Run, *, stop: Callable[[], bool] | None = None
    ) -> tuple[bool, float | None]:
        """Read the twins that are not read yet; give whether one was booked, and when to look again.

        A twin is read when none of its rows is out in another batch: then those that came back without an
        answer take theirs, and nothing is paid for a third time.

        Raises:
            ProviderError: the API refuses the credential (401, 402, 403).
            LeaseLost: another process moves the run now.
        """
        booked = False
        wakes: list[float] = []
        for batch in self._store.batches(BatchWhere(run=run.id)):
            if batch.state in UNRESOLVED:
                continue
            for twin in unread(batch):
                now = self._store.now()
                due = self._next.get(batch.id, now)
                if to_come(due, now):
                    wakes.append(due)
                    continue
                if stop is not None and stop():
                    return booked, now
                wait = self._read(lease, run, self._again(batch.id), twin, stop)
                booked = booked or wait is None
                if wait is not None:
                    self._next[batch.id] = wait
                    wakes.append(wait)
        return booked, min(wakes, default=None)

    def _again(self, batch: BatchId) -> Batch:
        return self._store.batches(BatchWhere(ids=(batch,)))[0]

    def _read(
        self, lease: Lease, run: Run, batch: Batch, twin: Twin, stop: Callable[[], bool] | None
    ) -> float | None:
        """Read one twin; give when to try again, None once it is booked or given up."""
        now = self._store.now()
        loaded = self._members(run, batch, twin)
        if loaded is None:
            return now + MINUTE
        manifest, standing = loaded
        reading = TwinReading(
            self._store,
            lease,
            batch,
            manifest,
            standing,
            twin,
            validator=self._validator,
            escalator=self._escalator,
            pricing=self._pricing,
        )
        try:
            found = self._gateway.retrieve(twin.remote_id)
            with self._gateway.results(twin.remote_id) as chunks:
                if not reading.read(chunks, stop):
                    return now
        except ProviderError as error:
            if error.status in {401, 402, 403}:
                raise
            reading.flush()
            if error.status in {404, 410}:
                date = server_time(self._gateway)
                if (now if date is None else date) - twin.found_at >= KEPT_FOR:
                    return self._gone(lease, batch, twin)
            return now + min(error.retry_after or MINUTE * 5, LONGEST)
        reading.settle_parked()
        counts = dict(found.counts) if found is not None and found.ended else None
        wrong = differences(reading, counts, batch.count)
        if wrong:
            return self._differs(lease, batch, reading, twin, wrong)
        book(self._store, lease, self._again(batch.id), reading.told(read_at=now))
        return None

    def _members(self, run: Run, batch: Batch, twin: Twin) -> tuple[Manifest, _Standing] | None:
        """Give the members with where they stand, or None while one of them is out."""
        members = self._store.members(batch.id).rows
        index: dict[CustomId, int] = {}
        standings: list[Standing] = []
        rows: list[RowId] = []
        waiting, canceled = bytearray(len(members)), bytearray(len(members))
        results: dict[ResultId, int] = {}
        for start in range(0, len(members), READ):
            for row in self._store.rows([RowId(m) for m in members[start : start + READ]]):
                number = len(rows)
                if row.state is RowState.SUBMITTED:
                    return None
                waiting[number] = row.state is RowState.PENDING
                canceled[number] = row.state is RowState.CANCELED
                if row.state is RowState.SUCCEEDED and row.result is not None:
                    results[row.result] = number
                index[self._builder.custom_id(row.key, batch.nonce)] = number
                standings.append((row.tier, row.tries, row.resends, row.reason))
                rows.append(row.id)
        taken = bytearray(len(members))
        for number in self._taken(run, batch, twin, results):
            taken[number] = 1
        manifest = Manifest(index=index, rows=rows, standings=standings, open=waiting)
        return manifest, _Standing(canceled, taken)

    def _taken(self, run: Run, batch: Batch, twin: Twin, results: Mapping[ResultId, int]) -> list[int]:
        """Give the members that an earlier, broken reading of this twin settled."""
        if batch.lines == 0:
            return []
        found: list[int] = []
        left = sorted(results)
        at = 0
        while at < len(left):
            page = self._store.results(run.id, after=ResultId(left[at] - 1), limit=READ)
            for result in page:
                mine = result.event is RowEvent.TWIN_ACCEPTED and result.detail == twin.remote_id
                if mine and result.batch == batch.id and result.id in results:
                    found.append(results[result.id])
            last = page[-1].id if page else left[-1]
            at = bisect_right(left, last)
        return found

    def _differs(
        self, lease: Lease, batch: Batch, reading: TwinReading[T], twin: Twin, wrong: Mapping[str, object]
    ) -> float | None:
        """Count a complete reading that did not agree; the third is a person's, or booked as far as it goes."""
        now = self._store.now()
        counted = twin.counted_at is None or not 0 <= now - twin.counted_at < APART
        readings = twin.readings + counted
        at = now if counted else twin.counted_at
        why = ", ".join(f"{name}: {value}" for name, value in wrong.items())
        told = attrs.evolve(reading.told(read_at=None, why=why), readings=readings, counted_at=at)
        batch = self._again(batch.id)
        if readings < READINGS:
            facts = BatchFacts(notes={**batch.notes, "twins": _with(batch, told)})
            self._move(lease, batch, batch.state, facts)
            return now + APART
        if batch.state is not BatchState.LATE:
            book(self._store, lease, batch, attrs.evolve(told, read_at=now))
            return None
        need = Need(
            who="person",
            why=f"batch {batch.id} ({batch.count:,} rows) turned up late, and three complete readings do not agree "
            f"with what was sent ({why}). No row was sent again",
            fix=decision_fix(batch.id, "look-again", "accept-missing", "give-up"),
            code="batch.inconsistent",
        )
        event = NewEvent(
            kind="run.needs_person", severity="page", data={"batch": batch.id, "code": need.code}
        )
        notes = {**batch.notes, "twins": _with(batch, told)}
        self._move(lease, batch, BatchState.HELD, BatchFacts(need=need, notes=notes, events=(event,)))
        return None

    def _gone(self, lease: Lease, batch: Batch, twin: Twin) -> float | None:
        """Its file can be read no more: what it cost is not known here."""
        now = self._store.now()
        event = NewEvent(
            kind="batch.unrecoverable", severity="page", data={"batch": batch.id, "rows": batch.count}
        )
        if batch.state is BatchState.LATE and twin.remote_id == batch.remote_id:
            self._move(lease, batch, BatchState.UNRECOVERABLE, BatchFacts(reserved=0, events=(event,)))
        else:
            gone = attrs.evolve(twin, read_at=now, why="gone")
            facts = BatchFacts(notes={**batch.notes, "twins": _with(batch, gone)}, events=(event,))
            self._move(lease, batch, batch.state, facts)
        return None

    def _move(self, lease: Lease, batch: Batch, to: BatchState, facts: BatchFacts) -> Batch:
        return self._store.move_batch(lease, batch.id, expect=batch.state, to=to, facts=facts)


def book(store: Store, lease: Lease, batch: Batch, twin: Twin) -> Batch:
    """Book a twin: what no row could use is added to what the batch spent; a late batch is collected."""
    own = batch.state in {BatchState.LATE, BatchState.HELD} and twin.remote_id == batch.remote_id
    event = NewEvent(
        kind="batch.twin_booked",
        severity="warn",
        data={"batch": batch.id, "lines": twin.lines, "used": twin.applied, "cost_nano_usd": twin.cost},
    )
    facts = BatchFacts(
        booked=twin.cost,
        reserved=0 if own else None,
        notes={**batch.notes, "twins": _with(batch, twin)},
        events=(event,),
    )
    to = BatchState.COLLECTED if own else batch.state
    return store.move_batch(lease, batch.id, expect=batch.state, to=to, facts=facts)


def _with(batch: Batch, twin: Twin) -> list[dict[str, object]]:
    """Give the batch's twins as JSON, this one in its place."""
    return set_aside([twin if other.remote_id == twin.remote_id else other for other in twins_of(batch)])

"""Rows to remote batches: at most one paid batch in effect for every row.

One `send` plans a batch, records the intent, claims it, and makes one POST whose body stops itself when
the lease, the deadline or the caller says so. Whatever the answer, the batch's record is moved to what it
proves: live, rejected, or doubtful. A doubtful batch blocks its rows until `resolve` knows.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Generic, TypeVar

import attrs

from batchkit.api import Client, Gateway
from batchkit.body import GuardedBody
from batchkit.builder import RequestBuilder
from batchkit.chance import Chance, SystemChance
from batchkit.clock import Clock, SystemClock
from batchkit.copies import Copies
from batchkit.doubt import GRACE, Cause
from batchkit.errors import (
    LeaseLost,
    NeedsPerson,
    OverBudget,
    ProviderError,
    StoreError,
    Unresolved,
    UsageError,
)
from batchkit.freezing import Freezing, frozen
from batchkit.ids import Nonce, RowId
from batchkit.lease import held, new_owner
from batchkit.listing import PAGE as LIST_PAGE
from batchkit.model import (
    Batch,
    BatchFacts,
    BatchWhere,
    Head,
    Intent,
    Lease,
    Place,
    Run,
)
from batchkit.modelcheck import OVERRULED, ModelCheck
from batchkit.planner import Limits, Plan, plan
from batchkit.prices import Price
from batchkit.recording import WAITING, Recorder, Sent, refuse_rows, unlisted
from batchkit.refusals import Refusals, budget_need, workspace_need
from batchkit.remote import CreateAnswer, ListPage
from batchkit.resolver import Resolver, open_doubt
from batchkit.sendguard import SendGuard
from batchkit.sizing import Requests
from batchkit.source import records
from batchkit.spec import Spec
from batchkit.states import UNRESOLVED, BatchState, RowState
from batchkit.storage import Store
from batchkit.watcher import Watcher

__all__ = ["ChunkedSubmitter", "Sent"]

T = TypeVar("T")

MINUTE = 60.0
TWO_DAYS = 172_800.0


class ChunkedSubmitter(Generic[T]):
    """Sends the pending rows of a run in batches."""

    def __init__(
        self,
        store: Store,
        client: Client | Gateway = None,
        *,
        builder: RequestBuilder[T],
        max_rows: int = 40_000,
        max_bytes: int = 240_000_000,
        max_in_queue: int = 200_000,
        grace: float = GRACE,
        cheap_grace: float | None = None,
        send_deadline: float = 600.0,
        prices: Mapping[str, Price] | None = None,
        workspace: str | None = None,
        clock: Clock | None = None,
        rng: Chance | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Prepare to send.

        Args:
            store: Where runs, rows and batches are.
            client: A client of the SDK or a `Gateway`; None makes a client from the environment.
            builder: Makes the requests.
            max_rows: Most rows of one batch.
            max_bytes: Most bytes of one batch's body.
            max_in_queue: Most requests of this store that may wait at the provider.
            grace: Seconds of server time without a sign of a doubtful batch after which it counts as
                absent; infinite leaves that to a person.
            cheap_grace: The same for batches that cannot cost more than 5 cents, for who would rather pay
                those twice than wait: 0 leaves the three readings that it always takes. None: as for all others.
            send_deadline: Seconds a batch may take from its intent to its last byte.
            prices: Prices that override the built-in table.
            workspace: The workspace to send to; a credential of another one is refused.
            clock: Steady time for deadlines.
            rng: Draws batch sizes.
            entropy: Gives random bytes for nonces.
        """
        self._store = store
        self._clock: Clock = clock or SystemClock()
        self._gateway = client if isinstance(client, Gateway) else Gateway(client, clock=self._clock)
        self._limits = Limits(max_rows=max_rows, max_bytes=max_bytes)
        self._max_in_queue = max_in_queue
        self._send_deadline = send_deadline
        self._workspace = workspace
        self._rng: Chance = rng or SystemChance()
        self._entropy = entropy
        self._watcher = Watcher(store, self._gateway)
        self._resolver = Resolver(store, self._gateway, self._watcher, grace=grace, cheap_grace=cheap_grace)
        self._builder = builder
        self._copies = Copies(store, builder)
        self._models = ModelCheck(builder.spec.tiers)
        self._recorder = Recorder(store)
        self._requests = Requests(store, builder, prices or {})

    # ---------------------------------------------------------------- send

    def send(
        self,
        lease: Lease,
        run: Run,
        *,
        cap: int | None = None,
        stop: Callable[[], bool] | None = None,
        max_rows: int | None = None,
        pending: int | None = None,
        after: RowId | None = None,
    ) -> Sent:
        """Send at most one batch of the run's pending rows, once.

        Args:
            lease: The right to move the run.
            run: The run.
            cap: The store's cap in nano-dollars; None: no cap.
            stop: Asked before every chunk; True stops the body before its last one.
            max_rows: Most rows of this batch, where that is less than the usual limit.
            pending: How many rows are pending, where that is known: to count them is a scan of the run.
            after: The last row of the send before this one, where nothing else changed since: rows are looked for
                from there, not from the first of the run.

        Raises:
            LeaseLost: another process moves the run now; nothing was created unless the batch says so.
            StoreError: the store failed.
        """
        if pending is None:
            pending = self._store.tally(run.id).in_state(RowState.PENDING)
        if pending == 0:
            return Sent()
        batches = self._store.batches(BatchWhere())
        history = Refusals(batches=[b for b in batches if b.run == run.id], now=self._store.now())
        if (until := history.wait_until) is not None:
            return Sent(wait_until=until, why=history.why)
        room = min(self._max_in_queue, history.queue_limit) - sum(
            b.count for b in batches if b.state in WAITING
        )
        limits = attrs.evolve(self._limits, learned_bytes=history.learned_bytes)
        if max_rows is not None:
            limits = attrs.evolve(limits, max_rows=min(limits.max_rows, max_rows))
        if room < min(pending, limits.max_rows):
            # A sliver of a batch now would cost a whole batch's wait later.
            if any(b.state in WAITING for b in batches) or room < 1:
                return Sent(why="as many requests wait at the provider as may")
            limits = attrs.evolve(limits, max_rows=min(limits.max_rows, room))
        gateway = self._gateway.snapshot()
        try:
            page = gateway.list(LIST_PAGE)
        except ProviderError as error:
            if error.status not in {404, 405}:
                return unlisted(error, self._store.now())
            page = ListPage(items=(), has_more=False, place=Place(base_url=gateway.base_url), date=None)
        if self._workspace is not None and page.place.workspace not in {"", self._workspace}:
            return Sent(need=workspace_need(page.place.workspace, self._workspace))
        if blocker := next((b for b in batches if _unresolved(b) and b.place == page.place), None):
            until = self._store.now() + MINUTE
            return Sent(wait_until=until, why=f"batch {blocker.id} is {blocker.state.value}")
        try:
            need = self._copies.look(gateway, run, page, batches)
        except ProviderError as error:
            return unlisted(error, self._store.now())
        if need is None and not run.options.get(OVERRULED):
            need = self._models.look(gateway)
        if need is not None:
            return Sent(need=need)
        self._watcher.notice(lease, run, page.place, page.items, batches)
        deferred = self._watcher.deferred(run)
        if deferred:
            rows = self._store.rows(sorted(deferred))
            pending -= sum(row.state is RowState.PENDING for row in rows)
            if pending == 0:
                why = "an answer that is paid for may be on its way to the rows that are left"
                return Sent(wait_until=self._store.now() + MINUTE, why=why)
        return self._plan_and_send(lease, run, gateway, page, pending, after, deferred, limits, cap, stop)

    def _plan_and_send(
        self,
        lease: Lease,
        run: Run,
        gateway: Gateway,
        page: ListPage,
        pending: int,
        after: RowId | None,
        deferred: AbstractSet[RowId],
        limits: Limits,
        cap: int | None,
        stop: Callable[[], bool] | None,
    ) -> Sent:
        sized = self._requests.sized(run.id, capped=cap is not None, after=after)
        chosen = plan(
            (page.without(deferred) for page in sized) if deferred else sized,
            pending,
            limits,
            self._taken(page),
            self._rng.randint,
        )
        if chosen.too_large:
            refuse_rows(
                self._store,
                lease,
                chosen.too_large,
                "the request for this row alone exceeds the largest batch",
            )
        quarantined = len(chosen.too_large)
        if not chosen.rows:
            # Where no row was refused either, another mover took them since they were counted: look again.
            return Sent(quarantined=quarantined, wait_until=None if quarantined else self._store.now())
        try:
            batch = self._intend(lease, chosen, page, cap)
        except OverBudget as error:
            return attrs.evolve(self._over_budget(error), quarantined=quarantined)
        except Unresolved:
            until = self._store.now() + MINUTE
            return Sent(
                wait_until=until, why="another batch of this place is not settled", quarantined=quarantined
            )
        sent = self._claim_and_post(lease, gateway, batch, stop)
        return attrs.evolve(sent, quarantined=quarantined, last=chosen.rows[-1] if sent.rows else None)

    def _intend(self, lease: Lease, chosen: Plan, page: ListPage, cap: int | None) -> Batch:
        newest = max(page.items, key=lambda item: item.created_at, default=None)
        intent = Intent(
            nonce=self._nonce(),
            size=chosen.size,
            place=page.place,
            head=None if newest is None else Head(remote_id=newest.id, created_at=newest.created_at),
            reserve=chosen.cost,
            cap=cap,
            deadline=self._store.now() + self._send_deadline,
        )
        return self._store.intend(lease, intent, chosen.rows)

    def _claim_and_post(
        self, lease: Lease, gateway: Gateway, batch: Batch, stop: Callable[[], bool] | None
    ) -> Sent:
        claim = self._entropy(8).hex()
        guard = SendGuard(
            self._store,
            self._clock,
            lease,
            batch,
            until=self._clock.monotonic() + self._send_deadline,
            stop=stop,
        )
        body = GuardedBody(
            lambda: self._requests.encoded(batch), batch.size, check=guard.check, fence=guard.fence
        )
        answer: CreateAnswer | None = None
        try:
            claimed = self._store.move_batch(
                lease,
                batch.id,
                expect=BatchState.INTENT,
                to=BatchState.SENDING,
                facts=BatchFacts(claim=claim, sent_at=self._store.now()),
            )
            answer = gateway.create(body)
            return self._recorder.record(lease, claimed, answer, stopped=guard.stopped)
        except BaseException:
            # Ctrl-C, a fault of ours in mid-body, or an answer that could not be written down: what is known stands.
            known = answer or CreateAnswer(handed_over=body.handed_over, causes=("interrupted",))
            with suppress(StoreError):
                self._recorder.record_left(lease, batch.id, claim, known)
            raise

    def submit(self, name: str, rows: object, *, cap: int | None = None) -> Sequence[Batch]:
        """Freeze rows under a name, send all that may be sent now, and give the batches of that name.

        For use without a workflow: call it again later, with the same rows, and what is left goes out. Rows that
        came back to be asked again are among them.

        Args:
            name: The run's name in the store.
            rows: Anything `batchkit.source.records` reads.
            cap: The store's cap in nano-dollars.

        Raises:
            SpecChanged: the name was started under another spec.
            RowsChanged: the rows are not those frozen under this name; nothing was sent.
            UsageError: the rows cannot be read.
            NeedsPerson: the API or the cap wants somebody's decision; nothing is lost.
            StoreError: another process moves the run now.
        """
        spec = self._builder.spec
        if not isinstance(spec, Spec):
            raise UsageError("rows are frozen by a Spec's contract; this builder has only a stored spec")
        freezing = Freezing(
            store=self._store,
            spec=spec,
            builder=self._builder,
            clock=self._clock,
            options={},
            go_on="submit({name!r}, the rows it was started with)",
        )
        run = frozen(freezing, name, records(rows))
        with held(self._store, run.id, new_owner("submit")) as lease:
            if lease is None:
                raise LeaseLost(f"{name!r} is moved by another process now; try again in a minute")
            self.recover(lease, run)
            self.resolve(lease, run)
            sent = self.send(lease, run, cap=cap)
            while sent.batch is not None and sent.need is None:
                sent = self.send(lease, run, cap=cap, after=sent.last)
            if sent.need is not None:
                raise NeedsPerson(f"{sent.need.why}. {sent.need.fix}")
        return self._store.batches(BatchWhere(run=run.id))

    # ---------------------------------------------------------------- after a death, and in doubt

    def recover(self, lease: Lease, run: Run) -> float | None:
        """Settle what an earlier mover of this run left behind; give when to look again.

        An intent that nobody claimed is withdrawn: its claimer would have needed the lease that we hold. A
        batch in SENDING may or may not exist, so it becomes doubtful.
        """
        left = frozenset({BatchState.INTENT, BatchState.SENDING})
        wait_until: float | None = None
        for batch in self._store.batches(BatchWhere(run=run.id, states=left)):
            if batch.state is BatchState.INTENT:
                refused = {
                    "cause": Cause.UNSENT.value,
                    "at": self._store.now(),
                    "message": "withdrawn unclaimed",
                }
                self._store.move_batch(
                    lease,
                    batch.id,
                    expect=BatchState.INTENT,
                    to=BatchState.REJECTED,
                    facts=BatchFacts(reserved=0, notes={"refused": refused}),
                    free=True,
                )
            else:
                open_doubt(self._store, lease, batch, "its sender ended before the answer was recorded")
                wait_until = self._store.now()
        return wait_until

    def resolve(self, lease: Lease, run: Run) -> float | None:
        """Take one reading for the run's doubtful batch, if it has one; give when to take the next.

        Raises:
            LeaseLost: another process moves the run now.
        """
        return self._resolver.resolve(lease, run)

    # ---------------------------------------------------------------- small decisions

    def _taken(self, page: ListPage) -> set[int]:
        since = (page.date if page.date is not None else self._store.now()) - TWO_DAYS
        seen = {item.total for item in page.items if item.created_at >= since}
        return seen | {b.count for b in self._store.batches(BatchWhere(states=WAITING))}

    def _nonce(self) -> Nonce:
        return Nonce(base64.b32encode(self._entropy(5)).decode("ascii").lower())

    def _over_budget(self, error: OverBudget) -> Sent:
        running = frozenset({BatchState.LIVE, BatchState.ENDED})
        freeing = sum(b.reserved for b in self._store.batches(BatchWhere(states=running)))
        if freeing and error.wanted <= error.cap - error.spent:
            return Sent(why="the next batch fits once running ones are collected")
        return Sent(need=budget_need(error))


def _unresolved(batch: Batch) -> bool:
    return batch.state in UNRESOLVED or batch.held_from is BatchState.DOUBTFUL

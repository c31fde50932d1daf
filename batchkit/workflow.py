"""The whole job over one spec and one store: the order of things, nothing else."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from batchkit.api import Gateway
from batchkit.builder import RequestBuilder
from batchkit.canary import ABOVE
from batchkit.clock import Clock, SystemClock
from batchkit.collector import ResultCollector
from batchkit.errors import UsageError
from batchkit.escalator import Escalator
from batchkit.events import Teller
from batchkit.ids import Digest, RunId
from batchkit.lease import new_owner
from batchkit.model import Event, OnDuplicate
from batchkit.model import Run as RunRecord
from batchkit.money import Budget, Price
from batchkit.mover import Parts
from batchkit.progress import Progress
from batchkit.repeats import check_on_duplicate
from batchkit.rows import Rows
from batchkit.spec import Spec
from batchkit.specs import recall_spec, record_spec
from batchkit.spending import record_budget
from batchkit.standing import find_run
from batchkit.start import Slice, Starter, check_plain_name
from batchkit.states import RunState
from batchkit.storage import Store
from batchkit.storage.opening import open_store
from batchkit.submitter import ChunkedSubmitter
from batchkit.units import Hands
from batchkit.validator import Validator
from batchkit.view import address_of
from batchkit.working import advance_each, due_runs, judged_runs, work

if TYPE_CHECKING:
    import anthropic

    from batchkit.forecast import Forecast
    from batchkit.pilot import Pilot, Sampler
    from batchkit.preview import Preview
    from batchkit.run import Run

T = TypeVar("T", default=Any)


class Workflow(Generic[T]):
    """One spec, one store, one client: makes runs, moves them, and hands out their parts."""

    def __init__(
        self,
        spec: Spec[T],
        *,
        store: str | os.PathLike[str] | Store,
        client: anthropic.Anthropic | None = None,
        budget: Budget | None = None,
        prices: Mapping[str, Price] | None = None,
        on_event: Callable[[Event], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        max_batch_rows: int = 40_000,
        max_batch_bytes: int = 240_000_000,
        max_in_queue: int = 200_000,
        doubt_grace: float = 30 * 60,
        workspace: str | None = None,
        executor: Executor | None = None,
        app: str = "",
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Put the parts together. Nothing is sent, and no key is needed, before a run moves.

        Args:
            spec: what is asked and how answers are judged.
            store: a path (made on first use), a URL or a store.
            client: an ``anthropic.Anthropic``; None makes one from the environment when it is first needed.
            budget: the cap in US dollars over everything in this store, pilots and slices included.
            prices: prices that replace or extend the shipped table, by model.
            on_event: called after the commit that an event reports, at least once per event.
            on_progress: called with the progress after every pass of :meth:`Run.wait` and of :meth:`work`.
            max_batch_rows: rows per batch, at most 100,000 (the API's limit).
            max_batch_bytes: bytes per batch, at most 256 MB (the API's limit).
            max_in_queue: requests that may wait remotely at one time.
            doubt_grace: seconds of the server's time, every reading clean, before a batch whose create was
                never answered counts as absent. ``math.inf`` always leaves that to a person.
            workspace: the provider's workspace id, where answers do not carry it.
            executor: reads result files in other processes, four at a time; None reads them here.
            app: where the executor's workers find this workflow, ``module:name``; they make it for themselves.
            clock: time and sleep; the client's own where it brings one (simulators do).
            rng: randomness for batch sizes, nonces and jitter.

        Raises:
            UsageError: a limit beyond the API's, no spec, or an executor whose workers would not find the workflow.
        """
        if not 1 <= max_batch_rows <= 100_000:
            raise UsageError(f"max_batch_rows={max_batch_rows}: the API takes 1 to 100,000 in a batch")
        if not 1 <= max_batch_bytes <= 256_000_000:
            raise UsageError(f"max_batch_bytes={max_batch_bytes}: the API takes at most 256 MB in a batch")
        own = getattr(client, "batchkit_clock", None)
        self.spec = spec
        self.clock: Clock = clock or own or SystemClock()
        self.store: Store = open_store(store, clock=self.clock)
        self.where: str = address_of(store)
        self.on_progress = on_progress
        self.teller: Teller | None = None if on_event is None else Teller(self.store, on_event)
        self._hands = None if executor is None else Hands(executor, app)
        self._client = client
        self._budget = budget
        self._prices = dict(prices or {})
        self._rng = rng or random.Random()
        self._limits: dict[str, Any] = {
            "max_rows": max_batch_rows,
            "max_bytes": max_batch_bytes,
            "max_in_queue": max_in_queue,
            "grace": doubt_grace,
            "workspace": workspace,
        }
        self._gateway: Gateway | None = None
        self._parts: dict[Digest, Parts[T]] = {}
        self._left_alone: set[RunId] = set()

    @property
    def gateway(self) -> Gateway:
        """Give the way to the API; makes a client from the environment where none was given."""
        if self._gateway is None:
            self._gateway = Gateway(self._client, clock=self.clock)
        return self._gateway

    @property
    def schema(self) -> Mapping[str, Any]:
        """Give the wire schema stored with the spec; stores the spec first where it is new."""
        return record_spec(self.store, self.spec)

    @property
    def builder(self) -> RequestBuilder[T]:
        """Give the RequestBuilder of this spec."""
        return RequestBuilder(self.spec, schema=self.schema)

    @property
    def validator(self) -> Validator[T]:
        """Give the Validator of this spec."""
        return Validator(self.spec)

    @property
    def escalator(self) -> Escalator:
        """Give the Escalator of this spec."""
        return Escalator(self.spec)

    def parts(self, spec: Spec[T] | None = None) -> Parts[T]:
        """Give everything a mover needs to move a run under ``spec``."""
        chosen = spec or self.spec
        held = self._parts.get(chosen.fingerprint)
        if held is not None:
            return held
        builder = RequestBuilder(chosen, schema=record_spec(self.store, chosen))
        submitter = ChunkedSubmitter(
            self.store,
            self.gateway,
            builder=builder,
            prices=self._prices,
            clock=self.clock,
            rng=self._rng,
            **self._limits,
        )
        collector = ResultCollector(
            self.store,
            self.gateway,
            validator=Validator(chosen),
            escalator=Escalator(chosen),
            builder=builder,
            prices=self._prices,
            clock=self.clock,
            rng=self._rng,
        )
        parts = Parts(
            spec=chosen,
            store=self.store,
            submitter=submitter,
            collector=collector,
            clock=self.clock,
            owner=partial(new_owner, "mover"),
            warn_at=self._budget.warn_at if self._budget is not None else (),
            where=self.where,
            hands=self._hands,
        )
        # Kept, because a collector remembers when it asked after which batch.
        self._parts[chosen.fingerprint] = parts
        return parts

    def start(
        self,
        name: str,
        rows: object,
        *,
        incremental: bool = False,
        on_duplicate: OnDuplicate = "refuse",
        max_rows: int | None = None,
        canary: int = 1_000,
        canary_above: int = ABOVE,
        unlocked: bool = False,
    ) -> Run[T]:
        """Freeze the rows under a name and check everything. Spends nothing. Safe to call again.

        Called again for a run that is frozen already, it gives that run; the rows are then compared with
        the frozen ones (not with ``incremental``, where an unfinished run of the series goes on as it is).

        Args:
            name: the run's name; with ``incremental`` the name of a series, whose runs are ``name#1``, ``name#2`` …
            rows: a path, an iterable of mappings, a cursor, a frame, or a callable that gives any of these.
            incremental: records whose content and spec equal what was last staged under this name are
                counted as unchanged and not sent.
            on_duplicate: what to do where records of different content share a key.
            max_rows: refuse a source with more records than this.
            canary: most rows of the first batch of a large run; it must do about as well as the pilot before
                anything else is sent. 0 switches it off.
            canary_above: source records above which a run is large.
            unlocked: go on although nobody accepted the spec; the receipt says so.

        Raises:
            NotLocked: nobody accepted this spec.
            SpecChanged: the run was started under another spec.
            RowsChanged: the run was started with other rows.
            DuplicateKeys, KeyTypeError, MissingField, UsageError: the rows cannot be used as they are.
        """
        check_on_duplicate(on_duplicate)
        starter = self._starter(self.spec)
        known = None if incremental else self.store.runs(name=name)
        if known:
            starter.check_spec(known[0])
        starter.check_lock(unlocked=unlocked)
        options = {
            "canary": canary,
            "canary_above": canary_above,
            "unlocked": unlocked,
            "on_duplicate": on_duplicate,
        }
        if incremental:
            record = starter.start_series(name, rows, options=options, max_rows=max_rows)
        else:
            check_plain_name(name)
            record = starter.start(name, rows, options=options, max_rows=max_rows)
        return self._handle(record, self.spec)

    def run(self, name: str, rows: object, *, timeout: float | None = None, **options: Any) -> Run[T]:
        """Start and wait: :meth:`start`, then :meth:`Run.wait`."""
        started = self.start(name, rows, **options)
        started.wait(timeout)
        return started

    def resume(self, name: str) -> Run[T]:
        """Give a run of this store to be moved on, under the spec it was started with. Needs no rows.

        Raises:
            UsageError: there is no such run, or it was never frozen to its end.
            SpecChanged: the stored spec cannot be judged by this code's contract.
        """
        record = find_run(self.store, name)
        if record.state is RunState.FREEZING:
            raise UsageError(
                f"{record.name!r} was never frozen to its end, and nothing of it was sent: start it again with its rows, "
                f"flow.start({record.options.get('series', record.name)!r}, rows, ...)"
            )
        return self._handle(record, recall_spec(self.store, record.spec, self.spec))

    def with_spec(self, spec: Spec[T]) -> Workflow[T]:
        """Give the same workflow over another spec; this one keeps its own."""
        other: Workflow[T] = object.__new__(Workflow)
        other.__dict__.update(self.__dict__)
        other.spec = spec
        return other

    def open_runs(self) -> list[Run[T]]:
        """Give every run of the store that has something left to do and that this code can judge.

        A closed run is among them while people's answers to it are not settled, and once it is time to look
        whether a second copy of one of its batches turned up. Of a run that it cannot judge the log says so, once.
        """
        return self._movable(due_runs(self.store)[0])

    def advance_all(self) -> list[Progress]:
        """Make one pass over every open run. Where one raises, the others are moved before that is raised."""
        return advance_each(self.open_runs())

    def work(self, *, stop: Callable[[], bool] | None = None, idle: float = 60.0) -> None:
        """Move every open run until told to stop. SIGTERM finishes the pass in hand and leaves.

        Runs that others hold are left to them, but for result files that they offer: a worker with nothing else to
        do reads some of those.

        Args:
            stop: asked between passes, and once a second within one; true ends the work.
            idle: seconds to sleep at most while there is nothing to do.
        """
        work(self, self._movable, stop=stop, idle=idle)

    def preview(self, rows: object, *, tier: int = 0) -> Preview:
        """Give the exact request of the first row that would be sent, its tokens and worst cost. Sends nothing.

        Args:
            rows: as for :meth:`start`; only their beginning is read.
            tier: which tier's request, counted from 0.
        """
        from batchkit.preview import preview

        return preview(self.spec, rows, tier=tier, schema=self.schema, prices=self._prices)

    def forecast(self, rows: object, *, on_duplicate: OnDuplicate = "refuse") -> Forecast:
        """Estimate cost and time of a run over these rows: expected and worst case. Sends nothing.

        Args:
            rows: as for :meth:`start`.
            on_duplicate: as for :meth:`start`; where that would refuse the rows, a warning says so.
        """
        from batchkit.forecast import Scale, forecast

        scale = Scale(**{name: self._limits[name] for name in ("max_rows", "max_bytes", "max_in_queue")})
        return forecast(
            self.spec, rows, builder=self.builder, prices=self._prices, scale=scale, on_duplicate=on_duplicate
        )

    def pilot(
        self,
        rows: object | None = None,
        *,
        name: str = "pilot",
        size: int = 100,
        keys: Iterable[str] = (),
        sampler: Sampler | None = None,
    ) -> Pilot[T]:
        """Give the pilot of this name: hard rows, run as a small batch, read by a person, then locked.

        Args:
            rows: the catalog to sample from; None for a pilot that exists, or one graded on its eval set.
            name: the pilot's name; the same store and name give the same pilot.
            size: how many rows to sample.
            keys: rows that must be in it, by key.
            sampler: how rows are picked; hard rows by default.
        """
        from batchkit.pilot import Pilot

        return Pilot.of(self, rows, name=name, size=size, keys=tuple(keys), sampler=sampler)

    def rerun(
        self,
        rows: Rows[T],
        name: str,
        *,
        spec: Spec[T] | None = None,
        source: object | None = None,
        unlocked: bool,
    ) -> Run[T]:
        """Start a child run over some rows of a run; :meth:`Rows.rerun` is the public way."""
        parent = next(run for run in self.store.runs() if run.id == rows.run_id)
        # A plain retry goes out as its parent did, also where this code's spec has moved on since.
        chosen = spec if spec is not None else recall_spec(self.store, parent.spec, self.spec)
        starter = self._starter(chosen)
        starter.check_lock(unlocked=unlocked)
        check_plain_name(name)
        options = {"canary": 0, "unlocked": unlocked, "on_duplicate": "refuse", "slice_of": parent.name}
        record = starter.start(name, Slice(rows, chosen, source), options=options, parent=parent)
        return self._handle(record, chosen)

    def start_unlocked(
        self, name: str, rows: object, *, spec: Spec[T], options: Mapping[str, object]
    ) -> Run[T]:
        """Start a run that needs no lock because it is what a lock is made from: a version of a pilot."""
        return self._handle(self._starter(spec).start(name, rows, options=options), spec)

    def _starter(self, spec: Spec[T]) -> Starter[T]:
        return Starter(store=self.store, spec=spec, clock=self.clock)

    def _movable(self, runs: Sequence[RunRecord]) -> list[Run[T]]:
        judged = judged_runs(self.store, runs, self.spec, self._left_alone)
        return [self._handle(record, spec) for record, spec in judged]

    def _handle(self, record: RunRecord, spec: Spec[T]) -> Run[T]:
        from batchkit.run import Run

        if self._budget is not None:
            record_budget(self.store, self._budget)
        return Run(self, record, spec=spec)

    def __repr__(self) -> str:
        """Say which spec and which store."""
        return f"<Workflow spec {self.spec.fingerprint[:6]} on {self.where or type(self.store).__name__}>"


__all__ = ["Workflow"]

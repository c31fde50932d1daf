"""The whole job over one spec and one store: the order of things, nothing else."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from batchkit.api import Gateway
from batchkit.builder import RequestBuilder
from batchkit.clock import Clock, SystemClock
from batchkit.collector import ResultCollector
from batchkit.errors import NotLocked, SpecChanged, UsageError
from batchkit.escalator import Escalator
from batchkit.ids import Digest
from batchkit.model import DocKind, Event, NewRun, OnDuplicate
from batchkit.model import Run as RunRecord
from batchkit.money import Budget, Price
from batchkit.mover import Mover, Parts
from batchkit.progress import Progress
from batchkit.rows import Rows
from batchkit.source import records
from batchkit.spec import Spec
from batchkit.specs import recall_spec, record_spec
from batchkit.standing import Cap, find_run, read_cap, series, write_cap
from batchkit.start import Freezing, described, freeze, slice_records, verify_rows
from batchkit.states import RunState
from batchkit.storage import Store
from batchkit.storage.opening import open_store
from batchkit.storage.owner import this_process
from batchkit.submitter import ChunkedSubmitter
from batchkit.validator import Validator

if TYPE_CHECKING:
    import anthropic

    from batchkit.forecast import Forecast
    from batchkit.pilot import Pilot, Sampler
    from batchkit.run import Run

T = TypeVar("T", default=Any)

CANARY_ABOVE = 20_000
"""Source records above which the first batch is a canary."""


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
            on_progress: called with the progress after every pass of :meth:`Run.wait`.
            max_batch_rows: rows per batch, at most 100,000 (the API's limit).
            max_batch_bytes: bytes per batch, at most 256 MB (the API's limit).
            max_in_queue: requests that may wait remotely at one time.
            doubt_grace: seconds of the server's time, every reading clean, before a batch whose create was
                never answered counts as absent. ``math.inf`` always leaves that to a person.
            workspace: the provider's workspace id, where answers do not carry it.
            clock: time and sleep; the client's own where it brings one (simulators do).
            rng: randomness for batch sizes, nonces and jitter.

        Raises:
            UsageError: a limit beyond the API's, or no spec.
        """
        if not 1 <= max_batch_rows <= 100_000:
            raise UsageError(
                f"max_batch_rows={max_batch_rows}: the API takes 1 to 100,000 requests in a batch"
            )
        if not 1 <= max_batch_bytes <= 256_000_000:
            raise UsageError(f"max_batch_bytes={max_batch_bytes}: the API takes at most 256 MB in a batch")
        own = getattr(client, "batchkit_clock", None)
        self.spec = spec
        self.clock: Clock = clock or own or SystemClock()
        self.store = open_store(store, clock=self.clock)
        self.on_event = on_event
        self.on_progress = on_progress
        self.owner = this_process()
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

    # ---------------------------------------------------------------- parts

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
            owner=self.owner,
        )
        # Kept, because a collector remembers when it asked after which batch.
        self._parts[chosen.fingerprint] = parts
        return parts

    def mover(self, run: RunRecord) -> Mover[T]:
        """Give what moves one run: under the spec it was started with, whatever this code's spec is now.

        Raises:
            SpecChanged: the stored spec cannot be judged by this code's contract.
        """
        return Mover(run, self.parts(recall_spec(self.store, run.spec, self.spec)))

    # ---------------------------------------------------------------- runs

    def start(
        self,
        name: str,
        rows: object,
        *,
        incremental: bool = False,
        on_duplicate: OnDuplicate = "refuse",
        max_rows: int | None = None,
        canary: int = 1_000,
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
            canary: rows of the first batch of a run of more than 20,000 rows; it must do about as well as the
                pilot before anything else is sent. 0 switches it off.
            unlocked: go on although nobody accepted the spec; the receipt says so.

        Raises:
            NotLocked: nobody accepted this spec.
            SpecChanged: the run was started under another spec.
            RowsChanged: the run was started with other rows.
            DuplicateKeys, KeyTypeError, MissingField, UsageError: the rows cannot be used as they are.
        """
        self._check_lock(self.spec, unlocked)
        options = {"canary": canary, "unlocked": unlocked, "on_duplicate": on_duplicate}
        if incremental:
            return self._start_series(name, rows, options=options, max_rows=max_rows)
        return self._start(name, rows, spec=self.spec, options=options, max_rows=max_rows)

    def run(self, name: str, rows: object, *, timeout: float | None = None, **options: Any) -> Run[T]:
        """Start and wait: :meth:`start`, then :meth:`Run.wait`."""
        started = self.start(name, rows, **options)
        started.wait(timeout)
        return started

    def resume(self, name: str) -> Run[T]:
        """Give a run of this store to be moved on, under the spec it was started with. Needs no rows.

        Raises:
            UsageError: there is no such run.
            SpecChanged: the stored spec cannot be judged by this code's contract.
        """
        record = find_run(self.store, name)
        return self._handle(record, recall_spec(self.store, record.spec, self.spec))

    def with_spec(self, spec: Spec[T]) -> Workflow[T]:
        """Give the same workflow over another spec; this one keeps its own."""
        other: Workflow[T] = object.__new__(Workflow)
        other.__dict__.update(self.__dict__)
        other.spec = spec
        return other

    def open_runs(self) -> list[Run[T]]:
        """Give every run of the store that has something left to do and that this code can judge."""
        open_runs: list[Run[T]] = []
        for record in self.store.runs():
            if record.state in {RunState.OPEN, RunState.PAUSED, RunState.CANCELING}:
                try:
                    open_runs.append(self._handle(record, recall_spec(self.store, record.spec, self.spec)))
                except SpecChanged:
                    continue
        return open_runs

    def advance_all(self) -> list[Progress]:
        """Make one pass over every open run."""
        return [run.advance() for run in self.open_runs()]

    def work(self, *, stop: Callable[[], bool] | None = None, idle: float = 60.0) -> None:
        """Move every open run until told to stop. SIGTERM finishes the pass in hand and leaves.

        Args:
            stop: asked between passes; true ends the work.
            idle: seconds to sleep at most while there is nothing to do.
        """
        from batchkit.working import work

        work(self, stop=stop, idle=idle)

    def forecast(self, rows: object) -> Forecast:
        """Estimate cost and time of a run over these rows: expected and worst case. Sends nothing."""
        from batchkit.forecast import Scale, forecast

        limits = self._limits
        scale = Scale(
            max_rows=limits["max_rows"], max_bytes=limits["max_bytes"], max_in_queue=limits["max_in_queue"]
        )
        return forecast(self.spec, rows, builder=self.builder, prices=self._prices, scale=scale)

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

    # ---------------------------------------------------------------- inside

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
        chosen = spec or self.spec
        self._check_lock(chosen, unlocked)
        parent = next(run for run in self.store.runs() if run.id == rows.run_id)
        options = {"canary": 0, "unlocked": unlocked, "on_duplicate": "refuse", "slice_of": parent.name}
        return self._start(
            name,
            slice_records(rows, chosen, source),
            spec=chosen,
            options=options,
            max_rows=None,
            parent=parent,
        )

    def start_unlocked(
        self, name: str, rows: object, *, spec: Spec[T], options: Mapping[str, object]
    ) -> Run[T]:
        """Start a run that needs no lock because it is what a lock is made from: a version of a pilot."""
        return self._start(name, rows, spec=spec, options=options, max_rows=None)

    def _start(
        self,
        name: str,
        rows: object,
        *,
        spec: Spec[T],
        options: Mapping[str, object],
        max_rows: int | None,
        parent: RunRecord | None = None,
        earlier: RunRecord | None = None,
        verify: bool = True,
    ) -> Run[T]:
        if not name or name != name.strip() or len(name) > 200:
            raise UsageError(f"{name!r} is no run name: 1 to 200 characters, no space at either end")
        self._record_budget()
        builder = RequestBuilder(spec, schema=record_spec(self.store, spec))
        taken = records(rows)
        noted = {**options, "source": described(spec, builder, taken)}
        new = NewRun(name=name, spec=spec.fingerprint, parent=parent.id if parent else None, options=noted)
        record, created = self.store.open_run(new)
        if not created and record.spec != spec.fingerprint:
            raise self._spec_changed(record, spec)
        freezing = Freezing(
            store=self.store,
            spec=spec,
            builder=builder,
            owner=self.owner,
            max_rows=max_rows,
            earlier=earlier,
        )
        if record.state is RunState.FREEZING:
            freeze(freezing, record, taken)
        elif verify:
            verify_rows(freezing, record, taken)
        return self._handle(record, spec)

    def _start_series(
        self, name: str, rows: object, *, options: Mapping[str, object], max_rows: int | None
    ) -> Run[T]:
        members = series(self.store.runs(), name)
        last = members[-1] if members else None
        if last is not None and last.state not in {RunState.CLOSED, RunState.FREEZING}:
            if last.spec != self.spec.fingerprint:
                raise self._spec_changed(last, self.spec)
            return self._handle(last, self.spec)
        comparable = [
            run for run in members if run.state is RunState.CLOSED and run.spec == self.spec.fingerprint
        ]
        number = len(members) + (0 if last is not None and last.state is RunState.FREEZING else 1)
        return self._start(
            f"{name}#{number}",
            rows,
            spec=self.spec,
            options={**options, "series": name},
            max_rows=max_rows,
            earlier=comparable[-1] if comparable else None,
            verify=False,
        )

    def _handle(self, record: RunRecord, spec: Spec[T]) -> Run[T]:
        from batchkit.run import Run

        return Run(self, record.name, spec=spec)

    def _check_lock(self, spec: Spec[T], unlocked: bool) -> None:
        if unlocked or self.store.get(DocKind.LOCK, spec.fingerprint) is not None:
            return
        raise NotLocked(
            f"spec {spec.fingerprint[:6]} was not accepted by anyone. Run a pilot, read it and lock it: "
            "flow.pilot(rows).run(), .review(), .lock(by=...). To go on without: start(..., unlocked=True), "
            "which the receipt will say."
        )

    def _record_budget(self) -> None:
        if self._budget is None:
            return
        caps = [json.loads(body) for _, body in self.store.docs(DocKind.CAP)]
        written = [cap for cap in caps if cap["origin"] == "code"]
        if read_cap(self.store) is None or not written or written[-1]["usd_nano"] != self._budget.nano:
            write_cap(
                self.store,
                Cap(
                    usd_nano=self._budget.nano,
                    origin="code",
                    by="",
                    why="Workflow(budget=)",
                    at=self.store.now(),
                ),
            )

    def _spec_changed(self, record: RunRecord, spec: Spec[T]) -> SpecChanged:
        try:
            difference = str(recall_spec(self.store, record.spec, spec).diff(spec))
        except SpecChanged as error:
            difference = str(error)
        return SpecChanged(
            f"{record.name!r} runs under {record.spec[:6]}, this code has {spec.fingerprint[:6]}. {difference}\n"
            f"  Finish the open run: flow.resume({record.name!r}). "
            "Use the new spec: grade it, flow.pilot().run(spec), then lock it."
        )

    def __repr__(self) -> str:
        """Say which spec and which store."""
        where = self.store if not isinstance(self.store, (str, Path)) else str(self.store)
        return f"<Workflow spec {self.spec.fingerprint[:6]} on {where!r}>"


__all__ = ["CANARY_ABOVE", "Workflow"]

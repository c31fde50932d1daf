"""A run seen without its spec and without a key: attach, look, ask for pause or cancel."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import attrs
from typing_extensions import TypeVar

from batchkit.errors import UsageError
from batchkit.model import DocKind, Event
from batchkit.model import Run as RunRecord
from batchkit.money import Budget
from batchkit.progress import Progress
from batchkit.reasons import Reason
from batchkit.requests import Request, ask
from batchkit.rows import Rerunner, Rows
from batchkit.standing import Cap, find_run, progress_of, read_events, scope_of, write_cap
from batchkit.states import Outcome, RunState
from batchkit.storage import Store
from batchkit.storage.opening import open_store, shown

if TYPE_CHECKING:
    from batchkit.bill import Bill
    from batchkit.deciding import Decision
    from batchkit.people import Review
    from batchkit.reconciler import Reconciliation
    from batchkit.spec import Spec

T = TypeVar("T", default=Any)


FAILURES = frozenset({Outcome.ERRORED, Outcome.EXPIRED, Outcome.QUARANTINED, Outcome.CANCELED})


class RunView(Generic[T]):
    """One run of a store, for reading and for requests that whoever moves the run carries out."""

    def __init__(
        self, store: Store, run: str | RunRecord, *, spec: Spec[T] | None = None, where: str = ""
    ) -> None:
        """Look at this run.

        Args:
            store: the store.
            run: the run, or its name, or the name of a series, of which the newest run is taken.
            spec: with it, outputs come in the contract's type.
            where: the store's path or address, for the commands that are shown.

        Raises:
            UsageError: there is no run of this name.
        """
        record = find_run(store, run) if isinstance(run, str) else run
        self._store = store
        self._spec = spec
        self._where = where
        self._id = record.id
        self._name = record.name

    @property
    def name(self) -> str:
        """Give the run's name."""
        return self._name

    @property
    def record(self) -> RunRecord:
        """Give the run's record as the store has it now."""
        return find_run(self._store, self._name)

    @property
    def progress(self) -> Progress:
        """Give where the run stands, from the store alone."""
        return progress_of(self._store, self.record, where=self._where)

    def rows(
        self,
        *,
        keys: Iterable[str] | None = None,
        outcome: str | Outcome | Iterable[str | Outcome] | None = None,
        reason: str | Reason | Iterable[str | Reason] | None = None,
        tier: int | Iterable[int] | None = None,
        output: Callable[[T], object] | None = None,
        source: Callable[[Mapping[str, str | None]], object] | None = None,
    ) -> Rows[T]:
        """Give the run's rows, narrowed as :meth:`Rows.where` says."""
        contract = self._spec.contract if self._spec is not None else None
        every = Rows(
            self._store,
            self._id,
            contract=contract,
            metadata=self._metadata(),
            rerunner=self._rerunner(),
        )
        return every.where(keys=keys, outcome=outcome, reason=reason, tier=tier, output=output, source=source)

    def failures(self) -> Rows[T]:
        """Give the rows that ended without an answer: errored, expired, quarantined, canceled."""
        return self.rows(outcome=FAILURES)

    def queue(self) -> Review[T]:
        """Give the rows that wait for a person, to be judged here or in a file."""
        from batchkit.people import Review

        return Review.of_queue(self._store, self.record, spec=self._spec)

    def bill(self) -> Bill:
        """Give what the run cost, by tier and by what became of the answers."""
        from batchkit.bill import Bill

        return Bill.of(self._store, self.record)

    def reconcile(self) -> Reconciliation:
        """Count everything anew from the store and compare: the four equations."""
        from batchkit.reconciler import Reconciler

        return Reconciler(self._store).reconcile(self._name)

    def handoff(self, folder: str | os.PathLike[str], *, contact: str = "") -> Path:
        """Write what the next team needs: summary, eval set, quarantine, queue, receipt, verifier, runbook.

        Args:
            folder: made if it does not exist; files of the same names are replaced, but a queue in which
                somebody may have written is left.
            contact: whom to ask, as text for the runbook.
        """
        from batchkit.handoff import handoff

        return handoff(self, Path(folder), contact=contact)

    def events(self, after: str = "") -> list[Event]:
        """Give the run's events after the one whose id is ``after``, oldest first."""
        return read_events(self._store, self.record, after=after)

    @property
    def promotions(self) -> list[dict[str, object]]:
        """Give the notes of this run's promotions, oldest first. The catalog's own table is the truth."""
        found = self._store.docs(DocKind.PROMOTION, scope=scope_of(self._id))
        return [json.loads(body) for _, body in found]

    def pause(self, why: str = "", *, by: str = "") -> None:
        """Ask that nothing new is sent. What runs remotely is still collected."""
        self._request("pause", why, by)

    def cancel(self, why: str = "", *, by: str = "") -> None:
        """Ask that the run ends: doubts are resolved, remote batches canceled, paid answers kept."""
        self._request("cancel", why, by)

    def unpause(self, why: str = "", *, by: str = "") -> None:
        """Ask that a paused run goes on."""
        self._request("unpause", why, by)

    def decide(
        self, batch: int, decision: Decision, *, by: str, remote: str = "", force: bool = False
    ) -> Progress:
        """Decide about a batch that is held, as its need says.

        Args:
            batch: the batch's number.
            decision: ``look-again``; ``adopt`` a remote batch (its first line still has to prove it);
                ``declare-absent`` (its rows go out again); ``accept-missing`` lines; ``give-up`` its results.
            by: who decides.
            remote: the remote batch's id, for ``adopt``.
            force: declare absent although the grace is not over or a suspect was not opened.

        Returns:
            Where the run stands now.

        Raises:
            UsageError: no such batch, or it is not held where this is possible.
            DoubtHeld: it is too early to declare it absent.
            LeaseLost: another process moves the run now; try again in a minute.
        """
        from batchkit.deciding import decide

        decide(self._store, self.record, batch, decision, by=by, remote=remote, force=force)
        return self.progress

    def _request(self, what: Request, why: str, by: str) -> None:
        ask(self._store, self.record, what, why=why, by=by)

    def _metadata(self) -> tuple[str, ...]:
        if self._spec is not None:
            return self._spec.metadata
        held = self._store.get(DocKind.SPEC, self.record.spec)
        return tuple(json.loads(held)["spec"]["metadata"]) if held is not None else ()

    def _rerunner(self) -> Rerunner[T] | None:
        return None

    def __repr__(self) -> str:
        """Say which run, and where it stands."""
        return f"<{type(self).__name__} {self._name!r}: {self.progress.state}>"

    def _repr_html_(self) -> str:
        return self.progress._repr_html_()


@attrs.frozen(kw_only=True)
class RunSummary:
    """One line of :func:`runs`."""

    name: str
    state: RunState
    rows: int
    spec: str
    created_at: float


def attach(store: str | os.PathLike[str] | Store, name: str, *, spec: Spec[T] | None = None) -> RunView[T]:
    """Look at a run of a store. Needs no spec and no key.

    Args:
        store: a path, a URL or a store.
        name: the run's name; of a series the newest run is taken.
        spec: with it, outputs come in the contract's type.

    Raises:
        UsageError: there is no such store or run.
    """
    return RunView(open_existing(store), name, spec=spec, where=address_of(store))


def runs(store: str | os.PathLike[str] | Store) -> list[RunSummary]:
    """List the runs of a store, oldest first."""
    return [
        RunSummary(name=run.name, state=run.state, rows=run.rows, spec=run.spec, created_at=run.created_at)
        for run in open_existing(store).runs()
    ]


def set_cap(
    store: str | os.PathLike[str] | Store, usd: float | Decimal | str, *, by: str, why: str = ""
) -> None:
    """Set the store's spending cap in US dollars. Needs no spec and no key; the last one set is in force.

    Args:
        store: a path, a URL or a store.
        usd: the cap in dollars, over everything in the store.
        by: who sets it.
        why: in that person's words.

    Raises:
        UsageError: no such store, no amount, or no name.
    """
    nano = Budget(usd).nano
    if not by.strip():
        raise UsageError("a cap needs the name of whoever sets it: set_cap(..., by=...)")
    opened = open_existing(store)
    write_cap(opened, Cap(usd_nano=nano, origin="person", by=by, why=why, at=opened.now()))


def address_of(store: str | os.PathLike[str] | Store) -> str:
    """Give a store's path or address, without a password; nothing for a store object."""
    return shown(os.fspath(store)) if isinstance(store, (str, os.PathLike)) else ""


def open_existing(store: str | os.PathLike[str] | Store) -> Store:
    """Open a store that must exist already, so that a mistyped path does not make an empty one.

    Raises:
        UsageError: there is no such file.
    """
    check_exists(store)
    return open_store(store)


def check_exists(store: str | os.PathLike[str] | Store) -> None:
    """Make sure that a store's file is there.

    Raises:
        UsageError: there is no such file.
    """
    where = address_of(store)
    if where and "://" not in where and where != ":memory:" and not Path(where).exists():
        raise UsageError(f"there is no store at {where!r}; a Workflow makes one on its first start")

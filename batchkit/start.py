"""Starting runs: the name, the lock, the spec, then freezing. Spends nothing, and is safe to repeat."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import attrs

from batchkit import source
from batchkit.builder import RequestBuilder
from batchkit.clock import Clock
from batchkit.errors import NotLocked, SpecChanged, StoreError, UsageError
from batchkit.freezing import Freezing, described, freeze, verify_rows
from batchkit.ids import RowKey, RunId
from batchkit.model import DocKind, NewRun, Run
from batchkit.normal import Unencodable, key_text
from batchkit.reasons import Reason
from batchkit.rows import Rows
from batchkit.spec import Spec
from batchkit.specdiff import SpecDiff
from batchkit.specs import record_spec
from batchkit.standing import series, series_number
from batchkit.states import Outcome, RunState
from batchkit.storage import Store

T = TypeVar("T")

_LONGEST_NAME = 200
_REFUSED = (
    Reason.INPUT_MISSING_KEY,
    Reason.INPUT_DUPLICATE_KEY,
    Reason.INPUT_UNENCODABLE,
    Reason.INPUT_TOO_LARGE,
)


@attrs.frozen(kw_only=True)
class Starter(Generic[T]):
    """Makes runs of one spec in one store."""

    store: Store
    spec: Spec[T]
    clock: Clock

    def start(
        self,
        name: str,
        rows: object,
        *,
        options: Mapping[str, object],
        max_rows: int | None = None,
        parent: Run | None = None,
        earlier: Sequence[RunId] = (),
        verify: bool = True,
    ) -> Run:
        """Freeze the rows under a name, or give the run that is frozen under it, once the rows are the same.

        Args:
            name: the run's name.
            rows: anything that :func:`batchkit.source.rows` takes.
            options: what the run remembers.
            max_rows: refuse a source with more records.
            parent: the run whose rows these are.
            earlier: the runs of the same series, whose answers may still stand.
            verify: compare the rows with those of a run that exists.

        Raises:
            SpecChanged: the run was sealed under another spec.
            RowsChanged: the run was sealed with other rows.
            UsageError: the name or the rows cannot be used.
        """
        _check_name(name)
        builder = RequestBuilder(self.spec, schema=record_spec(self.store, self.spec))
        taken = source.records(rows)
        noted = {**options, "source": described(self.spec, builder, taken)}
        new = NewRun(
            name=name, spec=self.spec.fingerprint, parent=parent.id if parent else None, options=noted
        )
        freezing = Freezing(
            store=self.store,
            spec=self.spec,
            builder=builder,
            clock=self.clock,
            options=noted,
            max_rows=max_rows,
            earlier=earlier,
        )
        run, _ = self.store.open_run(new)
        if run.state is RunState.FREEZING:
            frozen = freeze(freezing, run, taken)
            if frozen is not None:
                return frozen
            run = self.store.runs(name=name)[0]
        self.check_spec(run)
        if verify:
            verify_rows(freezing, run, taken)
        return run

    def start_series(
        self, name: str, rows: object, *, options: Mapping[str, object], max_rows: int | None
    ) -> Run:
        """Give the series' run that is not finished yet, or freeze the next one.

        Records that equal what the series staged last for their key, under the same spec, are not sent again.
        """
        members = series(self.store.runs(), name)
        last = members[-1] if members else None
        if last is not None and last.state not in {RunState.CLOSED, RunState.FREEZING}:
            self.check_spec(last)
            return last
        unsealed = last is not None and last.state is RunState.FREEZING
        number = 1 if last is None else series_number(last) + (0 if unsealed else 1)
        return self.start(
            f"{name}#{number}",
            rows,
            options={**options, "series": name},
            max_rows=max_rows,
            earlier=[run.id for run in members if run.state is not RunState.FREEZING],
            verify=False,
        )

    def check_lock(self, *, unlocked: bool) -> None:
        """Make sure that somebody accepted the spec, or that the caller goes on without.

        Raises:
            NotLocked: neither.
        """
        if unlocked or self.store.get(DocKind.LOCK, self.spec.fingerprint) is not None:
            return
        raise NotLocked(
            f"spec {self.spec.fingerprint[:6]} was not accepted by anyone. Run a pilot, read it and lock it: "
            "flow.pilot(rows).run(), .review(), .lock(by=...). To go on without: unlocked=True, which the "
            "receipt will say."
        )

    def check_spec(self, run: Run) -> None:
        """Make sure that a sealed run is under this spec.

        Raises:
            SpecChanged: it is not; the message says what differs.
        """
        if run.state is RunState.FREEZING or run.spec == self.spec.fingerprint:
            return
        held = self.store.get(DocKind.SPEC, run.spec)
        if held is None:
            raise StoreError(
                f"the store holds no spec {run.spec[:6]}; it was removed or the store is not whole"
            )
        difference = SpecDiff.between(json.loads(held)["spec"], self.spec.document())
        name = run.options.get("series", run.name)
        raise SpecChanged(
            f"{run.name!r} runs under {run.spec[:6]}, this code has {self.spec.fingerprint[:6]}. {difference}.\n"
            f"  Finish the open run: flow.resume({name!r}). "
            "Use the new spec: grade it, flow.pilot().run(spec), then lock it."
        )


def check_plain_name(name: str) -> None:
    """Make sure that a name is not one of those that a series gives.

    Raises:
        UsageError: it is.
    """
    base, mark, number = name.rpartition("#")
    if mark and base and number.isdigit():
        raise UsageError(
            f"{name!r} is a name that a series gives: use start({base!r}, rows, incremental=True), or another name"
        )


def _check_name(name: str) -> None:
    if not name or name != name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise UsageError(
            f"{name!r} is no run name: 1 to {_LONGEST_NAME} printable characters, no space at either end"
        )


class Slice(Generic[T]):
    """The source records of some rows of a run: the frozen ones, or those of ``fresh`` that carry their keys."""

    def __init__(self, rows: Rows[T], spec: Spec[Any], fresh: object | None) -> None:
        """Check that these rows can go out again.

        Raises:
            UsageError: some of them are still open, so that a second request might be paid beside the first; or
                some were refused as they stand in the source, and no fresh records come with them.
        """
        still_open = len(rows.where(outcome=Outcome.OPEN))
        if still_open:
            raise UsageError(
                f"{still_open:,} of these rows are still open in their run and may be answered yet; wait for it to close, "
                "or leave them out: rows(outcome=...)"
            )
        refused = len(rows.where(reason=_REFUSED)) if fresh is None else 0
        if refused:
            raise UsageError(
                f"{refused:,} of these rows were refused as they stand in the source (input.*), and would be again. Mend "
                "them there and bring them: rerun(name, rows=...); or leave them out: "
                ".where(reason=['api.*', 'batch.*', 'output.*', 'run.*'])"
            )
        self._rows = rows
        self._key = spec.key
        self._fresh = None if fresh is None else source.records(fresh)

    def __call__(self) -> Iterator[Mapping[str, object]]:
        """Read the records, in source order."""
        if self._fresh is None:
            for view in self._rows.views(source=True):
                yield {**(view.fields or {}), self._key: view.key or None}
            return
        wanted = set(self._rows.keys())
        for position, record in enumerate(self._fresh):
            if self._key_of(record, position) in wanted:
                yield record

    def _key_of(self, record: Mapping[str, object], position: int) -> RowKey | None:
        try:
            return RowKey(key_text(record.get(self._key), column=self._key, position=position))
        except Unencodable:
            return None

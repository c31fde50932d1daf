"""Freezing a run: the source's records into the store, resumable, compared, refused before anything is spent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import attrs

from batchkit.builder import RequestBuilder
from batchkit.clock import Clock
from batchkit.digests import page_digest
from batchkit.errors import RowsChanged, SpecChanged, UsageError
from batchkit.ids import ResultId, RowId, RunId, row_id
from batchkit.lease import held, new_owner
from batchkit.model import Lease, NewRun, OnDuplicate, Run, RunFacts, Seal, SourceRow, Where
from batchkit.source import Freezer, Source
from batchkit.spec import Spec
from batchkit.states import RunState
from batchkit.storage import Store

T = TypeVar("T")

_LOOK_AGAIN = 2.0
"""Seconds between two looks at a run that another process freezes."""


@attrs.frozen(kw_only=True)
class Freezing(Generic[T]):
    """What freezing needs.

    ``earlier`` are the runs of the same series, whose answers may still stand, ``go_on`` what one types to go on
    with rows that are frozen.
    """

    store: Store
    spec: Spec[T]
    builder: RequestBuilder[T]
    clock: Clock
    options: Mapping[str, object]
    max_rows: int | None = None
    earlier: Sequence[RunId] = ()
    go_on: str = "flow.resume({name!r})"


def frozen(freezing: Freezing[T], name: str, rows: Source) -> Run:
    """Give the run of this name with these rows: frozen now, or frozen before and the same.

    Raises:
        SpecChanged: it was started under another spec.
        RowsChanged: it was started with other rows.
        DuplicateKeys, UsageError: the rows cannot be used.
    """
    spec = freezing.spec.fingerprint
    run, _ = freezing.store.open_run(NewRun(name=name, spec=spec, options=freezing.options))
    if run.state is RunState.FREEZING and (sealed := freeze(freezing, run, rows)) is not None:
        return sealed
    run = _fresh(freezing.store, run)
    if run.spec != spec:
        raise SpecChanged(f"{name!r} was started under spec {run.spec[:6]}, this one is {spec[:6]}")
    verify_rows(freezing, run, rows)
    return run


def freeze(freezing: Freezing[T], run: Run, rows: Source) -> Run | None:
    """Bring the source's records into the store and seal them; None where another process did so meanwhile.

    Started again after a crash it compares what is there and goes on behind it. Where the source, the spec
    or an option has changed since, it begins again from record 0: nothing was spent on a run not yet sealed.

    Raises:
        RowsChanged: the source gives other rows than those frozen before a crash, and cannot be read again.
        DuplicateKeys: records of different content share a key.
        UsageError: the source has more than ``max_rows`` records, or cannot be read as rows.
    """
    owner = new_owner("freeze")
    while (run := _fresh(freezing.store, run)).state is RunState.FREEZING:
        with held(freezing.store, run.id, owner) as lease:
            if lease is not None:
                return _frozen(freezing, lease, _fresh(freezing.store, run), rows)
        freezing.clock.sleep(_LOOK_AGAIN)
    return None


def _frozen(freezing: Freezing[T], lease: Lease, run: Run, rows: Source) -> Run | None:
    """Freeze under the lease, unless another process did so just before it was taken."""
    if run.state is not RunState.FREEZING:
        return None
    run = _prepared(freezing, lease, run)
    freezing.store.index_staged(lease, freezing.earlier)
    try:
        _fill(freezing, lease, run, rows)
    except RowsChanged:
        if not rows.again:
            raise
        run = _begun_again(freezing, lease, run)
        _fill(freezing, lease, run, rows)
    return _fresh(freezing.store, run)


def _prepared(freezing: Freezing[T], lease: Lease, run: Run) -> Run:
    """Bring a run that an earlier start left unsealed under today's spec and options."""
    if run.spec != freezing.spec.fingerprint:
        return _begun_again(freezing, lease, run)
    if dict(run.options) != dict(freezing.options):
        return _moved(freezing, lease, RunFacts(options=freezing.options))
    return run


def _begun_again(freezing: Freezing[T], lease: Lease, run: Run) -> Run:
    return _moved(freezing, lease, RunFacts(options=freezing.options, refreeze=freezing.spec.fingerprint))


def _moved(freezing: Freezing[T], lease: Lease, facts: RunFacts) -> Run:
    return freezing.store.move_run(lease, expect=RunState.FREEZING, to=RunState.FREEZING, facts=facts)


def _fill(freezing: Freezing[T], lease: Lease, run: Run, rows: Source) -> None:
    count = 0
    for page in _pages(freezing, run, rows):
        freezing.store.freeze(lease, page)
        count += len(page)
    # The count is told, so that a source that has become shorter since a crash is not sealed with what is gone.
    freezing.store.freeze(lease, [], seal=Seal(on_duplicate=_on_duplicate(run), count=count))


def _on_duplicate(run: Run) -> OnDuplicate:
    chosen = run.options.get("on_duplicate")
    return "first" if chosen == "first" else "quarantine" if chosen == "quarantine" else "refuse"


def _fresh(store: Store, run: Run) -> Run:
    return store.runs(name=run.name)[0]


def described(spec: Spec[Any], builder: RequestBuilder[Any], taken: Source) -> dict[str, object]:
    """Say what the receipt needs for checking the frozen rows against their source."""
    fields = sorted({*spec.used_fields, *builder.fields})
    name = taken.path.name if taken.path is not None else None
    return {"kind": taken.kind, "file": name, "key": spec.key, "fields": fields}


def verify_rows(freezing: Freezing[T], run: Run, rows: Source) -> None:
    """Make sure that the source still gives the rows that were frozen.

    Raises:
        RowsChanged: it does not; the message names the first records that differ.
    """
    held = freezing.store.digests(run.id)
    count = number = 0
    for number, page in enumerate(_pages(freezing, run, rows), start=1):
        count += len(page)
        if number > len(held) or page_digest([row.line for row in page]) != held[number - 1]:
            raise _changed(freezing, run, page)
    if number != len(held) or count != run.rows:
        raise RowsChanged(
            f"{run.name!r} was frozen with {run.rows:,} records, the source now gives {count:,}. "
            f"{_ways_out(freezing, run)}"
        )


def _changed(freezing: Freezing[Any], run: Run, page: list[SourceRow]) -> RowsChanged:
    return RowsChanged(
        f"the rows of {run.name!r} are not those it was started with: {_difference(freezing, run, page)}. "
        f"{_ways_out(freezing, run)}"
    )


def _difference(freezing: Freezing[Any], run: Run, page: list[SourceRow]) -> str:
    """Name the first record of a page that is not as it was frozen, and its fields; never what they hold."""
    before = RowId(row_id(run.id, page[0].position) - 1)
    held = freezing.store.page(run.id, Where(source=True), after=before, limit=len(page))
    for row, view in zip(page, held, strict=False):
        if row.key != view.key:
            return f"record {row.position:,} has the key {row.key!r}, it had {view.key!r}"
        now, then = json.loads(row.line)[2], view.fields or {}
        if changed := sorted(name for name in {*now, *then} if now.get(name) != then.get(name)):
            return f"record {row.position:,} (key {row.key!r}) has another {', '.join(changed)}"
    count = page[-1].position + 1
    return (
        f"there are {'only' if count < run.rows else 'at least'} {count:,} records, there were {run.rows:,}"
    )


def _ways_out(freezing: Freezing[Any], run: Run) -> str:
    return (
        f"Nothing was changed. Go on with the frozen rows: {freezing.go_on.format(name=run.name)}. "
        "For the new rows start a run of another name."
    )


def _pages(freezing: Freezing[T], run: Run, rows: Source) -> Iterator[list[SourceRow]]:
    def staged(page: Sequence[SourceRow]) -> Sequence[ResultId | None]:
        return freezing.store.find_staged(min(freezing.earlier), freezing.spec.fingerprint, page)

    freezer = Freezer(
        freezing.spec, builder=freezing.builder, incremental=staged if freezing.earlier else None
    )
    seen = 0
    for page in freezer.pages(rows):
        seen += len(page)
        if freezing.max_rows is not None and seen > freezing.max_rows:
            raise UsageError(
                f"the source of {run.name!r} has more than max_rows={freezing.max_rows:,} records; nothing was sent. "
                "Raise max_rows if that many are meant."
            )
        yield page

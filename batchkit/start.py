"""Freezing a run: the source's records into the store, resumable, compared, refused before anything is spent."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import attrs

from batchkit import source
from batchkit.builder import RequestBuilder
from batchkit.digests import page_digest
from batchkit.errors import LeaseLost, RowsChanged, UsageError
from batchkit.ids import ResultId, RowId, RowKey
from batchkit.model import OnDuplicate, RowView, Run, Seal, SourceRow, Where
from batchkit.rows import Rows
from batchkit.source import Freezer
from batchkit.spec import Spec
from batchkit.states import RowState
from batchkit.storage import Store

T = TypeVar("T")

_TTL = 60.0
_SCAN = 2_000


@attrs.frozen(kw_only=True)
class Freezing(Generic[T]):
    """What freezing needs. ``earlier`` is the run of the same series whose answers may still stand."""

    store: Store
    spec: Spec[T]
    builder: RequestBuilder[T]
    owner: str
    max_rows: int | None = None
    earlier: Run | None = None


def freeze(freezing: Freezing[T], run: Run, rows: source.Source) -> None:
    """Bring the source's records into the store and seal them.

    Started again after a crash it compares what is there and goes on behind it.

    Raises:
        LeaseLost: another process is freezing this run.
        RowsChanged: the source gives other rows than those frozen before the crash.
        DuplicateKeys: records of different content share a key.
        UsageError: the source has more than ``max_rows`` records, or cannot be read as rows.
    """
    store = freezing.store
    lease = store.acquire(run.id, freezing.owner, _TTL)
    if lease is None:
        holder = store.holder(run.id)
        raise LeaseLost(
            f"another process is freezing {run.name!r}"
            + (f" ({holder.owner})" if holder else "")
            + "; try again later"
        )
    try:
        given = 0
        for page in _pages(freezing, run, rows):
            store.freeze(lease, page)
            given += len(page)
        store.freeze(lease, [], seal=Seal(on_duplicate=_on_duplicate(run), count=given))
    finally:
        store.release(lease)


def _on_duplicate(run: Run) -> OnDuplicate:
    chosen = run.options.get("on_duplicate")
    return "first" if chosen == "first" else "quarantine" if chosen == "quarantine" else "refuse"


def described(spec: Spec[Any], builder: RequestBuilder[Any], taken: source.Source) -> dict[str, object]:
    """Say what the receipt needs for checking the frozen rows against their source."""
    fields = sorted({*spec.used_fields, *builder.fields})
    name = taken.path.name if taken.path is not None else None
    return {"kind": taken.kind, "file": name, "key": spec.key, "fields": fields}


def verify_rows(freezing: Freezing[T], run: Run, rows: source.Source) -> None:
    """Make sure that the source still gives the rows that were frozen.

    Raises:
        RowsChanged: it does not; the message names the first record that differs.
    """
    held = freezing.store.digests(run.id)
    count = 0
    number = -1
    for number, page in enumerate(_pages(freezing, run, rows)):
        count += len(page)
        if number >= len(held) or page_digest([row.line for row in page]) != held[number]:
            raise _changed(run, page, count)
    if number + 1 != len(held) or count != run.rows:
        raise RowsChanged(
            f"{run.name!r} was frozen with {run.rows:,} records, the source now gives {count:,}. The run goes on with "
            f"the frozen rows: flow.resume({run.name!r}). For the new rows start a run of another name."
        )


def _changed(run: Run, page: list[SourceRow], count: int) -> RowsChanged:
    first = page[0].position
    return RowsChanged(
        f"the rows of {run.name!r} are not those it was started with: the first difference is among records {first:,} to "
        f"{count - 1:,} (keys {page[0].key!r} to {page[-1].key!r}). The run goes on with the frozen rows: "
        f"flow.resume({run.name!r}). For the new rows start a run of another name."
    )


def _pages(freezing: Freezing[T], run: Run, rows: source.Source) -> Iterator[list[SourceRow]]:
    unchanged = StagedIndex(freezing.store, freezing.earlier).find if freezing.earlier is not None else None
    freezer = Freezer(freezing.spec, builder=freezing.builder, incremental=unchanged)
    seen = 0
    for page in freezer.pages(rows):
        seen += len(page)
        if freezing.max_rows is not None and seen > freezing.max_rows:
            raise UsageError(
                f"the source of {run.name!r} has more than max_rows={freezing.max_rows:,} records; nothing was sent. "
                "Raise max_rows if that many are meant."
            )
        yield page


def slice_records(rows: Rows[Any], spec: Spec[Any], fresh: object | None) -> Iterable[Mapping[str, object]]:
    """Give the source records of a slice: the frozen ones, or those of ``fresh`` that carry its keys."""
    if fresh is None:
        return [{**(view.fields or {}), spec.key: view.key} for view in rows.views(source=True)]
    wanted = set(rows.keys())
    return [record for record in source.records(fresh) if str(record.get(spec.key)) in wanted]


class StagedIndex:
    """Finds, for a record of equal key and content, the result that an earlier run of the series staged.

    Held as one sorted array of 16-byte content hashes and one of result ids: 24 bytes a row.
    """

    def __init__(self, store: Store, earlier: Run) -> None:
        """Read the staged rows of the earlier run."""
        pairs = sorted(self._entries(store, earlier))
        self._hashes = _Hashes(b"".join(digest for digest, _ in pairs))
        self._results = array("q", [result for _, result in pairs])

    def find(self, key: RowKey, content: bytes) -> ResultId | None:
        """Give the staged result for this key and canonical content, if there is one."""
        wanted = _content_hash(content)
        at = bisect_left(self._hashes, wanted)
        if at < len(self._results) and self._hashes[at] == wanted:
            return ResultId(self._results[at])
        return None

    @staticmethod
    def _entries(store: Store, earlier: Run) -> Iterator[tuple[bytes, int]]:
        where = Where(states=frozenset({RowState.SUCCEEDED, RowState.UNCHANGED}), source=True)
        after: RowId | None = None
        while True:
            page = store.page(earlier.id, where, after=after, limit=_SCAN)
            for view in page:
                if view.result is not None:
                    yield _content_hash(_content(view)), view.result
            if len(page) < _SCAN:
                return
            after = page[-1].id


class _Hashes:
    """Sixteen-byte entries of one bytes object, as a sequence that bisect can search."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed) // 16

    def __getitem__(self, index: int) -> bytes:
        return self._packed[index * 16 : index * 16 + 16]


def _content_hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _content(view: RowView) -> bytes:
    return source.content_line(view.key, view.fields or {})

"""The readers of rows and results in an ordered map."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from batchkit.errors import StoreError
from batchkit.frozen import parse
from batchkit.ids import Digest, ResultId, RowId, RowKey, RunId, row_id
from batchkit.model import PAGE, LedgerLine, ResultView, RowView, Tally, Where
from batchkit.reasons import Reason
from batchkit.states import RowState
from batchkit.storage import schema
from batchkit.storage.keyvalue.base import KeyValueBase
from batchkit.storage.keyvalue.entries import BULK, Entries, beyond, key, number, of_run
from batchkit.storage.keyvalue.packed import PackedRows, admission, walk_rows
from batchkit.storage.keyvalue.results import decode_result, ledger_lines
from batchkit.storage.pages import PackedPage, locate
from batchkit.storage.views import Packed, views

_SUCCEEDED = schema.state_code(RowState.SUCCEEDED)
_REPEAT = schema.reason_code(Reason.INPUT_DUPLICATE_KEY)


class KeyValueRows(KeyValueBase):
    """The readers of `batchkit.storage.RowStore` on an ordered map."""

    def tally(self, run: RunId) -> Tally:
        """Count the rows of a run by (state, reason, tier)."""
        codes: Counter[tuple[int, ...]] = Counter()
        with self._read() as entries:
            for _, rows in walk_rows(entries, run):
                codes.update(row[:3] for row in rows)
        return Tally(
            counts={
                (schema.ROW_STATES[state], schema.REASONS[reason], tier): count
                for (state, reason, tier), count in codes.items()
            }
        )

    def page(
        self, run: RunId, where: Where, *, after: RowId | None = None, limit: int = 1000
    ) -> Sequence[RowView]:
        """Give up to ``limit`` matching rows with an id above ``after``."""
        low = max(row_id(run, 0), 0 if after is None else RowId(after + 1))
        admits, found = admission(where), list[tuple[int, ...]]()
        with self._read() as entries:
            for page, rows in walk_rows(entries, run, RowId(low)):
                found += [(id_, *row) for id_, row in enumerate(rows, page) if id_ >= low and admits(row)]
                if len(found) >= limit:
                    break
            return _views(entries, found[:limit], where)

    def rows(self, ids: Sequence[RowId], *, source: bool = False, results: bool = False) -> Sequence[RowView]:
        """Give the rows with these ids, in the order asked for."""
        with self._read() as entries:
            held = PackedRows(entries, ids)
            found = [(id_, *held[id_]) for id_ in ids]
            return _views(entries, found, Where(source=source, results=results))

    def locate(self, run: RunId, keys: Sequence[RowKey]) -> Mapping[RowKey, RowId]:
        """Give the id of each key the run holds."""
        wanted = frozenset(key for key in keys if key)
        found: defaultdict[RowKey, list[RowId]] = defaultdict(list)
        with self._read() as entries:
            for position, held in self._keys(entries, run):
                if not wanted.isdisjoint(held):
                    for offset, key_ in enumerate(held):
                        if key_ in wanted:
                            found[RowKey(key_)].append(row_id(run, position + offset))
            rows = PackedRows(entries, (id_ for ids in found.values() for id_ in ids))
            return {
                key_: next((id_ for id_ in ids if rows[id_].reason != _REPEAT), ids[0])
                for key_, ids in found.items()
            }

    def digests(self, run: RunId) -> Sequence[Digest]:
        """Give the digest of each frozen source page in order."""
        with self._read() as entries:
            return list(self._digests(entries, run))

    def results(
        self, run: RunId, *, after: ResultId | None = None, limit: int = 1000
    ) -> Sequence[ResultView]:
        """Give up to ``limit`` results of a run's rows, in the order they were settled."""
        with self._read() as entries:
            return list(islice(_results(entries, run, after or 0, limit), limit))

    def settled_order(self, results: Sequence[ResultId]) -> Sequence[int]:
        """Give, for each result, a number of which the higher was settled later: here its id."""
        with self._read() as entries:
            last = entries.last("result")
        if unknown := [result for result in results if not 0 < result <= last]:
            raise StoreError(f"the store holds no result {unknown[0]}")
        return results

    def ledger(self, run: RunId) -> Sequence[LedgerLine]:
        """Count and sum the results of a run that are alike."""
        with self._read() as entries:
            standing = frozenset(
                row[6] for _, rows in walk_rows(entries, run) for row in rows if row[0] == _SUCCEEDED
            )
            return ledger_lines(_results(entries, run, 0, BULK), standing)

    def _digests(self, entries: Entries, run: RunId) -> Iterator[Digest]:
        return (Digest(digest.decode()) for _, digest in entries.walk(*of_run("digest", run)))

    def _keys(self, entries: Entries, run: RunId) -> Iterator[tuple[int, list[str]]]:
        """Give the keys of a run page by page, each page after the position of its first record."""
        for n, (_, keys) in enumerate(entries.walk(*of_run("keys", run), PAGE // 10)):
            yield n * PAGE, parse(keys)


def _results(entries: Entries, run: RunId, after: int, wanted: int) -> Iterator[ResultView]:
    """Give the results of a run above one, in order; ``wanted`` is for how many it is worth to ask at a time."""
    pages = entries.walk(key("settled", run, after + 1), beyond(key("settled", run)))
    for name, first in pages:
        low, last = max(int(first), after + 1), number(name)
        for id_, stored in entries.walk(
            key("result", low), key("result", last + 1), max(1, min(wanted, BULK))
        ):
            yield decode_result(number(id_), stored)


def packed_pages(entries: Entries, rows: Iterable[int], *, lines: bool) -> Packed:
    """Read the frozen pages of some rows, with their lines or without."""
    pages = sorted({locate(RowId(row)).page for row in rows})
    kinds = ("keys", "sizes", "lines") if lines else ("keys", "sizes")
    found = entries.some(key(kind, page) for page in pages for kind in kinds)
    made = {
        page: PackedPage(
            found[key("keys", page)],
            found[key("sizes", page)],
            partial(found.__getitem__, key("lines", page)),
        )
        for page in pages
    }
    return made.__getitem__


def _views(entries: Entries, found: Sequence[tuple[int, ...]], where: Where) -> list[RowView]:
    rows: list[tuple[Any, ...]] = [(*row[:6], row[6] or None, row[7] or None, *row[8:]) for row in found]
    if where.results or where.answers:
        stored = entries.some(key("result", row[7]) for row in found if row[7])
        latest = [decode_result(row[7], stored[key("result", row[7])]) if row[7] else None for row in found]
        if where.results:
            refused = entries.some(key("refusal", row[0]) for row in found if not row[7])
            details = [
                refused.get(key("refusal", row[0]), b"").decode("utf-8", "surrogatepass") for row in found
            ]
            rows = [
                (*row, *_told(result, detail))
                for row, result, detail in zip(rows, latest, details, strict=True)
            ]
        else:
            rows = [(*row, result and result.answer) for row, result in zip(rows, latest, strict=True)]
    return views(
        packed_pages(entries, (row[0] for row in rows), lines=where.source), rows, source=where.source
    )


def _told(result: ResultView | None, refusal: str) -> tuple[Any, ...]:
    """Give what is told of a row's latest result: detail, answer, tokens, model and person."""
    if result is None:
        return (refusal, None, *[None] * 5, "", "")
    return (result.detail, result.answer, *(result.usage or [None] * 5), result.model, result.by)

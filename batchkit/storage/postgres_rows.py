"""Frozen source records and the state of each, in PostgreSQL."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from batchkit.errors import StoreError
from batchkit.frozen import parse
from batchkit.ids import BatchId, Digest, ResultId, RowId, RowKey, RunId, row_id, run_of
from batchkit.model import PAGE, LedgerLine, ResultView, RowView, Tally, Usage, Where
from batchkit.reasons import Reason
from batchkit.states import RowState
from batchkit.storage import schema
from batchkit.storage.pages import PackedPage, PageCache
from batchkit.storage.postgres_base import PostgresBase
from batchkit.storage.postgres_database import Transaction
from batchkit.storage.views import alike_views, answered_views, result_view, views

_STATE = "SELECT s.id, s.state, s.reason, s.tier, s.tries, s.resends, s.batch, s.result, s.cost, s.answers"
_RESULT = """,
    coalesce(r.detail, f.detail, ''), r.answer, r.input, r.output, r.cache_write_5m, r.cache_write_1h, r.cache_read,
    coalesce(m.text, ''), coalesce(b.text, '')
"""
_RESULT_JOIN = """
    LEFT JOIN result r ON r.id = s.result LEFT JOIN refusal f ON f.id = s.id
    LEFT JOIN name m ON m.id = r.model LEFT JOIN name b ON b.id = r.by
"""
_ANSWER = ", r.answer"
_ANSWER_JOIN = " LEFT JOIN result r ON r.id = s.result"
# In one CASE: the planner takes each condition for rare, all of them together for so rare that it would read and sort
# the whole table for every page, where walking along the key from the last row on is what is wanted.
_FILTER = """
    WHERE s.id > %(after)s AND s.id < %(end)s AND CASE
        WHEN (%(states)s::bigint >> s.state) & 1 = 0 THEN false
        WHEN (%(reasons)s::bigint >> s.reason) & 1 = 0 THEN false
        WHEN (%(tiers)s::bigint >> s.tier) & 1 = 0 THEN false
        WHEN %(batch)s::bigint IS NOT NULL AND s.batch IS DISTINCT FROM %(batch)s::bigint THEN false
        WHEN (%(outcomes)s::bigint >> s.state) & 1 = 0 THEN false
        ELSE s.state <> %(refused)s OR (%(refusals)s::bigint >> s.reason) & 1 = 1 END
    ORDER BY s.id LIMIT %(limit)s
"""
# By what is wanted of the result: whole statements, put together once from the constants above.
_PAGE: Final = {
    "": _STATE + " FROM row_state s" + _FILTER,
    "answer": _STATE + _ANSWER + " FROM row_state s" + _ANSWER_JOIN + _FILTER,
    "all": _STATE + _RESULT + " FROM row_state s" + _RESULT_JOIN + _FILTER,
}
# Rows that were sent together stand alike: whether they do is found without fetching each.
_ALIKE: Final = """
    SELECT count(*) FROM row_state WHERE id BETWEEN %s AND %s AND state = %s AND reason = %s AND tier = %s AND tries = %s
    AND resends = %s AND batch IS NOT DISTINCT FROM %s AND result IS NOT DISTINCT FROM %s AND cost = %s AND answers = %s
"""
_ONE: Final = _STATE + " FROM row_state s WHERE s.id = %s"
_ASKED = " FROM unnest(%s::bigint[]) WITH ORDINALITY AS j (id, number) JOIN row_state s ON s.id = j.id"
_ROWS: Final = {
    False: _STATE + _ASKED + " ORDER BY j.number",
    True: _STATE + _RESULT + _ASKED + _RESULT_JOIN + " ORDER BY j.number",
}
_RESULTS: Final = """
    SELECT r.id, r."row", r.batch, r.event, r.tier, r.verdict, r.detail, r.answer,
        r.input, r.output, r.cache_write_5m, r.cache_write_1h, r.cache_read, r.cost, m.text, b.text
    FROM result r JOIN name m ON m.id = r.model JOIN name b ON b.id = r.by
    WHERE r.id > %s AND r.id < %s ORDER BY r.id LIMIT %s
"""
_ORDER: Final = """
    SELECT r.number FROM unnest(%s::bigint[]) WITH ORDINALITY AS j (id, at) JOIN result r ON r.id = j.id ORDER BY j.at
"""
_TALLY: Final = """
    SELECT state, reason, tier, count(*) FROM row_state WHERE id >= %s AND id < %s GROUP BY state, reason, tier
"""
_LEDGER: Final = """
    SELECT r.batch, r.event, r.tier, r.verdict, m.text, (s.result = r.id AND s.state = %(staged)s) IS TRUE AS stands,
        r.input IS NOT NULL AS told, count(*), coalesce(sum(r.input), 0)::bigint, coalesce(sum(r.output), 0)::bigint,
        coalesce(sum(r.cache_write_5m), 0)::bigint, coalesce(sum(r.cache_write_1h), 0)::bigint,
        coalesce(sum(r.cache_read), 0)::bigint, sum(r.cost)::bigint
    FROM result r JOIN row_state s ON s.id = r."row" JOIN name m ON m.id = r.model
    WHERE r.id > %(first)s AND r.id < %(end)s
    GROUP BY r.batch, r.event, r.tier, r.verdict, m.text, stands, told ORDER BY min(r.id)
"""
_KEYS_AT_ONCE: Final = 64
"""Pages whose keys are fetched at a time."""


class PostgresRows(PostgresBase):
    """The readers of `batchkit.storage.RowStore` on PostgreSQL."""

    _pages: PageCache
    _pages_lock: threading.Lock

    def tally(self, run: RunId) -> Tally:
        """Count the rows of a run by (state, reason, tier)."""
        with self._db.read() as transaction:
            found = transaction.all(_TALLY, _span(run))
        return Tally(
            counts={(schema.ROW_STATES[s], schema.REASONS[r], tier): count for s, r, tier, count in found}
        )

    def page(
        self, run: RunId, where: Where, *, after: RowId | None = None, limit: int = 1000
    ) -> Sequence[RowView]:
        """Give up to ``limit`` matching rows with an id above ``after``."""
        states, quarantined = schema.outcome_masks(where.outcomes)
        low = row_id(run, 0) - 1
        filters = {
            "after": low if after is None else max(low, after),
            "end": row_id(RunId(run + 1), 0),
            "states": schema.state_mask(where.states),
            "reasons": schema.reason_mask(where.reasons),
            "tiers": schema.tier_mask(where.tiers),
            "batch": where.batch,
            "outcomes": states,
            "refused": schema.state_code(RowState.QUARANTINED),
            "refusals": quarantined,
            "limit": limit,
        }
        with self._db.read(by_key=True) as transaction:
            wanted = "all" if where.results else "answer" if where.answers else ""
            packed = partial(self._packed, transaction, source=where.source)
            if not wanted and (first := transaction.first(_PAGE[""], {**filters, "limit": 1})):
                alike = self._alike(transaction, first, limit)
                if alike is not None:
                    return alike_views(packed, alike, first, source=where.source)
            found = transaction.all(_PAGE[wanted], filters)
            if wanted == "answer" and not where.source:
                return answered_views(packed, found)
            return views(packed, found, source=where.source)

    def rows(self, ids: Sequence[RowId], *, source: bool = False, results: bool = False) -> Sequence[RowView]:
        """Give the rows with these ids, in the order asked for."""
        with self._db.read(by_key=True) as transaction:
            packed = partial(self._packed, transaction, source=source)
            if not results and ids and ids[-1] - ids[0] == len(ids) - 1:
                one = transaction.first(_ONE, (ids[0],))
                alike = self._alike(transaction, one, len(ids)) if one is not None else None
                if one is not None and alike is not None and list(ids) == list(alike):
                    return alike_views(packed, alike, one, source=source)
            found = transaction.all(_ROWS[results], (list(ids),))
            if len(found) != len(ids):
                unknown = sorted(set(ids).difference(row[0] for row in found))
                raise StoreError(f"the store holds no row {', '.join(map(str, unknown[:10]))}")
            return views(packed, found, source=source)

    def locate(self, run: RunId, keys: Sequence[RowKey]) -> Mapping[RowKey, RowId]:
        """Give the id of each key the run holds."""
        wanted = frozenset(key for key in keys if key)
        found: defaultdict[str, list[int]] = defaultdict(list)
        with self._db.read() as transaction:
            for position, held in self._keys(transaction, run):
                if not wanted.isdisjoint(held):
                    for offset, key in enumerate(held):
                        if key in wanted:
                            found[key].append(row_id(run, position + offset))
            return {RowKey(key): self._original(transaction, ids) for key, ids in found.items()}

    def digests(self, run: RunId) -> Sequence[Digest]:
        """Give the digest of each frozen source page in order."""
        with self._db.read() as transaction:
            return self._digests(transaction, run)

    def results(
        self, run: RunId, *, after: ResultId | None = None, limit: int = 1000
    ) -> Sequence[ResultView]:
        """Give up to ``limit`` results of a run's rows, in the order they were settled."""
        first, end = _span(run)
        with self._db.read(by_key=True) as transaction:
            found = transaction.all(_RESULTS, (max(first, after or 0), end, limit))
        return [result_view(*row) for row in found]

    def settled_order(self, results: Sequence[ResultId]) -> Sequence[int]:
        """Give, for each result, a number of which the higher was settled later, whichever runs they are of."""
        with self._db.read() as transaction:
            numbers = [number for (number,) in transaction.all(_ORDER, (list(results),))]
        if len(numbers) != len(results):
            raise StoreError("the store holds not all of these results")
        return numbers

    def ledger(self, run: RunId) -> Sequence[LedgerLine]:
        """Count and sum the results of a run that are alike."""
        first, end = _span(run)
        staged = schema.state_code(RowState.SUCCEEDED)
        with self._db.read() as transaction:
            found = transaction.all(_LEDGER, {"staged": staged, "first": first, "end": end})
        return [
            LedgerLine(
                None if batch is None else BatchId(batch),
                schema.ROW_EVENTS[event],
                tier,
                schema.REASONS[verdict],
                model,
                stands,
                results,
                Usage(*tokens) if told else None,
                cost,
            )
            for batch, event, tier, verdict, model, stands, told, results, *tokens, cost in found
        ]

    def _digests(self, transaction: Transaction, run: RunId) -> list[Digest]:
        found = transaction.all(
            "SELECT digest FROM source_page WHERE id >= %s AND id < %s ORDER BY id", _span(run)
        )
        return [Digest(digest) for (digest,) in found]

    def _keys(self, transaction: Transaction, run: RunId) -> Iterator[tuple[int, list[str]]]:
        low, end = _span(run)
        position = 0
        while found := transaction.all(
            "SELECT id, keys FROM source_page WHERE id >= %s AND id < %s ORDER BY id LIMIT %s",
            (low, end, _KEYS_AT_ONCE),
        ):
            for id_, keys in found:
                yield position, parse(keys)
                position, low = position + PAGE, id_ + 1

    def _original(self, transaction: Transaction, ids: Sequence[int]) -> RowId:
        if len(ids) > 1:
            (found,) = transaction.all(
                "SELECT min(id) FROM row_state WHERE id = ANY(%s::bigint[]) AND reason <> %s",
                (list(ids), schema.reason_code(Reason.INPUT_DUPLICATE_KEY)),
            )[0]
            if found is not None:
                return RowId(found)
        return RowId(ids[0])

    def _packed(self, transaction: Transaction, page: int, *, source: bool = False) -> PackedPage:
        """Give a frozen page; its text is fetched with it where somebody will read it."""
        with self._pages_lock:
            self._pages.trim()  # what was read of the page before counts by now
            kept = self._pages.get(page)
        if kept is not None and (kept.whole or not source):
            return kept
        keys, sizes, lines, digest = transaction.all(
            "SELECT keys, sizes, CASE WHEN %s THEN lines END, (SELECT digest FROM run WHERE id = %s) "
            "FROM source_page WHERE id = %s",
            (source, run_of(RowId(page)), page),
        )[0]
        packed = PackedPage(keys, sizes, lambda: bytes(lines))
        if source:
            packed.lines()
        if digest is not None:  # before the seal, pages may still be dropped and frozen anew
            with self._pages_lock:
                self._pages.keep(page, packed)
        return packed

    def _alike(self, transaction: Transaction, first: tuple[Any, ...], count: int) -> range | None:
        """Give the ids of the ``count`` rows from this one on, if all of them stand as it does."""
        id_, *values = first
        last = id_ + count - 1
        (alike,) = transaction.all(_ALIKE, (id_, last, *values))[0]
        return range(id_, last + 1) if alike == count else None


def _span(run: RunId) -> tuple[int, int]:
    """Give the first id of a run's rows, above which its results are, and the one after its last."""
    return row_id(run, 0), row_id(RunId(run + 1), 0)

"""Frozen source records and the state of each, in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Final

from batchkit.errors import StoreError
from batchkit.frozen import parse
from batchkit.ids import BatchId, Digest, ResultId, RowId, RowKey, RunId, row_id, run_of
from batchkit.model import PAGE, LedgerLine, ResultView, RowView, Tally, Usage, Where
from batchkit.reasons import Reason
from batchkit.states import RowState
from batchkit.storage import schema
from batchkit.storage.pages import PackedPage, PageCache
from batchkit.storage.sqlite_base import SQLiteBase, numbered
from batchkit.storage.views import alike_views, answered_views, result_view, views

_STATE = "SELECT s.id, s.state, s.reason, s.tier, s.tries, s.resends, s.batch, s.result, s.cost, s.answers"
_RESULT = """,
    coalesce(r.detail, f.detail, ''), r.answer, r.input, r.output, r.cache_write_5m, r.cache_write_1h, r.cache_read,
    coalesce(m.text, ''), coalesce(b.text, '')
"""
_RESULT_JOIN = """
    LEFT JOIN result r ON r.id = s.result LEFT JOIN refusal f ON f.row = s.id
    LEFT JOIN name m ON m.id = r.model LEFT JOIN name b ON b.id = r.by
"""
_ANSWER = ", r.answer"
_ANSWER_JOIN = " LEFT JOIN result r ON r.id = s.result"
_FILTER = """
    WHERE s.id > ? AND s.id < ? AND ((? >> s.state) & 1) AND ((? >> s.reason) & 1) AND ((? >> s.tier) & 1)
    AND (? IS NULL OR s.batch = ?) AND ((? >> s.state) & 1) AND (s.state <> ? OR ((? >> s.reason) & 1))
    ORDER BY s.id LIMIT ?
"""
# By what is wanted of the result: whole statements, put together once from the constants above.
_PAGE: Final = {
    "": _STATE + " FROM row_state s" + _FILTER,
    "answer": _STATE + _ANSWER + " FROM row_state s" + _ANSWER_JOIN + _FILTER,
    "all": _STATE + _RESULT + " FROM row_state s" + _RESULT_JOIN + _FILTER,
}
# Rows that were sent together stand alike: whether they do is found in a tenth of the time of reading each.
_ALIKE: Final = """
    SELECT count(*) FROM row_state WHERE id BETWEEN ? AND ? AND state = ? AND reason = ? AND tier = ? AND tries = ?
    AND resends = ? AND batch IS ? AND result IS ? AND cost = ? AND answers = ?
"""
_ONE: Final = _STATE + " FROM row_state s WHERE s.id = ?"
_ROWS: Final = {
    False: _STATE + " FROM json_each(?) j CROSS JOIN row_state s ON s.id = j.value",
    True: _STATE + _RESULT + " FROM json_each(?) j CROSS JOIN row_state s ON s.id = j.value" + _RESULT_JOIN,
}
_RESULTS: Final = """
    SELECT r.id, r.row, r.batch, r.event, r.tier, r.verdict, r.detail, r.answer,
        r.input, r.output, r.cache_write_5m, r.cache_write_1h, r.cache_read, r.cost, m.text, b.text
    FROM result r JOIN name m ON m.id = r.model JOIN name b ON b.id = r.by
    WHERE r.id > ? AND r.row >= ? AND r.row < ? ORDER BY r.id LIMIT ?
"""
_CODE: Final = "SELECT (tier << 16) | (state << 8) | reason AS code FROM row_state WHERE id = ?"
_COUNT: Final = "SELECT count(*) FROM row_state WHERE id BETWEEN ? AND ?"
_OTHERS: Final = """
    SELECT (tier << 16) | (state << 8) | reason AS code, count(*) FROM row_state
    WHERE id BETWEEN ? AND ? AND NOT (tier = ? AND state = ? AND reason = ?) GROUP BY code
"""
_SUMS: Final = """
    count(*), coalesce(sum(r.input), 0), coalesce(sum(r.output), 0), coalesce(sum(r.cache_write_5m), 0),
    coalesce(sum(r.cache_write_1h), 0), coalesce(sum(r.cache_read), 0), coalesce(sum(r.cost), 0)
"""
_ALIKE_RESULTS: Final = (
    "r.batch, r.event, r.tier, r.verdict, r.model, s.result IS r.id AND s.state = :p1, r.input IS NOT NULL"
)
_OF_RUN: Final = "r.id BETWEEN :p2 AND :p3 AND r.row >= :p4 AND r.row < :p5"
_ALL_RESULTS: Final = f"SELECT {_SUMS} FROM result r WHERE {_OF_RUN}"  # noqa: S608 (constants)
_ONE_RESULT: Final = f"""
    SELECT {_ALIKE_RESULTS}, r.id FROM result r JOIN row_state s ON s.id = r.row WHERE {_OF_RUN} ORDER BY r.id LIMIT 1
"""  # noqa: S608 (constants)
_OTHER_RESULTS: Final = f"""
    SELECT {_ALIKE_RESULTS}, min(r.id), {_SUMS} FROM result r JOIN row_state s ON s.id = r.row
    WHERE {_OF_RUN} AND NOT (r.batch IS :p6 AND r.event = :p7 AND r.tier = :p8 AND r.verdict = :p9
        AND r.model = :p10 AND (s.result IS r.id AND s.state = :p1) = :p11 AND (r.input IS NOT NULL) = :p12)
    GROUP BY r.batch, r.model, (r.event << 24) | (r.tier << 16) | (r.verdict << 8)
        | ((s.result IS r.id AND s.state = :p1) << 1) | (r.input IS NULL)
"""  # noqa: S608 (constants)
_SLICE: Final = 4_000
"""Rows, or results, grouped at a time: to group is to sort, and what is read twice should still be in the page cache."""


class SQLiteRows(SQLiteBase):
    """The readers of `batchkit.storage.RowStore` on SQLite."""

    _pages: PageCache

    def tally(self, run: RunId) -> Tally:
        """Count the rows of a run by (state, reason, tier)."""
        first, end = row_id(run, 0), row_id(RunId(run + 1), 0)
        codes: Counter[int] = Counter()
        with self._db.read() as connection:
            last = connection.execute("SELECT max(id) FROM row_state WHERE id < ?", (end,)).fetchone()[0]
            common = connection.execute(_CODE, (first,)).fetchone()
            for low, high in _slices(first, last):
                # Most rows stand alike. They are what is left of all, so that only the others are sorted by code.
                code = common[0]
                (rows,) = connection.execute(_COUNT, (low, high)).fetchone()
                others = connection.execute(
                    _OTHERS, (low, high, code >> 16, code >> 8 & 255, code & 255)
                ).fetchall()
                codes.update(dict(others))
                codes[code] += rows - sum(n for _, n in others)
                common = max(codes.items(), key=itemgetter(1))
            codes = +codes
        return Tally(
            counts={
                (schema.ROW_STATES[code >> 8 & 255], schema.REASONS[code & 255], code >> 16): n
                for code, n in codes.items()
            }
        )

    def page(
        self, run: RunId, where: Where, *, after: RowId | None = None, limit: int = 1000
    ) -> Sequence[RowView]:
        """Give up to ``limit`` matching rows with an id above ``after``."""
        states, quarantined = schema.outcome_masks(where.outcomes)
        low = row_id(run, 0) - 1
        filters = (
            low if after is None else max(low, after),
            row_id(RunId(run + 1), 0),
            schema.state_mask(where.states),
            schema.reason_mask(where.reasons),
            schema.tier_mask(where.tiers),
            where.batch,
            where.batch,
            states,
            schema.state_code(RowState.QUARANTINED),
            quarantined,
            limit,
        )
        with self._db.read() as connection:
            wanted = "all" if where.results else "answer" if where.answers else ""
            if not wanted and (first := connection.execute(_PAGE[""], (*filters[:-1], 1)).fetchone()):
                alike = self._alike(connection, first, limit)
                if alike is not None:
                    return alike_views(partial(self._packed, connection), alike, first, source=where.source)
            found = connection.execute(_PAGE[wanted], filters).fetchall()
            if wanted == "answer" and not where.source:
                return answered_views(partial(self._packed, connection), found)
            return views(partial(self._packed, connection), found, source=where.source)

    def rows(self, ids: Sequence[RowId], *, source: bool = False, results: bool = False) -> Sequence[RowView]:
        """Give the rows with these ids, in the order asked for."""
        with self._db.read() as connection:
            if not results and ids and ids[-1] - ids[0] == len(ids) - 1:
                one: tuple[Any, ...] | None = connection.execute(_ONE, (ids[0],)).fetchone()
                alike = self._alike(connection, one, len(ids)) if one is not None else None
                if one is not None and alike is not None and list(ids) == list(alike):
                    return alike_views(partial(self._packed, connection), alike, one, source=source)
            found = connection.execute(_ROWS[results], (json.dumps(list(ids)),)).fetchall()
            if len(found) != len(ids):
                unknown = sorted(set(ids).difference(row[0] for row in found))
                raise StoreError(f"the store holds no row {', '.join(map(str, unknown[:10]))}")
            return views(partial(self._packed, connection), found, source=source)

    def locate(self, run: RunId, keys: Sequence[RowKey]) -> Mapping[RowKey, RowId]:
        """Give the id of each key the run holds."""
        wanted = frozenset(key for key in keys if key)
        found: defaultdict[str, list[int]] = defaultdict(list)
        with self._db.read() as connection:
            for position, held in self._keys(connection, run):
                if not wanted.isdisjoint(held):
                    for offset, key in enumerate(held):
                        if key in wanted:
                            found[key].append(row_id(run, position + offset))
            return {RowKey(key): self._original(connection, ids) for key, ids in found.items()}

    def digests(self, run: RunId) -> Sequence[Digest]:
        """Give the digest of each frozen source page in order."""
        with self._db.read() as connection:
            return [Digest(digest) for (digest,) in self._page_column(connection, run, "digest")]

    def results(
        self, run: RunId, *, after: ResultId | None = None, limit: int = 1000
    ) -> Sequence[ResultView]:
        """Give up to ``limit`` results of a run's rows, in the order they were settled."""
        with self._db.read() as connection:
            found = connection.execute(
                _RESULTS, (after or 0, row_id(run, 0), row_id(RunId(run + 1), 0), limit)
            ).fetchall()
        return [result_view(*row) for row in found]

    def settled_order(self, results: Sequence[ResultId]) -> Sequence[int]:
        """Give, for each result, a number of which the higher was settled later: here its id."""
        with self._db.read() as connection:
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM result").fetchone()
        if unknown := [result for result in results if not 0 < result <= last]:
            raise StoreError(f"the store holds no result {unknown[0]}")
        return results

    def ledger(self, run: RunId) -> Sequence[LedgerLine]:
        """Count and sum the results of a run that are alike."""
        staged, first, end = schema.state_code(RowState.SUCCEEDED), row_id(run, 0), row_id(RunId(run + 1), 0)
        sums: dict[tuple[Any, ...], list[int]] = {}
        eldest: dict[tuple[Any, ...], int] = {}
        common: tuple[Any, ...] = ()
        with self._db.read() as connection:
            last = connection.execute("SELECT max(id) FROM result").fetchone()[0]
            for low, high in _slices(1, last):
                of_run = (staged, low, high, first, end)
                rest = list(connection.execute(_ALL_RESULTS, numbered(*of_run)).fetchone())
                if not rest[0]:
                    continue
                # Most results are alike. They are what is left of all, so that only the others are sorted into groups.
                if not common:
                    found = connection.execute(_ONE_RESULT, numbered(*of_run)).fetchone()
                    common = found[:7]
                    eldest[common] = found[7]
                for found in connection.execute(_OTHER_RESULTS, numbered(*of_run, *common)).fetchall():
                    eldest.setdefault(found[:7], found[7])
                    _add(sums, found[:7], found[8:])
                    rest = [n - other for n, other in zip(rest, found[8:], strict=True)]
                _add(sums, common, rest)
                common = max(sums, key=lambda alike: sums[alike][0])
            names = dict(connection.execute("SELECT id, text FROM name"))
        return [
            LedgerLine(
                None if batch is None else BatchId(batch),
                schema.ROW_EVENTS[event],
                tier,
                schema.REASONS[verdict],
                names[model],
                bool(stands),
                results,
                Usage(*tokens) if told else None,
                cost,
            )
            for alike, (results, *tokens, cost) in sorted(sums.items(), key=lambda item: eldest[item[0]])
            for batch, event, tier, verdict, model, stands, told in [alike]
        ]

    def _page_column(self, connection: sqlite3.Connection, run: RunId, column: str) -> list[tuple[Any]]:
        statement = {
            "digest": "SELECT digest FROM source_page WHERE id >= ? AND id < ? ORDER BY id",
            "id": "SELECT id FROM source_page WHERE id >= ? AND id < ? ORDER BY id",
        }[column]
        return connection.execute(statement, (row_id(run, 0), row_id(RunId(run + 1), 0))).fetchall()

    def _keys(self, connection: sqlite3.Connection, run: RunId) -> Iterator[tuple[int, list[str]]]:
        for n, page in enumerate(self._page_column(connection, run, "id")):
            (keys,) = connection.execute("SELECT keys FROM source_page WHERE id = ?", page).fetchone()
            yield n * PAGE, parse(keys)

    def _original(self, connection: sqlite3.Connection, ids: Sequence[int]) -> RowId:
        if len(ids) > 1:
            found = connection.execute(
                "SELECT min(s.id) FROM json_each(?) j JOIN row_state s ON s.id = j.value WHERE s.reason <> ?",
                (json.dumps(ids), schema.reason_code(Reason.INPUT_DUPLICATE_KEY)),
            ).fetchone()[0]
            if found is not None:
                return RowId(found)
        return RowId(ids[0])

    def _packed(self, connection: sqlite3.Connection, page: int) -> PackedPage:
        self._pages.trim()  # what was read of the page before counts by now
        kept = self._pages.get(page)
        if kept is not None:
            return kept
        keys, sizes, digest = connection.execute(
            "SELECT keys, sizes, (SELECT digest FROM run WHERE id = ?) FROM source_page WHERE id = ?",
            (run_of(RowId(page)), page),
        ).fetchone()

        def load() -> bytes:
            return bytes(
                connection.execute("SELECT lines FROM source_page WHERE id = ?", (page,)).fetchone()[0]
            )

        packed = PackedPage(keys, sizes, load)
        if digest is not None:  # before the seal, pages may still be dropped and frozen anew
            self._pages.keep(page, packed)
        return packed

    def _alike(self, connection: sqlite3.Connection, first: tuple[Any, ...], count: int) -> range | None:
        """Give the ids of the ``count`` rows from this one on, if all of them stand as it does."""
        id_, *values = first
        last = id_ + count - 1
        (alike,) = connection.execute(_ALIKE, (id_, last, *values)).fetchone()
        return range(id_, last + 1) if alike == count else None


def _add(sums: dict[tuple[Any, ...], list[int]], alike: tuple[Any, ...], more: Sequence[int]) -> None:
    known = sums.setdefault(alike, [0] * len(more))
    known[:] = [n + other for n, other in zip(known, more, strict=True)]


def _slices(first: int, last: int | None) -> Iterator[tuple[int, int]]:
    """Cut ``first`` to ``last`` into slices, each as its first and its last number; None has no slice."""
    for low in range(first, (last or 0) + 1, _SLICE):
        yield low, min(low + _SLICE - 1, last or 0)

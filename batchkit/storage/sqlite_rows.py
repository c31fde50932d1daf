"""Frozen source records and the state of each, in SQLite."""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_left
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any, Final

from batchkit.errors import DuplicateKeys, RowsChanged, StoreError, UsageError
from batchkit.ids import MAX_ROWS, BatchId, Digest, ResultId, RowId, RowKey, RunId, row_id, run_of
from batchkit.model import PAGE, Lease, ResultView, RowView, Run, Seal, SourceRow, Tally, Usage, Where
from batchkit.reasons import Reason
from batchkit.states import RowEvent, RowState, RunState, after, check_run
from batchkit.storage import schema
from batchkit.storage.pages import (
    PackedPage,
    encode_keys,
    join_lines,
    locate,
    pack,
    page_digest,
    parse,
    run_digest,
)
from batchkit.storage.seal import repeats
from batchkit.storage.sqlite_base import SQLiteBase, as_run, bounds

_STATE = "SELECT s.id, s.state, s.reason, s.tier, s.tries, s.resends, s.batch, s.result, s.cost, s.answers"
_RESULT = """,
    coalesce(r.detail, f.detail, ''), r.answer, r.input, r.output, r.cache_write_5m, r.cache_write_1h, r.cache_read,
    coalesce(m.text, ''), coalesce(b.text, '')
"""
_RESULT_JOIN = """
    LEFT JOIN result r ON r.id = s.result LEFT JOIN refusal f ON f.row = s.id
    LEFT JOIN name m ON m.id = r.model LEFT JOIN name b ON b.id = r.by
"""
_FILTER = """
    WHERE s.id > ? AND s.id < ? AND ((? >> s.state) & 1) AND ((? >> s.reason) & 1) AND ((? >> s.tier) & 1)
    AND (?6 IS NULL OR s.batch = ?6) AND ((? >> s.state) & 1) AND (s.state <> ? OR ((? >> s.reason) & 1))
    ORDER BY s.id LIMIT ?
"""
# By (source of rows, results wanted): whole statements, put together once from the constants above.
_PAGE: Final = {
    False: _STATE + " FROM row_state s" + _FILTER,
    True: _STATE + _RESULT + " FROM row_state s" + _RESULT_JOIN + _FILTER,
}
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
_FREEZE: Final = """
    INSERT INTO row_state SELECT ?1 + value, ?2, 0, 0, 0, 0, NULL, NULL, 0, 0 FROM json_each(?3) WHERE value < ?4
"""
_OFFSETS: Final = json.dumps(list(range(PAGE)))
_KEPT: Final = 4
_POSITION: Final = MAX_ROWS - 1
_NO_RESULT: Final = ("", None, None, "", "")
# What the classes' own constructors do, without their Python frame per row.
_new_view: Final[Callable[[Iterable[Any]], RowView]] = partial(tuple.__new__, RowView)
_new_usage: Final[Callable[[Iterable[Any]], Usage]] = partial(tuple.__new__, Usage)


class SQLiteRows(SQLiteBase):
    """`batchkit.storage.RowStore` on SQLite."""

    _pages: OrderedDict[int, PackedPage]

    def freeze(self, lease: Lease, page: Sequence[SourceRow], *, seal: Seal | None = None) -> int:
        """Append a page of source records; with a seal, check the keys and open the run."""
        refused: DuplicateKeys | None = None
        with self._db.write() as connection:
            run = self._fence(connection, lease)
            if page:
                run = self._add(connection, run, page)
            if seal is not None:
                self._check_end(run, page, seal)
                if run.state is RunState.FREEZING:
                    try:
                        self._seal(connection, run, seal)
                    except DuplicateKeys as error:  # the drop must be committed, so the raise waits
                        self._drop(connection, run)
                        refused = error
        if refused is not None:
            raise refused
        return run.rows

    def tally(self, run: RunId) -> Tally:
        """Count the rows of a run by (state, reason, tier)."""
        first, end = row_id(run, 0), row_id(RunId(run + 1), 0)
        with self._db.read() as connection:
            # One integer to group by: sorting three columns costs half as much again.
            found = connection.execute(
                "SELECT (tier << 16) | (state << 8) | reason AS code, count(*) FROM row_state "
                "WHERE id >= ? AND id < ? GROUP BY code",
                (first, end),
            ).fetchall()
        return Tally(
            counts={
                (schema.ROW_STATES[code >> 8 & 255], schema.REASONS[code & 255], code >> 16): n
                for code, n in found
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
            states,
            schema.state_code(RowState.QUARANTINED),
            quarantined,
            limit,
        )
        with self._db.read() as connection:
            found = connection.execute(_PAGE[where.results], filters).fetchall()
            return self._views(connection, found, source=where.source)

    def rows(self, ids: Sequence[RowId], *, source: bool = False, results: bool = False) -> Sequence[RowView]:
        """Give the rows with these ids, in the order asked for."""
        with self._db.read() as connection:
            found = connection.execute(_ROWS[results], (json.dumps(list(ids)),)).fetchall()
            if len(found) != len(ids):
                unknown = sorted(set(ids).difference(row[0] for row in found))
                raise StoreError(f"the store holds no row {', '.join(map(str, unknown[:10]))}")
            return self._views(connection, found, source=source)

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
        return [_result(*row) for row in found]

    def _add(self, connection: sqlite3.Connection, run: Run, page: Sequence[SourceRow]) -> Run:
        positions, keys, lines, sizes, events, *_ = zip(*page, strict=True)
        first, count = positions[0], len(page)
        if first % PAGE or count > PAGE or positions != tuple(range(first, first + count)):
            raise UsageError(
                f"a page holds up to {PAGE} records in order from a multiple of {PAGE}; this one starts at {first}"
            )
        joined = join_lines(lines)
        digest = page_digest(joined)
        if first < run.rows:
            self._compare(connection, run, first, lines, digest)
            return run
        if run.state is not RunState.FREEZING:
            raise RowsChanged(
                f"the source gives more than the {run.rows} records that run {run.name!r} was sealed with; "
                "nothing was changed. Start another run for the new records."
            )
        if first > run.rows:
            raise UsageError(f"the run holds {run.rows} records; the next page starts there, not at {first}")
        base = row_id(run.id, first)
        connection.execute(
            "INSERT INTO source_page (id, count, digest, sizes, keys, lines) VALUES (?, ?, ?, ?, ?, ?)",
            (base, count, digest, pack(sizes), encode_keys(keys), joined),
        )
        connection.execute(_FREEZE, (base, schema.state_code(RowState.PENDING), _OFFSETS, count))
        if any(event is not RowEvent.FROZEN for event in events):
            self._mark(connection, run, [row for row in page if row.event is not RowEvent.FROZEN])
        return as_run(
            connection.execute(
                "UPDATE run SET rows = ? WHERE id = ? RETURNING *", (first + count, run.id)
            ).fetchall()[0]
        )

    def _mark(self, connection: sqlite3.Connection, run: Run, page: Iterable[SourceRow]) -> None:
        """Bring the records that did not simply become PENDING to where their events lead."""
        for row in page:
            to, id_ = after(None, row.event), row_id(run.id, row.position)
            connection.execute(
                "UPDATE row_state SET state = ?, reason = ?, result = ? WHERE id = ?",
                (schema.state_code(to), schema.reason_code(row.reason), row.result, id_),
            )
            if row.detail:
                connection.execute(
                    "INSERT INTO refusal (row, detail) VALUES (?, ?)", (id_, clean(row.detail))
                )

    def _compare(
        self, connection: sqlite3.Connection, run: Run, first: int, lines: Sequence[bytes], digest: Digest
    ) -> None:
        held, text = connection.execute(
            "SELECT digest, lines FROM source_page WHERE id = ?", (row_id(run.id, first),)
        ).fetchone()
        if held == digest:
            return
        frozen = bytes(text).split(b"\n")
        differs = next(
            (n for n, (a, b) in enumerate(zip(frozen, lines, strict=False)) if a != b),
            min(len(frozen), len(lines)),
        )
        raise RowsChanged(
            f"the source gives other records than run {run.name!r} froze, from record {first + differs} on "
            "(counted from 0); nothing was changed. Give the same source, or start another run."
        )

    def _check_end(self, run: Run, page: Sequence[SourceRow], seal: Seal) -> None:
        given = page[-1].position + 1 if page else seal.count
        if seal.count is not None:
            given = seal.count
        if given is not None and given != run.rows:
            raise RowsChanged(
                f"the source ends after {given} records, run {run.name!r} froze {run.rows}; nothing was changed. "
                "Give the same source, or start another run."
            )

    def _seal(self, connection: sqlite3.Connection, run: Run, seal: Seal) -> None:
        check_run(run.state, RunState.OPEN)

        def line(position: int) -> bytes:
            place = locate(row_id(run.id, position))
            return self._packed(connection, place.page).lines()[place.offset]

        marked = repeats(lambda: self._keys(connection, run.id), line, seal.on_duplicate)
        repeat = schema.reason_code(Reason.INPUT_DUPLICATE_KEY)
        quarantined = schema.state_code(RowState.QUARANTINED)
        connection.executemany(
            # A record refused before keeps its reason.
            "UPDATE row_state SET state = ?, reason = ?, result = NULL WHERE id = ? AND state <> ?",
            ((quarantined, repeat, row_id(run.id, position), quarantined) for position in marked),
        )
        digest = run_digest(digest for (digest,) in self._page_column(connection, run.id, "digest"))
        connection.execute(
            "UPDATE run SET state = ?, digest = ? WHERE id = ?", (RunState.OPEN.value, digest, run.id)
        )

    def _drop(self, connection: sqlite3.Connection, run: Run) -> None:
        span = bounds(run)
        connection.execute("DELETE FROM row_state WHERE id >= ? AND id < ?", span)
        connection.execute("DELETE FROM source_page WHERE id >= ? AND id < ?", span)
        connection.execute("DELETE FROM refusal WHERE row >= ? AND row < ?", span)
        connection.execute("UPDATE run SET rows = 0 WHERE id = ?", (run.id,))

    def _page_column(self, connection: sqlite3.Connection, run: RunId, column: str) -> Iterator[tuple[Any]]:
        statement = {
            "digest": "SELECT digest FROM source_page WHERE id >= ? AND id < ? ORDER BY id",
            "keys": "SELECT keys FROM source_page WHERE id >= ? AND id < ? ORDER BY id",
        }[column]
        return connection.execute(statement, (row_id(run, 0), row_id(RunId(run + 1), 0)))

    def _keys(self, connection: sqlite3.Connection, run: RunId) -> Iterator[tuple[int, list[str]]]:
        for n, (keys,) in enumerate(self._page_column(connection, run, "keys")):
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
        held = self._pages.get(page)
        if held is not None:
            self._pages.move_to_end(page)
            return held
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
            self._pages[page] = packed
            if len(self._pages) > _KEPT:
                self._pages.popitem(last=False)
        return packed

    def _views(
        self, connection: sqlite3.Connection, found: Sequence[tuple[Any, ...]], *, source: bool
    ) -> list[RowView]:
        asked = [row[0] for row in found]
        ids = sorted(asked)
        if ids == asked:
            return self._views_in_order(connection, ids, found, source=source)
        order = sorted(range(len(asked)), key=asked.__getitem__)
        views: list[Any] = [None] * len(found)
        made = self._views_in_order(connection, ids, [found[n] for n in order], source=source)
        for n, view in zip(order, made, strict=True):
            views[n] = view
        return views

    def _views_in_order(
        self,
        connection: sqlite3.Connection,
        ids: Sequence[int],
        found: Sequence[tuple[Any, ...]],
        *,
        source: bool,
    ) -> list[RowView]:
        views: list[RowView] = []
        low = 0
        while low < len(ids):
            page = ids[low] - (ids[low] & _POSITION) % PAGE
            high = bisect_left(ids, page + PAGE, low)
            views.extend(_page_views(self._packed(connection, page), page, found[low:high], source=source))
            low = high
        return views


def clean(text: str) -> str:
    """Give text that UTF-8 can hold: halves of surrogate pairs become escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _page_views(
    packed: PackedPage, page: int, found: Sequence[tuple[Any, ...]], *, source: bool
) -> Iterator[RowView]:
    """Make the views of rows of one page: column by column, because a call per row would double the cost."""
    ids, states, reasons, tiers, tries, resends, batches, results, costs, answers, *result = zip(
        *found, strict=True
    )
    offsets = [id_ - page for id_ in ids]
    fields = packed.fields(offsets) if source else repeat(None)
    latest: tuple[Iterable[Any], ...] = tuple(map(repeat, _NO_RESULT))
    if result:
        details, texts, *usage, models, people = result
        latest = (details, texts, map(_usage, zip(*usage, strict=True)), models, people)
    return map(
        _new_view,
        zip(
            ids,
            map(packed.keys.__getitem__, offsets),
            map(schema.ROW_STATES.__getitem__, states),
            map(schema.REASONS.__getitem__, reasons),
            tiers,
            tries,
            resends,
            map(packed.sizes.__getitem__, offsets),
            batches,
            results,
            costs,
            answers,
            fields,
            *latest,
            strict=False,  # what is the same for all is given without end
        ),
    )


def _usage(tokens: tuple[Any, ...]) -> Usage | None:
    return None if tokens[0] is None else _new_usage(tokens)


def _result(
    id_: int,
    row: int,
    batch: int | None,
    event: int,
    tier: int,
    verdict: int,
    detail: str,
    answer: bytes | None,
    *rest: Any,
) -> ResultView:
    *tokens, cost, model, by = rest
    return ResultView(
        ResultId(id_),
        RowId(row),
        None if batch is None else BatchId(batch),
        schema.ROW_EVENTS[event],
        tier,
        schema.REASONS[verdict],
        detail,
        answer,
        None if tokens[0] is None else Usage(*tokens),
        cost,
        model,
        by,
    )

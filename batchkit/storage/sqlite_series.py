"""What a series of runs staged last, by key, in SQLite: found again without reading its runs.

One narrow row a key, however many runs there were. It follows the results: those settled since the last look are
read once, so a night costs what it staged, and a person's late answer to an old run is not overlooked.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Any, Final, cast

from batchkit.ids import Digest, ResultId, RowId, RunId, row_id
from batchkit.model import Lease, SourceRow
from batchkit.states import RowState
from batchkit.storage import schema
from batchkit.storage.pages import content_hash, key_hash, locate
from batchkit.storage.sqlite_rows import SQLiteRows

_TOUCHED: Final = "SELECT DISTINCT row >> 32 FROM result WHERE id > ? AND id <= ?"
_STAGED: Final = """
    SELECT id FROM row_state WHERE id >= ? AND id < ? AND state = ? AND result > ? AND result <= ? ORDER BY id LIMIT ?
"""
# A late answer to an old run does not replace what a newer run staged.
_KEEP: Final = """
    INSERT INTO last_staged (series, key, row, content) VALUES (?, ?, ?, ?)
    ON CONFLICT (series, key) DO UPDATE SET row = excluded.row, content = excluded.content
    WHERE excluded.row >= last_staged.row
"""
# The row itself has the last word: an answer may have been undone since.
_FIND: Final = """
    SELECT j.key, l.content, s.result FROM json_each(?) j
    CROSS JOIN last_staged l ON l.series = ? AND l.key = j.value
    CROSS JOIN row_state s ON s.id = l.row AND s.state = ?
"""
_SUCCEEDED: Final = schema.state_code(RowState.SUCCEEDED)
_SORTED: Final = 100_000
"""Rows sorted at a time: in the order of their hashes they touch each page of the table once."""


class SQLiteSeries(SQLiteRows):
    """``index_staged`` and ``find_staged`` of `batchkit.storage.RowStore` on SQLite."""

    def index_staged(self, lease: Lease, runs: Sequence[RunId]) -> None:
        """Bring the index of a series up to date with what its runs have staged."""
        if not runs:
            return
        series = min(runs)
        with self._db.write() as connection:
            self._fence(connection, lease)
            (known,) = connection.execute(
                "SELECT coalesce(max(until), 0) FROM series WHERE run = ?", (series,)
            ).fetchone()
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM result").fetchone()
            touched = {run for (run,) in connection.execute(_TOUCHED, (known, last)).fetchall()}
            for run in sorted(touched.intersection(runs)):
                staged = self._staged(connection, RunId(run), known, last)
                while some := list(islice(staged, _SORTED)):
                    connection.executemany(_KEEP, [(series, *one) for one in sorted(some)])
            connection.execute(
                "INSERT INTO series (run, until) VALUES (?, ?) ON CONFLICT (run) DO UPDATE SET until = excluded.until",
                (series, last),
            )

    def _staged(
        self, connection: sqlite3.Connection, run: RunId, known: int, last: int
    ) -> Iterator[tuple[int, int, bytes]]:
        """Give what a run staged: hash of the key, row, and hash of spec and content."""
        spec = self._run(connection, run).spec
        places = ((id_, locate(id_)) for id_ in self._staged_rows(connection, run, known, last))
        for page, members in groupby(places, key=lambda member: member[1].page):
            packed = self._packed(connection, page)
            lines = packed.lines()
            for id_, place in members:
                line = lines[place.offset]
                yield key_hash(packed.keys[place.offset]), id_, content_hash(spec, line)
            self._pages.trim()

    def _staged_rows(
        self, connection: sqlite3.Connection, run: RunId, known: int, last: int
    ) -> Iterator[RowId]:
        low, end = row_id(run, 0), row_id(RunId(run + 1), 0)
        bounds = (end, _SUCCEEDED, known, last, _SORTED)
        while found := connection.execute(_STAGED, (low, *bounds)).fetchall():
            for (id_,) in found:
                yield RowId(id_)
            low = RowId(found[-1][0] + 1)

    def find_staged(
        self, series: RunId, spec: Digest, page: Sequence[SourceRow]
    ) -> Sequence[ResultId | None]:
        """Give for each record the result that the series staged last for its key, if record and spec are the same."""
        hashes = [key_hash(row.key) for row in page]
        results: list[ResultId | None] = [None] * len(page)
        with self._db.read() as connection:
            found: list[tuple[Any, ...]] = connection.execute(
                _FIND, (json.dumps(hashes), series, _SUCCEEDED)
            ).fetchall()
        for n, held, result in found:
            if held == content_hash(spec, page[n].line):
                results[n] = cast("ResultId", result)
        return results

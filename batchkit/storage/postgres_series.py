"""What a series of runs staged last, by key, in PostgreSQL: found again without reading its runs.

One narrow row a key, however many runs there were. It follows the results of each run: those settled since the last
look are read once, so a night costs what it staged, and a person's late answer to an old run is not overlooked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Final

from batchkit.ids import Digest, ResultId, RowId, RunId, row_id
from batchkit.model import Lease, SourceRow
from batchkit.states import RowState
from batchkit.storage import schema
from batchkit.storage.pages import content_hash, key_hash, locate
from batchkit.storage.postgres_database import Transaction
from batchkit.storage.postgres_rows import PostgresRows

_TOUCHED: Final = """
    SELECT r.id, r.spec, coalesce(s.until, 0), r.results FROM run r
    LEFT JOIN series s ON s.series = %(series)s AND s.run = r.id
    WHERE r.id = ANY(%(runs)s::bigint[]) AND r.results > coalesce(s.until, 0) ORDER BY r.id
"""
_FOLLOWED: Final = """
    INSERT INTO series (series, run, until) VALUES (%s, %s, %s)
    ON CONFLICT (series, run) DO UPDATE SET until = excluded.until
"""
_STAGED: Final = """
    SELECT id FROM row_state WHERE id > %s AND id < %s AND CASE WHEN state <> %s THEN false ELSE result > %s AND result <= %s END
    ORDER BY id LIMIT %s
"""
# A late answer to an old run does not replace what a newer run staged.
_KEEP: Final = """
    INSERT INTO last_staged (series, key, "row", content)
    SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[])
    ON CONFLICT (series, key) DO UPDATE SET "row" = excluded."row", content = excluded.content
    WHERE excluded."row" >= last_staged."row"
"""
# The row itself has the last word: an answer may have been undone since.
_FIND: Final = """
    SELECT j.number - 1, l.content, s.result FROM unnest(%s::bigint[]) WITH ORDINALITY AS j (key, number)
    JOIN last_staged l ON l.series = %s AND l.key = j.key
    JOIN row_state s ON s.id = l."row" AND s.state = %s
"""
_SUCCEEDED: Final = schema.state_code(RowState.SUCCEEDED)
_AT_ONCE: Final = 10_000
"""Rows read, and keys kept, at a time."""


class PostgresSeries(PostgresRows):
    """``index_staged`` and ``find_staged`` of `batchkit.storage.RowStore` on PostgreSQL."""

    def index_staged(self, lease: Lease, runs: Sequence[RunId]) -> None:
        """Bring the index of a series up to date with what its runs have staged."""
        if not runs:
            return
        series = min(runs)
        with self._db.write() as transaction:
            self._fence(transaction, lease)
            touched = transaction.all(_TOUCHED, {"series": series, "runs": list(runs)})
            for run, spec, known, last in touched:
                staged = self._staged(transaction, RunId(run), spec, known, last)
                while some := {key: (key, row, content) for key, row, content in islice(staged, _AT_ONCE)}:
                    columns = zip(*sorted(some.values()), strict=True)
                    transaction.change(_KEEP, (series, *map(list, columns)))
                transaction.change(_FOLLOWED, (series, run, last))

    def find_staged(
        self, series: RunId, spec: Digest, page: Sequence[SourceRow]
    ) -> Sequence[ResultId | None]:
        """Give for each record the result that the series staged last for its key, if record and spec are the same."""
        results: list[ResultId | None] = [None] * len(page)
        with self._db.read() as transaction:
            found = transaction.all(_FIND, ([key_hash(row.key) for row in page], series, _SUCCEEDED))
        for n, held, result in found:
            if held == content_hash(spec, page[n].line):
                results[n] = ResultId(result)
        return results

    def _staged(
        self, transaction: Transaction, run: RunId, spec: Digest, known: int, last: int
    ) -> Iterator[tuple[int, int, bytes]]:
        """Give what a run staged: hash of the key, row, and hash of spec and content."""
        places = ((id_, locate(id_)) for id_ in self._staged_rows(transaction, run, known, last))
        for page, members in groupby(places, key=lambda member: member[1].page):
            packed = self._packed(transaction, page, source=True)
            lines = packed.lines()
            for id_, place in members:
                yield key_hash(packed.keys[place.offset]), id_, content_hash(spec, lines[place.offset])

    def _staged_rows(self, transaction: Transaction, run: RunId, known: int, last: int) -> Iterator[RowId]:
        low, end = row_id(run, 0) - 1, row_id(RunId(run + 1), 0)
        bounds = (end, _SUCCEEDED, row_id(run, known), row_id(run, last), _AT_ONCE)
        while found := transaction.all(_STAGED, (low, *bounds)):
            for (id_,) in found:
                yield RowId(id_)
            low = found[-1][0]

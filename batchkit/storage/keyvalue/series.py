"""What a series of runs staged last, by key, in an ordered map.

The index follows the results, as that of the built-in stores does: what was settled since the last look is read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from batchkit.ids import Digest, ResultId, RowId, RunId
from batchkit.model import PAGE, Lease, SourceRow
from batchkit.states import RowState
from batchkit.storage.keyvalue.entries import Entries, beyond, key
from batchkit.storage.keyvalue.packed import PackedRows, walk_rows
from batchkit.storage.keyvalue.rows import KeyValueRows, packed_pages
from batchkit.storage.pages import content_hash, key_hash
from batchkit.storage.schema import state_code

_SUCCEEDED = state_code(RowState.SUCCEEDED)


class KeyValueSeries(KeyValueRows):
    """``index_staged`` and ``find_staged`` of `batchkit.storage.RowStore` on an ordered map."""

    def index_staged(self, lease: Lease, runs: Sequence[RunId]) -> None:
        """Bring the index of a series up to date with what its runs have staged."""
        with self._write() as entries:
            self._fence(entries, lease)
            if not runs:
                return
            series, last = min(runs), entries.last("result")
            known = int(entries.one(key("series", series)) or b"0")
            for run in sorted(runs):
                news = entries.walk(key("settled", run, known + 1), beyond(key("settled", run)), 1)
                if next(news, None) is not None:
                    staged = self._staged(entries, series, run, known)
                    while some := dict(islice(staged, PAGE)):
                        # A late answer to an old run does not replace what a newer run staged.
                        held = entries.some(some)
                        entries.put({name: max(kept, held.get(name, b"")) for name, kept in some.items()})
            entries.put({key("series", series): b"%d" % last})

    def _staged(
        self, entries: Entries, series: RunId, run: RunId, known: int
    ) -> Iterator[tuple[bytes, bytes]]:
        """Give the entries of the index for what a run staged after a result: row, and hash of spec and content."""
        spec = self._held(entries, run).run.spec
        for page, rows in walk_rows(entries, run):
            ids = [id_ for id_, row in enumerate(rows, page) if row[0] == _SUCCEEDED and row[6] > known]
            if ids:
                packed = packed_pages(entries, ids, lines=True)(page)
                for id_ in ids:
                    key_, line = packed.keys[id_ - page], packed.lines()[id_ - page]
                    yield _staged_key(series, key_), id_.to_bytes(8, "big") + content_hash(spec, line)

    def find_staged(
        self, series: RunId, spec: Digest, page: Sequence[SourceRow]
    ) -> Sequence[ResultId | None]:
        """Give for each record the result that the series staged last for its key, if record and spec are the same."""
        names = [_staged_key(series, row.key) for row in page]
        with self._read() as entries:
            found = entries.some(names)
            rows = {name: RowId(int.from_bytes(held[:8], "big")) for name, held in found.items()}
            standing = PackedRows(entries, rows.values())
            results: list[ResultId | None] = []
            for name, record in zip(names, page, strict=True):
                result = None
                if found.get(name, b"")[8:] == content_hash(spec, record.line):
                    # The row itself has the last word: an answer may have been undone since.
                    row = standing[rows[name]]
                    result = ResultId(row.result) if row.state == _SUCCEEDED else None
                results.append(result)
            return results


def _staged_key(series: RunId, key_: str) -> bytes:
    return key("staged", series, key_hash(key_) % 2**64)

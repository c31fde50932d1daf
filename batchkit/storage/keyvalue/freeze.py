"""Freezing source records, and the seal, in an ordered map."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import attrs

from batchkit.digests import run_digest
from batchkit.errors import DuplicateKeys
from batchkit.ids import RunId, row_id
from batchkit.model import Lease, Run, Seal, SourceRow
from batchkit.reasons import Reason
from batchkit.states import RowState, RunState
from batchkit.storage.frozen import changed, check_end, check_next, frozen_page
from batchkit.storage.keyvalue.entries import Entries, key, of_run
from batchkit.storage.keyvalue.packed import PackedRows, frozen_rows
from batchkit.storage.keyvalue.rows import KeyValueRows
from batchkit.storage.pages import locate
from batchkit.storage.schema import reason_code, state_code
from batchkit.storage.seal import repeats

_QUARANTINED = state_code(RowState.QUARANTINED)
_REPEAT = reason_code(Reason.INPUT_DUPLICATE_KEY)


class KeyValueFreeze(KeyValueRows):
    """``freeze`` of `batchkit.storage.RowStore` on an ordered map."""

    def freeze(self, lease: Lease, page: Sequence[SourceRow], *, seal: Seal | None = None) -> int:
        """Append a page of source records; with a seal, check the keys and open the run."""
        refused: DuplicateKeys | None = None
        with self._write() as entries:
            run = self._fence(entries, lease)
            if page:
                run = self._add(entries, run, page)
            if seal is not None:
                check_end(run, page, seal)
                if run.state is RunState.FREEZING:
                    try:
                        self._seal(entries, run, seal)
                    except DuplicateKeys as error:  # the drop must be committed, so the raise waits
                        drop(entries, run.id)
                        self._change_run(entries, attrs.evolve(run, rows=0))
                        refused = error
        if refused is not None:
            raise refused
        return run.rows

    def _add(self, entries: Entries, run: Run, page: Sequence[SourceRow]) -> Run:
        made = frozen_page(page)
        first = row_id(run.id, made.first)
        if made.first < run.rows:
            held = entries.some([key("digest", first), key("lines", first)])
            if held[key("digest", first)] != made.digest.encode():
                raise changed(run, made, held[key("lines", first)])
            return run
        check_next(run, made.first)
        entries.put(
            {
                key("digest", first): made.digest.encode(),
                key("keys", first): made.keys,
                key("sizes", first): made.sizes,
                key("lines", first): made.lines,
                key("rows", first): frozen_rows(page),
                **{
                    key("refusal", row_id(run.id, row.position)): row.detail.encode("utf-8", "surrogatepass")
                    for row in made.marked
                    if row.detail
                },
            }
        )
        return self._change_run(entries, attrs.evolve(run, rows=made.first + made.records))

    def _seal(self, entries: Entries, run: Run, seal: Seal) -> None:
        @lru_cache(maxsize=16)
        def lines(page: int) -> list[bytes]:
            return (entries.one(key("lines", page)) or b"").split(b"\n")

        def line(position: int) -> bytes:
            page, offset = locate(row_id(run.id, position))
            return lines(page)[offset]

        marked = [
            row_id(run.id, position)
            for position in repeats(lambda: self._keys(entries, run.id), line, seal.on_duplicate)
        ]
        rows = PackedRows(entries, marked)
        for row in marked:
            if rows[row].state != _QUARANTINED:  # a record refused before keeps its reason
                rows[row] = rows[row]._replace(state=_QUARANTINED, reason=_REPEAT, result=0)
        rows.save()
        digest = run_digest(self._digests(entries, run.id))
        self._change_run(entries, attrs.evolve(run, state=RunState.OPEN, digest=digest))


def drop(entries: Entries, run: RunId) -> None:
    """Drop the records of a run."""
    for table in ("digest", "keys", "sizes", "lines", "rows", "refusal"):
        entries.delete(*of_run(table, run))

"""Settling what came back, in an ordered map."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from batchkit.ids import BatchId
from batchkit.model import Applied, Lease, Settled
from batchkit.states import ROW_TRANSITIONS
from batchkit.storage.keyvalue.batches import KeyValueBatches
from batchkit.storage.keyvalue.entries import key
from batchkit.storage.keyvalue.packed import PackedRows, Standing
from batchkit.storage.keyvalue.results import encode_result
from batchkit.storage.records import check_rows
from batchkit.storage.schema import reason_code, state_code
from batchkit.storage.settled import check_events, first_of_each


class KeyValueSettle(KeyValueBatches):
    """``settle`` of `batchkit.storage.BatchStore` on an ordered map."""

    def settle(
        self, lease: Lease, source: BatchId | None, page: Sequence[Settled], *, by: str = ""
    ) -> Applied:
        """Append one result per item and apply it to its row, if the row is still where the item takes it from."""
        check_events(page, source)
        ascending, ignored = first_of_each(page)
        with self._write() as entries:
            run = self._fence(entries, lease)
            batch = None if source is None else self._batch(entries, run, source)
            if not ascending:
                return Applied(applied=0)
            check_rows(run, ascending[0].row, ascending[-1].row)
            rows = PackedRows(entries, (item.row for item in ascending))
            applied = [item for item in ascending if _is_there(rows[item.row], item, source)]
            ignored += sorted({item.row for item in ascending} - {item.row for item in applied})
            if applied:
                last = entries.draw("result", len(applied))
                first = last - len(applied) + 1
                for result, item in enumerate(applied, first):
                    rows[item.row] = _after(rows[item.row], item, result)
                rows.save()
                entries.put({key("settled", run.id, last): b"%d" % first})
                entries.put(
                    {
                        key("result", id_): encode_result(item, source, by)
                        for id_, item in enumerate(applied, first)
                    }
                )
            if batch is not None:
                spent = batch.spent + sum(item.cost for item in applied)
                self._keep_batch(entries, attrs.evolve(batch, lines=batch.lines + len(applied), spent=spent))
        return Applied(applied=len(applied), ignored=tuple(sorted(ignored)))


def _is_there(row: Standing, item: Settled, source: BatchId | None) -> bool:
    """Tell whether a row is where the item takes it from. One that is SUBMITTED must be in the batch; others are in none."""
    origin, _ = ROW_TRANSITIONS[item.event]
    return origin is not None and row.state == state_code(origin) and row.batch in (0, source or 0)


def _after(row: Standing, item: Settled, result: int) -> Standing:
    """Tell where a row stands after the item, which is its newest result now."""
    billed = item.usage is not None
    return Standing(
        state_code(ROW_TRANSITIONS[item.event][1]),
        reason_code(item.reason),
        item.tier,
        item.tries,
        item.resends,
        0,
        result,
        row.cost + (item.cost if billed else 0),
        row.answers + billed,
    )

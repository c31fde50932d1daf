"""The promises at the size of a real job: nothing is cut off, twice or out of order among many rows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

from batchkit.ids import ResultId, RowId, RowKey, row_id
from batchkit.model import PAGE, BatchWhere, Seal, Settled, Where
from batchkit.reasons import Reason
from batchkit.states import BatchState, RowEvent, RowState
from batchkit.storage import Store
from batchkit.testing.store_contract.base import (
    USAGE,
    Opened,
    StoreCase,
    a_run,
    accepted,
    an_intent,
    record,
    the_run,
)


class VolumeContract(StoreCase):
    """A run of many rows, from the first page to the last result."""

    volume: int = 20_000
    """How many rows; 100,000 in ``nox -s contract``."""

    def test_many_rows_are_frozen_and_read(self, store: Store) -> None:
        """Of many rows each is counted, paged and located once, and keys that repeat far apart are found."""
        opened = _frozen(store, self.volume)
        last, first = self.volume - 1, row_id(opened.run.id, 0)
        assert the_run(opened).rows == self.volume
        assert len(store.digests(opened.run.id)) == -(-self.volume // PAGE)
        duplicate = (RowState.QUARANTINED, Reason.INPUT_DUPLICATE_KEY, 0)
        assert store.tally(opened.run.id).counts == {
            (RowState.PENDING, None, 0): self.volume - 1,
            duplicate: 1,
        }
        ids = [row for row, _ in _paged(opened, Where())]
        assert ids == list(range(first, first + self.volume))
        keys = [RowKey(f"k{n}") for n in range(0, last, 997)]
        assert store.locate(opened.run.id, keys) == {key: first + int(key[1:]) for key in keys}
        (row,) = store.page(opened.run.id, Where(states=frozenset({RowState.QUARANTINED})))
        assert (row.id, row.key) == (first + last, "k7")

    def test_many_rows_are_sent_and_settled(self, store: Store) -> None:
        """Of many rows, sent in a few batches and settled in any order, each has its one result, and sums agree."""
        opened = _frozen(store, self.volume)
        rng, sent = random.Random(1), self.volume - 1
        third = -(-sent // 3)
        for number, low in enumerate(range(0, sent, third)):
            rows = opened.ids(range(low, min(low + third, sent)))
            batch = opened.live(range(low, min(low + third, sent)), f"{number:08d}")
            assert list(store.members(batch.id).rows) == rows
            page = [_line(row) for row in rows]
            rng.shuffle(page)
            for start in range(0, len(page), 5_000):
                some = page[start : start + 5_000]
                assert store.settle(opened.lease, batch.id, some).applied == len(some)
            opened.move(batch, BatchState.LIVE, BatchState.ENDED)
        retried = len(range(0, sent, 10))
        assert store.tally(opened.run.id).counts == {
            (RowState.SUCCEEDED, None, 0): sent - retried,
            (RowState.PENDING, Reason.OUTPUT_EMPTY, 0): retried,
            (RowState.QUARANTINED, Reason.INPUT_DUPLICATE_KEY, 0): 1,
        }
        assert [(batch.lines, batch.spent) for batch in store.batches(BatchWhere())] == [
            (batch.count, batch.count * 7) for batch in store.batches(BatchWhere())
        ]
        results = Counter(row for row in _results(opened))
        assert results == Counter(opened.ids(range(sent)))
        ledger = store.ledger(opened.run.id)
        assert (sum(line.results for line in ledger), sum(line.cost for line in ledger)) == (sent, sent * 7)
        assert sum(line.usage.input for line in ledger if line.usage) == sent * USAGE.input
        assert sum(line.results for line in ledger if line.stands) == sent - retried
        staged = Where(states=frozenset({RowState.SUCCEEDED}), answers=True)
        assert [row for row, answer in _paged(opened, staged) if answer == b'{"n":%d}' % row] == [
            row for n, row in enumerate(opened.ids(range(sent))) if n % 10
        ]
        again = opened.intend(range(0, sent, 10), an_intent("zzzzzzzz"))
        assert again.count == retried


def _frozen(store: Store, volume: int) -> Opened:
    """Freeze so many records, of which the last has the key of another."""
    opened = a_run(store)
    for first in range(0, volume, PAGE):
        page = [record(n) for n in range(first, min(first + PAGE, volume))]
        if first + PAGE >= volume:
            page[-1] = record(volume - 1, "k7", {"text": "other"})
        store.freeze(opened.lease, page)
    store.freeze(opened.lease, [], seal=Seal(on_duplicate="first", count=volume))
    return opened


def _line(row: RowId) -> Settled:
    """Settle a row: every tenth is to be asked again."""
    if row % 2**32 % 10:
        return accepted(row, b'{"n":%d}' % row)
    empty = Reason.OUTPUT_EMPTY
    return accepted(row)._replace(event=RowEvent.RETRIED, reason=empty, verdict=empty)


def _paged(opened: Opened, where: Where) -> Iterator[tuple[RowId, bytes | None]]:
    after: RowId | None = None
    while page := opened.store.page(opened.run.id, where, after=after, limit=5_000):
        yield from ((row.id, row.answer) for row in page)
        after = page[-1].id


def _results(opened: Opened) -> Iterator[RowId]:
    after: ResultId | None = None
    while page := opened.store.results(opened.run.id, after=after, limit=5_000):
        yield from (result.row for result in page)
        after = page[-1].id

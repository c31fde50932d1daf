"""The promises about what a series of runs staged last."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from batchkit.errors import LeaseLost
from batchkit.ids import Digest, ResultId, RowId
from batchkit.model import NewRun, Settled, SourceRow
from batchkit.reasons import Reason
from batchkit.states import RowEvent
from batchkit.storage import Store
from batchkit.testing.store_contract.base import TTL, Opened, StoreCase, accepted, frozen, record

SPEC = Digest("ab" * 32)


class SeriesContract(StoreCase):
    """``index_staged`` and ``find_staged``."""

    def test_what_was_staged_is_found_by_key_spec_and_content(self, store: Store) -> None:
        """A record finds the result of its key; another content, another spec and an unknown key find none."""
        first = _night(store, 1, [record(0), record(1), record(2)], staged=[0, 1])
        second = _night(store, 2, [])
        second.store.index_staged(second.lease, [first.run.id])
        asked = [
            record(5, "k1", {"text": "record 1"}),
            record(0, "k0", {"text": "other"}),
            record(2),
            record(7),
        ]
        results = _results(first)
        assert store.find_staged(first.run.id, SPEC, asked) == [results[1], None, None, None]
        assert store.find_staged(first.run.id, Digest("cd" * 32), asked[:1]) == [None]

    def test_what_a_later_run_staged_counts(self, store: Store) -> None:
        """Of two runs that staged a key the later counts; a run without the key takes nothing away."""
        first = _night(store, 1, [record(0), record(1)], staged=[0, 1])
        changed = record(0, "k0", {"text": "changed"})
        second = _night(store, 2, [changed], staged=[0], nonce="bbbbbbbb")
        third = _night(store, 3, [])
        store.index_staged(third.lease, [second.run.id, first.run.id])
        found = store.find_staged(first.run.id, SPEC, [record(0), changed, record(1)])
        assert found == [None, _results(second)[0], _results(first)[1]]

    def test_what_is_settled_late_is_found_at_the_next_call(self, store: Store) -> None:
        """The index follows the results, also those of an old run; a newer run's stay before them."""
        first = _night(store, 1, [record(0), record(1)], staged=[], nonce="aaaaaaaa")
        changed = record(0, "k1", {"text": "changed"})
        second = _night(store, 2, [changed], staged=[0], nonce="bbbbbbbb")
        third = _night(store, 3, [])
        nights = [first.run.id, second.run.id]
        store.index_staged(third.lease, nights)
        assert store.find_staged(first.run.id, SPEC, [record(0)]) == [None]
        _stage(first, [0, 1])
        store.index_staged(third.lease, nights)
        found = store.find_staged(first.run.id, SPEC, [record(0), record(1), changed])
        assert found == [_results(first)[0], None, _results(second)[0]]

    def test_an_answer_that_was_undone_is_not_found(self, store: Store) -> None:
        """A row that went back to a person after it was indexed has no staged result."""
        first = _night(store, 1, [record(0)], staged=[])
        row = first.ids([0])[0]
        store.settle(first.lease, first.live([0]).id, [_to_human(row)])
        store.settle(first.lease, None, [accepted(row)._replace(event=RowEvent.ANSWERED, usage=None)], by="a")
        second = _night(store, 2, [])
        store.index_staged(second.lease, [first.run.id])
        assert store.find_staged(first.run.id, SPEC, [record(0)]) != [None]
        undone = _to_human(row)._replace(event=RowEvent.ANSWER_UNDONE)
        store.settle(first.lease, None, [undone], by="a")
        assert store.find_staged(first.run.id, SPEC, [record(0)]) == [None]

    def test_a_series_knows_nothing_of_another(self, store: Store) -> None:
        """Runs that were not named are not looked at."""
        first = _night(store, 1, [record(0)], staged=[])
        other = _night(store, 9, [record(0)], staged=[0], nonce="bbbbbbbb")
        second = _night(store, 2, [])
        store.index_staged(second.lease, [first.run.id])
        assert store.find_staged(first.run.id, SPEC, [record(0)]) == [None]
        store.index_staged(second.lease, [other.run.id])
        assert store.find_staged(other.run.id, SPEC, [record(0)]) == [_results(other)[0]]

    def test_the_index_is_kept_under_the_lease(self, store: Store) -> None:
        """Who lost the lease brings no index up to date."""
        first = _night(store, 1, [record(0)], staged=[0])
        second = _night(store, 2, [])
        store.release(second.lease)
        with pytest.raises(LeaseLost):
            store.index_staged(second.lease, [first.run.id])


def _night(
    store: Store,
    number: int,
    records: Sequence[SourceRow],
    *,
    staged: Sequence[int] = (),
    nonce: str = "aaaaaaaa",
) -> Opened:
    """Open a run and stage some of its records; without records it stays unsealed."""
    run, _ = store.open_run(NewRun(name=f"n#{number}", spec=SPEC))
    lease = store.acquire(run.id, "me", TTL)
    assert lease is not None
    opened = Opened(store=store, run=run, lease=lease)
    if records:
        opened = frozen(opened, records)
        if staged:
            _stage(opened, staged, nonce)
    return opened


def _stage(opened: Opened, positions: Sequence[int], nonce: str = "cccccccc") -> None:
    batch = opened.live(positions, nonce)
    opened.store.settle(opened.lease, batch.id, [accepted(row) for row in opened.ids(positions)])


def _to_human(row: RowId) -> Settled:
    return Settled(row, RowEvent.TO_HUMAN, Reason.OUTPUT_SPARSE, 0, 1, 0)


def _results(opened: Opened) -> list[ResultId | None]:
    rows = opened.store.rows(opened.ids(range(opened.run.rows)))
    return [row.result for row in rows]

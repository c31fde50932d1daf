"""The promises about freezing and sealing."""

from __future__ import annotations

import pytest

from batchkit.errors import DuplicateKeys, IllegalTransition, RowsChanged, UsageError
from batchkit.ids import row_id
from batchkit.model import PAGE, Seal, Where
from batchkit.reasons import Reason
from batchkit.states import RowEvent, RowState, RunState
from batchkit.storage import Store
from batchkit.testing.store_contract.base import StoreCase, a_run, an_open_run, frozen, record, the_run

DUPLICATE = Reason.INPUT_DUPLICATE_KEY
Q, P, H, U = RowState.QUARANTINED, RowState.PENDING, RowState.HUMAN, RowState.UNCHANGED


class FreezeContract(StoreCase):
    """``freeze`` of `batchkit.storage.RowStore`."""

    def test_pages_add_up(self, store: Store) -> None:
        """Each page gives the number of records held; they are in one bucket each at once."""
        opened = a_run(store)
        assert store.freeze(opened.lease, [record(n) for n in range(PAGE)]) == PAGE
        assert store.freeze(opened.lease, [record(n) for n in range(PAGE, PAGE + 3)]) == PAGE + 3
        assert the_run(opened).rows == PAGE + 3
        assert store.tally(opened.run.id).counts == {(P, None, 0): PAGE + 3}
        assert the_run(opened).state is RunState.FREEZING

    def test_state_follows_from_the_event(self, store: Store) -> None:
        """Frozen, refused, sparse and unchanged records are in the state their event leads to."""
        opened = frozen(
            a_run(store),
            [
                record(0),
                record(
                    1,
                    event=RowEvent.INPUT_REFUSED,
                    reason=Reason.INPUT_UNENCODABLE,
                    detail="field 'x' \ud800",
                ),
                record(2, event=RowEvent.INPUT_SPARSE, reason=Reason.INPUT_SPARSE),
                record(3, event=RowEvent.UNCHANGED)._replace(result=None),
            ],
        )
        rows = store.page(opened.run.id, Where(results=True))
        assert [(row.state, row.reason) for row in rows] == [
            (P, None),
            (Q, Reason.INPUT_UNENCODABLE),
            (H, Reason.INPUT_SPARSE),
            (U, None),
        ]
        assert rows[1].detail.startswith("field 'x' ")

    def test_an_event_that_freezes_nothing_is_refused(self, store: Store) -> None:
        """A record with an event of another moment raises IllegalTransition and the page is not kept."""
        opened = a_run(store)
        with pytest.raises(IllegalTransition):
            store.freeze(opened.lease, [record(0), record(1, event=RowEvent.ACCEPTED)])
        assert the_run(opened).rows == 0
        assert store.tally(opened.run.id).total == 0

    def test_a_page_held_already_changes_nothing(self, store: Store) -> None:
        """Freezing the same page again gives the same count and the same digests."""
        opened = a_run(store)
        page = [record(n) for n in range(PAGE)]
        store.freeze(opened.lease, page)
        store.freeze(opened.lease, [record(PAGE)])
        before = (store.digests(opened.run.id), store.tally(opened.run.id))
        assert store.freeze(opened.lease, page) == PAGE + 1
        assert (store.digests(opened.run.id), store.tally(opened.run.id)) == before

    def test_another_page_in_place_of_one_held_is_refused(self, store: Store) -> None:
        """A held page given with other content, or another length, raises RowsChanged that names the record."""
        opened = a_run(store)
        store.freeze(opened.lease, [record(n) for n in range(20)])
        changed = [record(n) for n in range(20)]
        changed[7] = record(7, fields={"text": "other"})
        for page in (changed, changed[:7], [record(n) for n in range(21)]):
            with pytest.raises(RowsChanged) as caught:
                store.freeze(opened.lease, page)
            assert f"record {20 if len(page) == 21 else 7}" in str(caught.value)
        assert the_run(opened).rows == 20

    def test_a_page_starts_where_the_last_ended(self, store: Store) -> None:
        """A gap, a page that is too long or out of step, and positions out of order are refused."""
        opened = a_run(store)
        for page in (
            [record(PAGE)],
            [record(1)],
            [record(n) for n in range(PAGE + 1)],
            [record(0), record(2)],
        ):
            with pytest.raises(UsageError):
                store.freeze(opened.lease, page)
        assert the_run(opened).rows == 0

    def test_digests_tell_pages_apart(self, store: Store) -> None:
        """Each page has a digest, in order, that depends on its content alone."""
        first = frozen(a_run(store, "a"), [record(n) for n in range(PAGE + 5)])
        again = frozen(a_run(store, "b"), [record(n) for n in range(PAGE + 5)])
        other = frozen(a_run(store, "c"), [record(n) for n in range(PAGE + 4)])
        assert len(store.digests(first.run.id)) == 2
        assert store.digests(first.run.id) == store.digests(again.run.id)
        assert store.digests(first.run.id)[0] == store.digests(other.run.id)[0]
        assert store.digests(first.run.id)[1] != store.digests(other.run.id)[1]
        assert the_run(first).digest == the_run(again).digest != the_run(other).digest

    def test_the_seal_opens_the_run(self, store: Store) -> None:
        """The seal may come with the last page; it fixes count and digest and the run is OPEN."""
        opened = a_run(store)
        assert store.freeze(opened.lease, [record(0), record(1)], seal=Seal()) == 2
        run = the_run(opened)
        assert (run.state, run.rows) == (RunState.OPEN, 2)
        assert run.digest is not None
        assert len(run.digest) == 64

    def test_nothing_can_be_sealed(self, store: Store) -> None:
        """A run without any record can be sealed."""
        opened = frozen(a_run(store), [])
        assert (opened.run.state, opened.run.rows) == (RunState.OPEN, 0)
        assert store.tally(opened.run.id).total == 0
        assert store.page(opened.run.id, Where(source=True)) == []

    def test_sealing_again_changes_nothing(self, store: Store) -> None:
        """The same pages and the seal again leave a sealed run as it is."""
        opened = an_open_run(store, 3)
        before = (opened.run.digest, store.tally(opened.run.id))
        assert store.freeze(opened.lease, [record(n) for n in range(3)], seal=Seal(count=3)) == 3
        assert (the_run(opened).digest, store.tally(opened.run.id)) == before

    def test_a_sealed_run_takes_no_further_record(self, store: Store) -> None:
        """More records after the seal raise RowsChanged."""
        opened = an_open_run(store, PAGE)
        with pytest.raises(RowsChanged):
            store.freeze(opened.lease, [record(PAGE)])
        assert the_run(opened).rows == PAGE

    def test_a_source_that_ends_early_is_refused(self, store: Store) -> None:
        """A seal for fewer records than are held raises RowsChanged and does not seal."""
        opened = a_run(store)
        pages = [[record(n) for n in range(PAGE)], [record(PAGE)]]
        for page in pages:
            store.freeze(opened.lease, page)
        with pytest.raises(RowsChanged):
            store.freeze(opened.lease, pages[0], seal=Seal())
        with pytest.raises(RowsChanged):
            store.freeze(opened.lease, [], seal=Seal(count=PAGE))
        assert the_run(opened).state is RunState.FREEZING

    @pytest.mark.parametrize("choice", ["refuse", "first", "quarantine"])
    def test_identical_repeats_keep_the_first(self, store: Store, choice: str) -> None:
        """Records equal but for their position are repeats of the first, whatever was chosen."""
        seal = Seal(on_duplicate=choice)  # type: ignore[arg-type]
        same = {"text": "same"}
        opened = frozen(
            a_run(store), [record(0, "a", same), record(1), record(2, "a", same), record(3, "a", same)], seal
        )
        rows = store.page(opened.run.id, Where())
        assert [(row.state, row.reason) for row in rows] == [
            (P, None),
            (P, None),
            (Q, DUPLICATE),
            (Q, DUPLICATE),
        ]

    def test_different_content_is_refused(self, store: Store) -> None:
        """The refusal names at most ten keys with their records, and drops what was frozen."""
        opened = a_run(store)
        records = [record(n, f"key-{n % 15}") for n in range(30)]
        with pytest.raises(DuplicateKeys) as caught:
            store.freeze(opened.lease, records, seal=Seal())
        assert sum(f"'key-{n}'" in str(caught.value) for n in range(15)) == 10
        assert "0, 15" in str(caught.value)
        assert "on_duplicate" in str(caught.value)
        run = the_run(opened)
        assert (run.state, run.rows, run.digest) == (RunState.FREEZING, 0, None)
        assert store.tally(opened.run.id).total == 0
        assert store.digests(opened.run.id) == []
        assert frozen(opened, [record(0)]).run.rows == 1

    def test_what_was_dropped_is_not_read_again(self, store: Store) -> None:
        """Records read before a refused seal are gone after it; readers see those frozen instead."""
        opened = a_run(store)
        store.freeze(opened.lease, [record(0, "a"), record(1, "a")])
        assert [row.fields for row in store.page(opened.run.id, Where(source=True))] == [
            {"text": "record 0"},
            {"text": "record 1"},
        ]
        with pytest.raises(DuplicateKeys):
            store.freeze(opened.lease, [], seal=Seal())
        assert store.page(opened.run.id, Where()) == []
        store.freeze(opened.lease, [record(0, "b", {"text": "new"})])
        assert [(row.key, row.fields) for row in store.page(opened.run.id, Where(source=True))] == [
            ("b", {"text": "new"})
        ]

    def test_first_keeps_the_first_record(self, store: Store) -> None:
        """With "first" the later records of a key become repeats, across pages too."""
        records = [record(n) for n in range(PAGE + 2)]
        records[PAGE + 1] = record(PAGE + 1, "k3", {"text": "other"})
        opened = frozen(a_run(store), records, Seal(on_duplicate="first"))
        refused = store.page(opened.run.id, Where(reasons=frozenset({DUPLICATE})))
        assert [row.id for row in refused] == [row_id(opened.run.id, PAGE + 1)]
        assert store.tally(opened.run.id).counts == {(P, None, 0): PAGE + 1, (Q, DUPLICATE, 0): 1}

    def test_quarantine_takes_all_of_a_key(self, store: Store) -> None:
        """With "quarantine" every record of a key with different content becomes a repeat."""
        records = [record(0, "a"), record(1), record(2, "a")]
        opened = frozen(a_run(store), records, Seal(on_duplicate="quarantine"))
        rows = store.page(opened.run.id, Where())
        assert [(row.state, row.reason) for row in rows] == [(Q, DUPLICATE), (P, None), (Q, DUPLICATE)]

    def test_records_without_a_key_are_no_repeats(self, store: Store) -> None:
        """Any number of records without a key keep the reason they were refused for."""
        refused = {"event": RowEvent.INPUT_REFUSED, "reason": Reason.INPUT_MISSING_KEY}
        opened = frozen(a_run(store), [record(n, "", {"text": str(n)}, **refused) for n in range(3)])  # type: ignore[arg-type]
        assert store.tally(opened.run.id).counts == {(Q, Reason.INPUT_MISSING_KEY, 0): 3}

    def test_a_refused_record_keeps_its_reason(self, store: Store) -> None:
        """A repeat that was refused for another reason keeps that; a sparse or unchanged one becomes a repeat."""
        same = {"text": "same"}
        opened = frozen(
            a_run(store),
            [
                record(0, "a", same),
                record(1, "a", same, RowEvent.INPUT_REFUSED, Reason.INPUT_TOO_LARGE),
                record(2, "a", same, RowEvent.INPUT_SPARSE, Reason.INPUT_SPARSE),
                record(3, "a", same, RowEvent.UNCHANGED),
            ],
        )
        assert [(row.state, row.reason) for row in store.page(opened.run.id, Where())] == [
            (P, None),
            (Q, Reason.INPUT_TOO_LARGE),
            (Q, DUPLICATE),
            (Q, DUPLICATE),
        ]

    def test_keys_are_taken_as_they_are(self, store: Store) -> None:
        """Keys that differ by case, space, or encoding are different keys."""
        keys = [
            "a",
            "A",
            "a ",
            " a",
            "\u00e9",
            "e\u0301",
            "a\nb",
            "a\tb",
            "1",
            "01",
            "\x00",
            "a\x00",
            '"',
            "\\",
            "😀",
        ]
        opened = frozen(a_run(store), [record(n, key) for n, key in enumerate(keys)])
        assert [row.key for row in store.page(opened.run.id, Where())] == keys
        assert store.tally(opened.run.id).counts == {(P, None, 0): len(keys)}

"""The promises about reading rows."""

from __future__ import annotations

import pytest

from batchkit.errors import StoreError
from batchkit.ids import ResultId, RowId, RowKey, row_id
from batchkit.model import PAGE, ResultView, Seal, Settled, Where
from batchkit.reasons import Reason
from batchkit.states import Outcome, RowEvent, RowState
from batchkit.storage import Store
from batchkit.testing.store_contract.base import (
    USAGE,
    Opened,
    StoreCase,
    a_run,
    accepted,
    an_open_run,
    frozen,
    record,
)

ODD: dict[str, str | None] = {"b": None, "a": 'é \u2028 😀 \x00 "\\ \n\r\t \x7f', "c": "", "\u00fc": "x"}


class RowContract(StoreCase):
    """The readers of `batchkit.storage.RowStore`."""

    def test_a_row_comes_back_as_it_was_frozen(self, store: Store) -> None:
        """Key, size and fields are those of the record, None and odd characters included."""
        rows = [record(0, "a b", ODD), record(1, "c", {"a": None})]
        opened = frozen(a_run(store), rows)
        given = store.page(opened.run.id, Where(source=True))
        assert [(row.id, row.key, row.size, row.fields) for row in given] == [
            (row_id(opened.run.id, 0), "a b", rows[0].size, ODD),
            (row_id(opened.run.id, 1), "c", rows[1].size, {"a": None}),
        ]
        assert [
            (row.tier, row.tries, row.resends, row.batch, row.result, row.cost, row.answers) for row in given
        ] == [(0, 0, 0, None, None, 0, 0)] * 2

    def test_half_a_surrogate_pair_survives_as_an_escape(self, store: Store) -> None:
        """A field frozen with an escaped half of a surrogate pair is given back with that half."""
        row = record(0)._replace(line=b'[0,"k0",{"a":"\\ud83d!","b":null}]')
        opened = frozen(a_run(store), [row, record(1)])
        given = store.page(opened.run.id, Where(source=True))
        assert [r.fields for r in given] == [{"a": "\ud83d!", "b": None}, {"text": "record 1"}]

    def test_source_and_results_only_when_asked_for(self, store: Store) -> None:
        """Without asking, fields are None and everything of the latest result is empty."""
        opened = _mixed(store)
        for row in store.page(opened.run.id, Where()):
            assert (row.fields, row.detail, row.answer, row.usage, row.model, row.by) == (
                None,
                "",
                None,
                None,
                "",
                "",
            )

    def test_results_of_a_row_are_its_latest(self, store: Store) -> None:
        """Asked for, answer, detail, usage and model are of the row's latest result."""
        opened = _mixed(store)
        won, retried = store.rows(opened.ids([0, 1]), results=True)
        assert (won.answer, won.detail, won.usage, won.model, won.by) == (
            b"{}",
            "",
            USAGE,
            "claude-haiku-4-5",
            "",
        )
        assert (retried.answer, retried.detail, retried.usage) == (b"\xff raw", "[bad \u2028]", USAGE)
        assert won.result is not None
        untouched = store.rows(opened.ids([9]), results=True)[0]
        assert (untouched.answer, untouched.usage, untouched.result) == (None, None, None)

    def test_the_answer_alone(self, store: Store) -> None:
        """With ``answers`` a row has the answer of its latest result and nothing else of it."""
        opened = an_open_run(store)
        batch = opened.live([1])
        store.settle(opened.lease, batch.id, [accepted(opened.ids([1])[0], b'{"a":1}')])
        silent, answered, *_ = store.page(opened.run.id, Where(answers=True))
        assert silent.answer is None
        assert (answered.answer, answered.usage, answered.model) == (b'{"a":1}', None, "")
        whole = store.page(opened.run.id, Where())[1]
        assert answered._replace(answer=None) == whole

    @pytest.mark.parametrize("odd", [0, 499, 500, 700, 1199])
    def test_neighbours_that_stand_alike_and_one_that_does_not(self, store: Store, odd: int) -> None:
        """Rows read the same however many of their neighbours stand as they do."""
        opened = an_open_run(store, 1_200)
        ids = opened.ids(range(1_200))
        alike = store.rows(ids, source=True)
        assert [row.id for row in alike] == ids
        assert list(store.page(opened.run.id, Where(source=True), limit=1_200)) == list(alike)
        assert [row.fields for row in alike] == [{"text": f"record {n}"} for n in range(1_200)]
        opened.live([odd])
        now = store.rows(ids, source=True)
        assert [n for n, row in enumerate(now) if row.state is RowState.SUBMITTED] == [odd]
        assert list(store.page(opened.run.id, Where(source=True), limit=1_200)) == list(now)
        rest = store.page(opened.run.id, Where(states=frozenset({RowState.PENDING})), limit=1_200)
        assert [row.id for row in rest] == [id_ for n, id_ in enumerate(ids) if n != odd]

    def test_pages_follow_each_other(self, store: Store) -> None:
        """Pages of any size give every row once, in order, and are full but for the last."""
        opened = an_open_run(store, PAGE + 120)
        for limit in (1000, 250, 77):
            ids: list[RowId] = []
            after: RowId | None = None
            sizes = []
            while page := store.page(opened.run.id, Where(source=True), after=after, limit=limit):
                ids += [row.id for row in page]
                sizes.append(len(page))
                assert all(row.fields == {"text": f"record {row.id - opened.ids([0])[0]}"} for row in page)
                after = page[-1].id
            assert ids == opened.ids(range(PAGE + 120))
            assert set(sizes[:-1]) <= {limit}

    def test_a_page_is_full_however_few_match(self, store: Store) -> None:
        """Rows that do not match do not shorten a page."""
        opened = an_open_run(store, PAGE + 120)
        wanted = [3, 400, PAGE - 1, PAGE, PAGE + 119]
        batch = opened.live(wanted)
        store.settle(opened.lease, batch.id, [accepted(row) for row in opened.ids(wanted)])
        where = Where(states=frozenset({RowState.SUCCEEDED}))
        first = store.page(opened.run.id, where, limit=3)
        rest = store.page(opened.run.id, where, after=first[-1].id, limit=3)
        assert [row.key for row in (*first, *rest)] == [f"k{n}" for n in wanted]

    @pytest.mark.parametrize(
        ("where", "positions"),
        [
            (Where(), range(10)),
            (Where(states=frozenset({RowState.PENDING})), [1, 2, 8, 9]),
            (Where(states=frozenset({RowState.SUCCEEDED, RowState.HUMAN})), [0, 3]),
            (Where(states=frozenset()), []),
            (Where(reasons=frozenset({Reason.OUTPUT_SCHEMA})), [1, 2]),
            (Where(reasons=frozenset({Reason.OUTPUT_SPARSE, Reason.API_SERVER})), [3, 4]),
            (Where(tiers=frozenset({1})), [2]),
            (Where(tiers=frozenset({0, 1}), reasons=frozenset({Reason.OUTPUT_SCHEMA})), [1, 2]),
            (Where(outcomes=frozenset({Outcome.OPEN})), [1, 2, 7, 8, 9]),
            (Where(outcomes=frozenset({Outcome.SUCCEEDED})), [0]),
            (Where(outcomes=frozenset({Outcome.ERRORED})), [4]),
            (Where(outcomes=frozenset({Outcome.EXPIRED})), [5]),
            (Where(outcomes=frozenset({Outcome.QUARANTINED})), [6]),
            (Where(outcomes=frozenset({Outcome.HUMAN_QUEUED})), [3]),
            (Where(outcomes=frozenset({Outcome.ERRORED, Outcome.SUCCEEDED})), [0, 4]),
            (Where(outcomes=frozenset({Outcome.CANCELED, Outcome.UNCHANGED})), []),
            (Where(outcomes=frozenset()), []),
            (Where(outcomes=frozenset({Outcome.OPEN}), states=frozenset({RowState.SUBMITTED})), [7]),
        ],
    )
    def test_where_admits(self, store: Store, where: Where, positions: list[int]) -> None:
        """States, outcomes, reasons and tiers narrow the rows; all that are given must match."""
        opened = _mixed(store)
        assert [row.id for row in store.page(opened.run.id, where)] == opened.ids(positions)

    def test_where_a_batch(self, store: Store) -> None:
        """A batch admits the rows that are in it now."""
        opened = an_open_run(store)
        batch = opened.live([2, 4, 6])
        store.settle(opened.lease, batch.id, [accepted(row) for row in opened.ids([4])])
        assert [row.id for row in store.page(opened.run.id, Where(batch=batch.id))] == opened.ids([2, 6])

    def test_runs_do_not_mix(self, store: Store) -> None:
        """Pages, tallies and results are of one run."""
        first, second = an_open_run(store, 3, "a"), an_open_run(store, 5, "b")
        batch = second.live([0])
        store.settle(second.lease, batch.id, [accepted(row) for row in second.ids([0])])
        assert store.tally(first.run.id).total == 3
        assert store.tally(second.run.id).total == 5
        assert [row.id for row in store.page(first.run.id, Where())] == first.ids(range(3))
        assert store.results(first.run.id) == []
        assert len(store.results(second.run.id)) == 1

    def test_tally_counts_every_row_once(self, store: Store) -> None:
        """The tally counts rows by state, reason and tier, and its buckets sum to all rows."""
        opened = _mixed(store)
        tally = store.tally(opened.run.id)
        assert tally.counts == {
            (RowState.SUCCEEDED, None, 0): 1,
            (RowState.PENDING, Reason.OUTPUT_SCHEMA, 0): 1,
            (RowState.PENDING, Reason.OUTPUT_SCHEMA, 1): 1,
            (RowState.HUMAN, Reason.OUTPUT_SPARSE, 0): 1,
            (RowState.QUARANTINED, Reason.API_SERVER, 0): 1,
            (RowState.QUARANTINED, Reason.BATCH_EXPIRED, 0): 1,
            (RowState.QUARANTINED, Reason.OUTPUT_REFUSED, 0): 1,
            (RowState.SUBMITTED, None, 0): 1,
            (RowState.PENDING, None, 0): 2,
        }
        assert sum(tally.outcomes.values()) == tally.total == 10

    def test_rows_in_the_order_asked_for(self, store: Store) -> None:
        """Rows come in the order of the ids, across pages and runs, repeated ids repeated."""
        first, second = an_open_run(store, PAGE + 60, "a"), an_open_run(store, 2, "b")
        ids = [*first.ids([PAGE + 7, 3, PAGE + 6, 3]), *second.ids([1]), *first.ids([0])]
        rows = store.rows(ids, source=True)
        assert [row.id for row in rows] == ids
        assert [row.key for row in rows] == [f"k{PAGE + 7}", "k3", f"k{PAGE + 6}", "k3", "k1", "k0"]
        assert rows[0].fields == {"text": f"record {PAGE + 7}"}
        assert rows[4].fields == {"text": "record 1"}
        assert store.rows([]) == []

    def test_rows_not_known_are_refused(self, store: Store) -> None:
        """An id the store does not hold raises StoreError that names it."""
        opened = an_open_run(store, 3)
        missing = opened.ids([3])[0]
        with pytest.raises(StoreError, match=str(missing)):
            store.rows([*opened.ids([0]), missing])

    def test_locate_finds_keys(self, store: Store) -> None:
        """Keys are found across pages; those the run does not hold are left out."""
        opened = an_open_run(store, PAGE + 20)
        keys = [RowKey("k0"), RowKey(f"k{PAGE + 19}"), RowKey("nobody"), RowKey("")]
        assert store.locate(opened.run.id, keys) == dict(
            zip(keys[:2], opened.ids([0, PAGE + 19]), strict=True)
        )
        assert store.locate(opened.run.id, []) == {}

    def test_locate_gives_the_record_that_is_no_repeat(self, store: Store) -> None:
        """Of a repeated key the record kept is given; where none was kept, the first."""
        kept = frozen(
            a_run(store, "a"), [record(0), record(1, "x"), record(2, "x")], Seal(on_duplicate="first")
        )
        assert store.locate(kept.run.id, [RowKey("x")]) == {"x": kept.ids([1])[0]}
        none = frozen(
            a_run(store, "b"), [record(0), record(1, "x"), record(2, "x")], Seal(on_duplicate="quarantine")
        )
        assert store.locate(none.run.id, [RowKey("x")]) == {"x": none.ids([1])[0]}

    def test_results_in_the_order_settled(self, store: Store) -> None:
        """Results are paged in the order in which they were settled, each as it was given."""
        opened = _mixed(store)
        everything = store.results(opened.run.id)
        assert [r.id for r in everything] == sorted(r.id for r in everything)
        assert len(everything) == 7
        paged: list[ResultView] = []
        after: ResultId | None = None
        while page := store.results(opened.run.id, after=after, limit=2):
            paged += page
            after = page[-1].id
        assert paged == everything
        one = next(r for r in everything if r.row == opened.ids([2])[0])
        assert (
            one.event,
            one.tier,
            one.verdict,
            one.detail,
            one.answer,
            one.usage,
            one.cost,
            one.model,
            one.by,
        ) == (
            RowEvent.ESCALATED,
            1,
            Reason.OUTPUT_SCHEMA,
            "",
            None,
            USAGE,
            7,
            "claude-haiku-4-5",
            "",
        )


def _mixed(store: Store) -> Opened:
    """Give ten rows in many states: 0 to 6 settled, 7 submitted, 8 and 9 pending."""
    opened = an_open_run(store)
    batch = opened.live(range(8))
    ids = opened.ids(range(8))

    def line(
        n: int,
        event: RowEvent,
        reason: Reason,
        tier: int = 0,
        tries: int = 1,
        detail: str = "",
        answer: bytes | None = None,
    ) -> Settled:
        return Settled(
            ids[n], event, reason, tier, tries, 0, reason, detail, answer, USAGE, 7, "claude-haiku-4-5"
        )

    page = [
        accepted(ids[0]),
        line(1, RowEvent.RETRIED, Reason.OUTPUT_SCHEMA, detail="[bad \u2028]", answer=b"\xff raw"),
        line(2, RowEvent.ESCALATED, Reason.OUTPUT_SCHEMA, tier=1, tries=0),
        line(3, RowEvent.TO_HUMAN, Reason.OUTPUT_SPARSE),
        line(4, RowEvent.QUARANTINED, Reason.API_SERVER),
        line(5, RowEvent.QUARANTINED, Reason.BATCH_EXPIRED),
        line(6, RowEvent.QUARANTINED, Reason.OUTPUT_REFUSED),
    ]
    assert store.settle(opened.lease, batch.id, page).applied == 7
    return opened

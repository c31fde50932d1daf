"""The promises about settling: what came back is applied once, or ignored."""

from __future__ import annotations

import pytest

from batchkit.errors import IllegalTransition, StoreError
from batchkit.ids import BatchId, ResultId, RowId
from batchkit.model import Applied, BatchWhere, Settled, Where
from batchkit.reasons import Reason
from batchkit.settledpage import Accepted, SettledPage
from batchkit.states import ROW_TRANSITIONS, BatchState, RowEvent, RowState
from batchkit.storage import Store
from batchkit.testing.store_contract.base import USAGE, StoreCase, accepted, an_intent, an_open_run

FROM_SUBMITTED = sorted(
    (
        e
        for e, (origin, _) in ROW_TRANSITIONS.items()
        if origin is RowState.SUBMITTED and e is not RowEvent.FREED
    ),
    key=lambda event: event.value,
)


class SettleContract(StoreCase):
    """``settle`` of `batchkit.storage.BatchStore`."""

    @pytest.mark.parametrize("event", FROM_SUBMITTED, ids=lambda event: event.value)
    def test_each_event_leads_where_the_table_says(self, store: Store, event: RowEvent) -> None:
        """A submitted row goes where its event leads, takes the given values and leaves the batch."""
        opened = an_open_run(store)
        batch = opened.live([4])
        item = Settled(opened.ids([4])[0], event, Reason.OUTPUT_SCHEMA, 1, 2, 3, Reason.OUTPUT_SCHEMA)
        assert store.settle(opened.lease, batch.id, [item]) == Applied(applied=1)
        row = store.rows(opened.ids([4]))[0]
        assert row.state is ROW_TRANSITIONS[event][1]
        assert (row.reason, row.tier, row.tries, row.resends, row.batch) == (
            Reason.OUTPUT_SCHEMA,
            1,
            2,
            3,
            None,
        )
        assert row.result == store.results(opened.run.id)[0].id

    def test_cost_and_answers_grow_with_usage(self, store: Store) -> None:
        """A row's cost and answers grow by each applied item that has usage, and only by those."""
        opened = an_open_run(store)
        for n, (usage, cost) in enumerate([(USAGE, 7), (None, 9), (USAGE, 5)]):
            batch = opened.live([0], f"aaaaaaa{n}")
            retried = Settled(
                opened.ids([0])[0], RowEvent.RETRIED, Reason.OUTPUT_EMPTY, 0, n, 0, usage=usage, cost=cost
            )
            store.settle(opened.lease, batch.id, [retried])
        row = store.rows(opened.ids([0]))[0]
        assert (row.cost, row.answers) == (12, 2)

    def test_the_order_of_results_is_one_for_all_runs(self, store: Store) -> None:
        """A result that is settled later has the higher number, also in the older of two runs; an unknown one has none."""
        older, newer = an_open_run(store, name="older"), an_open_run(store, name="newer")
        settled: list[ResultId] = []
        for n, opened in enumerate([older, newer, older]):
            batch = opened.live([n], f"aaaaaaa{n}")
            store.settle(opened.lease, batch.id, [accepted(opened.ids([n])[0])])
            settled += [row.result for row in store.rows(opened.ids([n])) if row.result is not None]
        first, second, third = store.settled_order(settled)
        assert first < second < third
        assert store.settled_order(settled[::-1]) == [third, second, first]
        with pytest.raises(StoreError):
            store.settled_order([ResultId(max(settled) + 1)])

    def test_a_page_of_accepted_answers_is_applied_as_its_items_are(self, store: Store) -> None:
        """What a page says once for many rows is settled as if each item said it: results, rows, batch and names."""
        told: list[object] = []
        for n, whole in enumerate([True, False]):
            opened = an_open_run(store, 300, name=f"run{n}")
            batch = opened.live(range(250), f"aaaaaaa{n}")
            ids = opened.ids(range(250))
            accepted = [
                Accepted(
                    tier=tier,
                    tries=2,
                    resends=1,
                    model=model,
                    lines=[
                        (row, (row - ids[0]) % 9, 10, 20, 3, 4, 5, b"{%d}" % (row - ids[0]))
                        for row in reversed(rows)
                    ],
                )
                for tier, model, rows in [(0, "a", ids[:203]), (1, "b", ids[203:240])]
            ]
            bad = Settled(
                ids[240], RowEvent.RETRIED, Reason.OUTPUT_EMPTY, 0, 1, 0, Reason.OUTPUT_EMPTY, "no", model="c"
            )
            page = SettledPage(accepted=accepted, others=[bad])
            assert len(page) == 241
            assert page[1] == list(page)[1]
            applied = store.settle(opened.lease, batch.id, page if whole else list(page))
            after = store.batches(BatchWhere(ids=(batch.id,)))[0]
            first = ids[0]
            rows = [
                row._replace(id=RowId(row.id - first), batch=None, result=None)
                for row in store.rows(ids, results=True)
            ]
            told.append((applied, after.lines, after.spent, rows, len(store.results(opened.run.id))))
        assert told[0] == told[1]

    def test_a_page_that_has_a_row_twice_applies_the_first(self, store: Store) -> None:
        """A row that stands twice in a page of accepted answers is applied once and reported, as in any page."""
        opened = an_open_run(store)
        batch = opened.live([0, 1])
        row = opened.ids([0])[0]
        lines = [(row, 5, 1, 1, 0, 0, 0, b"{}")]
        group = Accepted(tier=0, tries=1, resends=0, model="m", lines=lines)
        again = Settled(row, RowEvent.RETRIED, Reason.OUTPUT_EMPTY, 0, 1, 0, Reason.OUTPUT_EMPTY)
        applied = store.settle(opened.lease, batch.id, SettledPage(accepted=[group], others=[again]))
        assert applied == Applied(applied=1, ignored=(row,))
        assert store.rows([row])[0].state is RowState.SUCCEEDED

    def test_a_name_that_is_no_unicode_is_kept_as_far_as_it_can_be(self, store: Store) -> None:
        """A model that names itself with half of a surrogate pair is settled and can be read again."""
        opened = an_open_run(store)
        batch = opened.live([0])
        item = accepted(opened.ids([0])[0])._replace(model="odd\ud800")
        assert store.settle(opened.lease, batch.id, [item]).applied == 1
        (result,) = store.results(opened.run.id)
        assert result.model.startswith("odd")

    def test_accepted_answers_of_rows_that_moved_on_are_ignored(self, store: Store) -> None:
        """A page of accepted answers that is settled again changes nothing, and its results are taken back."""
        opened = an_open_run(store)
        batch = opened.live([0, 1])
        rows = opened.ids([0, 1])
        lines = [(row, 5, 1, 1, 0, 0, 0, b"{}") for row in rows]
        page = SettledPage(accepted=[Accepted(tier=0, tries=1, resends=0, model="m", lines=lines)], others=[])
        assert store.settle(opened.lease, batch.id, page).applied == 2
        assert store.settle(opened.lease, batch.id, page) == Applied(applied=0, ignored=tuple(rows))
        assert len(store.results(opened.run.id)) == 2
        assert store.batches(BatchWhere(ids=(batch.id,)))[0].spent == 10
        with pytest.raises(IllegalTransition):
            store.settle(opened.lease, None, page)

    def test_the_batch_counts_applied_lines(self, store: Store) -> None:
        """Lines and spent of the batch grow by what was applied, not by what was ignored."""
        opened = an_open_run(store)
        batch = opened.live([0, 1, 2])
        store.settle(opened.lease, batch.id, [accepted(row, cost=7) for row in opened.ids([0])])
        store.settle(opened.lease, batch.id, [accepted(row, cost=5) for row in opened.ids([0, 1, 2])])
        after = store.batches(BatchWhere(ids=(batch.id,)))[0]
        assert (after.lines, after.spent) == (3, 17)
        assert after.reserved == batch.reserved

    def test_a_replay_is_ignored(self, store: Store) -> None:
        """Settling the same page again changes nothing and names every row as ignored."""
        opened = an_open_run(store)
        batch = opened.live([0, 1, 2])
        page = [accepted(row) for row in opened.ids([2, 0, 1])]
        assert store.settle(opened.lease, batch.id, page) == Applied(applied=3)
        before = (store.tally(opened.run.id), store.results(opened.run.id), store.batches(BatchWhere()))
        assert store.settle(opened.lease, batch.id, page) == Applied(
            applied=0, ignored=tuple(opened.ids([0, 1, 2]))
        )
        assert (
            store.tally(opened.run.id),
            store.results(opened.run.id),
            store.batches(BatchWhere()),
        ) == before

    def test_rows_elsewhere_are_ignored(self, store: Store) -> None:
        """Rows pending, closed, or in another batch are ignored; the rest of the page is applied."""
        opened = an_open_run(store)
        first = opened.live([0, 1])
        other = opened.live([2], "bbbbbbbb")
        store.settle(opened.lease, first.id, [accepted(row) for row in opened.ids([0])])
        applied = store.settle(
            opened.lease, first.id, [accepted(row, b"[2]") for row in opened.ids([0, 1, 2, 3])]
        )
        assert applied == Applied(applied=1, ignored=tuple(opened.ids([0, 2, 3])))
        assert [row.batch for row in store.rows(opened.ids([2]))] == [other.id]
        assert [(r.row, r.answer) for r in store.results(opened.run.id)] == [
            (opened.ids([0])[0], b"{}"),
            (opened.ids([1])[0], b"[2]"),
        ]

    def test_of_one_row_twice_the_first_counts(self, store: Store) -> None:
        """A row given twice in one page is settled by its first item; the second is ignored."""
        opened = an_open_run(store)
        batch = opened.live([0, 1])
        one, two = opened.ids([0, 1])
        applied = store.settle(
            opened.lease, batch.id, [accepted(two), accepted(one, b"1", 3), accepted(one, b"2", 4)]
        )
        assert applied == Applied(applied=2, ignored=(one,))
        assert store.rows([one], results=True)[0].answer == b"1"
        assert store.batches(BatchWhere())[0].spent == 3 + 7

    def test_events_may_be_mixed(self, store: Store) -> None:
        """One page may bring rows to different states."""
        opened = an_open_run(store)
        batch = opened.live([0, 1, 2])
        a, b, c = opened.ids([0, 1, 2])
        page = [
            Settled(c, RowEvent.TO_HUMAN, Reason.OUTPUT_SPARSE, 0, 1, 0),
            accepted(a),
            Settled(b, RowEvent.QUARANTINED, Reason.OUTPUT_REFUSED, 0, 1, 0),
        ]
        store.settle(opened.lease, batch.id, page)
        assert [row.state for row in store.rows([a, b, c])] == [
            RowState.SUCCEEDED,
            RowState.QUARANTINED,
            RowState.HUMAN,
        ]

    def test_an_empty_page_settles_nothing(self, store: Store) -> None:
        """An empty page is applied as zero rows."""
        opened = an_open_run(store)
        batch = opened.live([0])
        assert store.settle(opened.lease, batch.id, []) == Applied(applied=0)

    def test_decisions_without_a_batch(self, store: Store) -> None:
        """Pending rows are canceled or found unsendable without a batch; submitted ones are ignored."""
        opened = an_open_run(store)
        opened.live([2])
        a, b, c = opened.ids([0, 1, 2])
        page = [
            Settled(a, RowEvent.RUN_CANCELED, Reason.RUN_CANCELED, 0, 0, 0, Reason.RUN_CANCELED),
            Settled(b, RowEvent.UNSENDABLE, Reason.INPUT_TOO_LARGE, 0, 0, 0, Reason.INPUT_TOO_LARGE, "413"),
            Settled(c, RowEvent.RUN_CANCELED, Reason.RUN_CANCELED, 0, 0, 0, Reason.RUN_CANCELED),
        ]
        assert store.settle(opened.lease, None, page) == Applied(applied=2, ignored=(c,))
        assert [(row.state, row.reason) for row in store.rows([a, b, c])] == [
            (RowState.CANCELED, Reason.RUN_CANCELED),
            (RowState.QUARANTINED, Reason.INPUT_TOO_LARGE),
            (RowState.SUBMITTED, None),
        ]
        assert [r.batch for r in store.results(opened.run.id)] == [None, None]

    def test_a_persons_answer(self, store: Store) -> None:
        """A person answers a queued row, takes it back, sends it to a tier or judges it out, by name."""
        opened = an_open_run(store)
        batch = opened.live([0])
        row = opened.ids([0])[0]
        store.settle(opened.lease, batch.id, [Settled(row, RowEvent.TO_HUMAN, Reason.OUTPUT_SPARSE, 0, 1, 0)])
        answered = Settled(row, RowEvent.ANSWERED, None, 0, 1, 0, answer=b'{"a":1}')
        assert store.settle(opened.lease, None, [answered], by="Ada").applied == 1
        view = store.rows([row], results=True)[0]
        assert (view.state, view.answer, view.by, view.answers) == (RowState.SUCCEEDED, b'{"a":1}', "Ada", 0)
        undone = Settled(row, RowEvent.ANSWER_UNDONE, Reason.OUTPUT_SPARSE, 0, 1, 0)
        assert store.settle(opened.lease, None, [undone], by="Bo").applied == 1
        sent_back = Settled(row, RowEvent.SENT_BACK, Reason.OUTPUT_SPARSE, 1, 0, 0)
        assert store.settle(opened.lease, None, [sent_back], by="Bo").applied == 1
        assert [(r.event, r.by, r.batch) for r in store.results(opened.run.id)][1:] == [
            (RowEvent.ANSWERED, "Ada", None),
            (RowEvent.ANSWER_UNDONE, "Bo", None),
            (RowEvent.SENT_BACK, "Bo", None),
        ]
        assert [row.id for row in store.page(opened.run.id, Where(tiers=frozenset({1})))] == [row]

    def test_a_late_twin_fills_pending_rows_only(self, store: Store) -> None:
        """A valid line of a late batch is applied to a row that is pending, never to one under way or closed."""
        opened = an_open_run(store)
        late = opened.intend([0, 1, 2])
        opened.move(late, BatchState.INTENT, BatchState.REJECTED, free=True)
        opened.move(late, BatchState.REJECTED, BatchState.LATE)
        other = opened.live([1], "bbbbbbbb")
        twins = [accepted(row)._replace(event=RowEvent.TWIN_ACCEPTED) for row in opened.ids([0, 1, 2])]
        assert store.settle(opened.lease, late.id, twins) == Applied(
            applied=2, ignored=tuple(opened.ids([1]))
        )
        assert [row.batch for row in store.rows(opened.ids([0, 1, 2]))] == [None, other.id, None]
        assert store.batches(BatchWhere(ids=(late.id,)))[0].lines == 2

    @pytest.mark.parametrize(
        ("event", "with_batch"),
        [
            (RowEvent.FROZEN, True),
            (RowEvent.TAKEN, True),
            (RowEvent.TAKEN, False),
            (RowEvent.FREED, True),
            (RowEvent.ACCEPTED, False),
            (RowEvent.ANSWERED, True),
            (RowEvent.RUN_CANCELED, True),
        ],
    )
    def test_an_event_of_another_source_is_refused(
        self, store: Store, event: RowEvent, with_batch: bool
    ) -> None:
        """An event that this source cannot cause raises IllegalTransition and nothing of the page is kept."""
        opened = an_open_run(store)
        batch = opened.live([0, 1])
        a, b = opened.ids([0, 1])
        with pytest.raises(IllegalTransition):
            store.settle(
                opened.lease,
                batch.id if with_batch else None,
                [accepted(a), Settled(b, event, None, 0, 0, 0)],
            )
        assert store.results(opened.run.id) == []
        assert store.tally(opened.run.id).in_state(RowState.SUBMITTED) == 2

    def test_rows_and_batches_of_others_are_refused(self, store: Store) -> None:
        """A batch or row that is not the run's raises StoreError and nothing is settled."""
        first, second = an_open_run(store, 3, "a"), an_open_run(store, 3, "b")
        batch = first.live([0])
        with pytest.raises(StoreError):
            store.settle(second.lease, batch.id, [accepted(row) for row in second.ids([0])])
        with pytest.raises(StoreError):
            store.settle(first.lease, BatchId(99), [accepted(row) for row in first.ids([0])])
        for foreign in (second.ids([0]), first.ids([3])):
            with pytest.raises(StoreError):
                store.settle(first.lease, batch.id, [accepted(row) for row in [*first.ids([0]), *foreign]])
        assert store.results(first.run.id) == []
        assert store.batches(BatchWhere(ids=(batch.id,)))[0].lines == 0

    def test_a_submission_is_applied_once_however_often_it_goes_out(self, store: Store) -> None:
        """A row sent three times has three results, each of its own batch."""
        opened = an_open_run(store)
        row = opened.ids([0])[0]
        batches = []
        for n in range(2):
            batch = opened.live([0], f"aaaaaaa{n}")
            batches.append(batch.id)
            again = Settled(row, RowEvent.RETRIED, Reason.OUTPUT_EMPTY, 0, n + 1, 0, Reason.OUTPUT_EMPTY)
            store.settle(opened.lease, batch.id, [again])
        last = opened.intend([0], an_intent("cccccccc"))
        assert store.settle(opened.lease, batches[0], [accepted(row)]).ignored == (row,)
        store.settle(opened.lease, last.id, [accepted(row)])
        assert [r.batch for r in store.results(opened.run.id)] == [*batches, last.id]

    def test_the_ledger_counts_and_sums_what_is_alike(self, store: Store) -> None:
        """The ledger has one line for results alike in batch, event, tier, verdict and model, summed, and counts each once."""
        opened = an_open_run(store)
        first, second = opened.live([0, 1, 2], "aaaaaaaa"), opened.live([3], "bbbbbbbb")
        a, b, c, d = opened.ids([0, 1, 2, 3])
        retried = Settled(
            c, RowEvent.RETRIED, Reason.OUTPUT_EMPTY, 0, 1, 0, Reason.OUTPUT_EMPTY, usage=USAGE, cost=5
        )
        store.settle(opened.lease, first.id, [accepted(a), accepted(b), retried])
        expired = Settled(d, RowEvent.RESENT, Reason.BATCH_EXPIRED, 0, 0, 1, Reason.BATCH_EXPIRED)
        store.settle(opened.lease, second.id, [expired])
        ledger = {(line.batch, line.event): line for line in store.ledger(opened.run.id)}
        assert len(ledger) == len(store.ledger(opened.run.id)) == 3
        both, one, none = accepted(a), retried, ledger[second.id, RowEvent.RESENT]
        good = ledger[first.id, RowEvent.ACCEPTED]
        assert (good.results, good.stands, good.verdict) == (2, True, None)
        assert good.cost == 2 * both.cost
        assert good.usage == tuple(2 * n for n in both.usage or ())
        bad = ledger[first.id, RowEvent.RETRIED]
        assert (bad.results, bad.stands, bad.verdict, bad.cost) == (1, False, one.verdict, 5)
        assert (none.results, none.usage, none.cost) == (1, None, 0)

    def test_only_the_result_that_is_the_rows_answer_stands(self, store: Store) -> None:
        """Of two results of one row the ledger's line of the later, accepted one stands, and the other's does not."""
        opened = an_open_run(store)
        row = opened.ids([0])[0]
        empty = Reason.OUTPUT_EMPTY
        retried = Settled(row, RowEvent.RETRIED, empty, 0, 1, 0, empty, usage=USAGE, cost=1)
        store.settle(opened.lease, opened.live([0], "aaaaaaaa").id, [retried])
        store.settle(opened.lease, opened.live([0], "bbbbbbbb").id, [accepted(row)])
        assert [(line.event, line.stands) for line in store.ledger(opened.run.id)] == [
            (RowEvent.RETRIED, False),
            (RowEvent.ACCEPTED, True),
        ]

    def test_the_ledger_is_of_one_run(self, store: Store) -> None:
        """Results of another run are not in a run's ledger."""
        opened, other = an_open_run(store), an_open_run(store, name="other")
        store.settle(opened.lease, opened.live([0]).id, [accepted(opened.ids([0])[0])])
        assert store.ledger(other.run.id) == []

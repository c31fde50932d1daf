"""The promises about batches and their members."""

from __future__ import annotations

import json

import pytest

from batchkit.errors import IllegalTransition, OverBudget, StoreError, Unresolved
from batchkit.ids import BatchId, RemoteId
from batchkit.model import BatchFacts, BatchWhere, DocKind, Need, NewEvent, Settled, Where
from batchkit.reasons import Reason
from batchkit.states import BatchState, RowEvent, RowState, RunState
from batchkit.storage import Store
from batchkit.testing.store_contract.base import (
    OTHER_PLACE,
    PLACE,
    Opened,
    StoreCase,
    a_run,
    accepted,
    an_intent,
    an_open_run,
    close,
    record,
    the_run,
)

B = BatchState


class BatchContract(StoreCase):
    """`batchkit.storage.BatchStore` but for ``settle``."""

    def test_an_intent_takes_its_rows(self, store: Store) -> None:
        """The batch is in INTENT with what the intent says, and its rows are SUBMITTED in it."""
        opened = an_open_run(store)
        batch = opened.intend([5, 3, 4, 9])
        assert (batch.state, batch.count, batch.size, batch.nonce) == (B.INTENT, 4, 1234, "aaaaaaaa")
        assert (batch.run, batch.place, batch.reserved, batch.spent, batch.lines) == (
            opened.run.id,
            PLACE,
            100,
            0,
            0,
        )
        assert batch.head == an_intent().head
        assert (batch.claim, batch.remote_id, batch.held_from, batch.need, batch.notes) == (
            "",
            None,
            None,
            None,
            {},
        )
        assert store.batches(BatchWhere()) == [batch]
        inside = store.page(opened.run.id, Where(states=frozenset({RowState.SUBMITTED})))
        assert [(row.id, row.batch) for row in inside] == [
            (row, batch.id) for row in opened.ids([3, 4, 5, 9])
        ]

    def test_no_head_is_kept_as_none(self, store: Store) -> None:
        """An intent made over an empty list has no head."""
        opened = an_open_run(store)
        assert opened.intend([0], an_intent(head=False)).head is None

    def test_members_keep_their_order_for_ever(self, store: Store) -> None:
        """Members are the rows in the order given, also after they were settled or freed."""
        opened = an_open_run(store)
        batch = opened.live([7, 2, 5])
        given = opened.ids([7, 2, 5])
        assert list(store.members(batch.id).rows) == given
        store.settle(opened.lease, batch.id, [accepted(row) for row in given])
        assert list(store.members(batch.id).rows) == given
        with pytest.raises(StoreError):
            store.members(BatchId(99))

    @pytest.mark.parametrize("positions", [[0, 1, 2], [1, 0], [3, 3], [10], []])
    def test_rows_that_cannot_be_taken_refuse_the_whole(self, store: Store, positions: list[int]) -> None:
        """If a row is not PENDING, given twice, unknown, or there is none, nothing happens."""
        opened = an_open_run(store)
        opened.live([1])
        before = store.tally(opened.run.id)
        with pytest.raises(StoreError):
            opened.intend(positions, an_intent("bbbbbbbb"))
        assert store.tally(opened.run.id) == before
        assert len(store.batches(BatchWhere())) == 1

    def test_rows_of_another_run_are_refused(self, store: Store) -> None:
        """A batch holds rows of its own run only."""
        first, second = an_open_run(store, 3, "a"), an_open_run(store, 3, "b")
        with pytest.raises(StoreError):
            store.intend(first.lease, an_intent(), [*first.ids([0]), *second.ids([1])])
        assert store.tally(second.run.id).in_state(RowState.SUBMITTED) == 0

    def test_only_an_open_run_makes_batches(self, store: Store) -> None:
        """A run that is freezing, paused, canceling or closed takes no intent."""
        freezing = a_run(store, "a")
        store.freeze(freezing.lease, [record(0)])
        with pytest.raises(StoreError):
            freezing.intend([0])
        opened = an_open_run(store, 2, "b")
        store.move_run(opened.lease, expect=RunState.OPEN, to=RunState.PAUSED)
        with pytest.raises(StoreError):
            opened.intend([0])
        store.move_run(opened.lease, expect=RunState.PAUSED, to=RunState.OPEN)
        close(opened)
        with pytest.raises(StoreError):
            opened.intend([0])

    def test_a_nonce_is_used_once(self, store: Store) -> None:
        """A nonce of any run's batch is refused for another batch."""
        first, second = an_open_run(store, 3, "a"), an_open_run(store, 3, "b")
        first.live([0])
        with pytest.raises(StoreError):
            second.intend([0])
        assert store.tally(second.run.id).in_state(RowState.SUBMITTED) == 0

    def test_the_cap_counts_the_whole_store(self, store: Store) -> None:
        """Spent and reserved of all runs' batches plus the reservation must fit under the cap."""
        first, second = an_open_run(store, 3, "a"), an_open_run(store, 3, "b")
        batch = first.live([0])
        store.settle(first.lease, batch.id, [accepted(row, cost=30) for row in first.ids([0])])
        with pytest.raises(OverBudget) as caught:
            second.intend([0], an_intent("bbbbbbbb", reserve=71, cap=200))
        error = caught.value
        assert (error.wanted, error.spent, error.reserved, error.cap) == (71, 30, 100, 200)
        assert store.tally(second.run.id).in_state(RowState.SUBMITTED) == 0
        assert second.intend([0], an_intent("bbbbbbbb", reserve=70, cap=200)).reserved == 70

    @pytest.mark.parametrize("state", [B.INTENT, B.SENDING, B.DOUBTFUL, B.HELD])
    def test_one_unresolved_batch_per_place(self, store: Store, state: BatchState) -> None:
        """While a batch of the store is unresolved in a place, no run makes another there."""
        first, second = an_open_run(store, 3, "a"), an_open_run(store, 3, "b")
        _bring(first, first.intend([0]).id, state)
        with pytest.raises(Unresolved):
            second.intend([0], an_intent("bbbbbbbb"))
        assert second.intend([1], an_intent("bbbbbbbb", place=OTHER_PLACE)).state is B.INTENT

    def test_settled_batches_and_other_holds_do_not_wait(self, store: Store) -> None:
        """A live, ended, rejected or absent batch, or one held from ENDED, does not keep another back."""
        opened = an_open_run(store)
        for n, state in enumerate((B.LIVE, B.ENDED, B.REJECTED, B.ABSENT)):
            _bring(opened, opened.intend([n], an_intent(f"aaaaaaa{n}")).id, state)
        ended = opened.intend([7], an_intent("bbbbbbbb")).id
        _bring(opened, ended, B.ENDED)
        store.move_batch(opened.lease, ended, expect=B.ENDED, to=B.HELD)
        assert opened.intend([9], an_intent("cccccccc")).state is B.INTENT

    def test_batches_are_filtered(self, store: Store) -> None:
        """Run, states, place and ids narrow the batches; all that are given must match."""
        first, second = an_open_run(store, 3, "a"), an_open_run(store, 3, "b")
        one = first.live([0])
        two = second.intend([0], an_intent("bbbbbbbb", place=OTHER_PLACE))
        assert store.batches(BatchWhere()) == [one, two]
        assert store.batches(BatchWhere(run=second.run.id)) == [two]
        assert store.batches(BatchWhere(states=frozenset({B.LIVE, B.ENDED}))) == [one]
        assert store.batches(BatchWhere(states=frozenset())) == []
        assert store.batches(BatchWhere(place=OTHER_PLACE)) == [two]
        assert store.batches(BatchWhere(ids=(two.id, BatchId(99)))) == [two]
        assert store.batches(BatchWhere(ids=())) == []
        assert store.batches(BatchWhere(run=first.run.id, ids=(two.id,))) == []

    def test_a_move_applies_facts_and_events(self, store: Store) -> None:
        """State, facts and events change together; facts not given stay; notes are replaced whole."""
        opened = an_open_run(store)
        batch = opened.intend([0])
        store.move_batch(
            opened.lease,
            batch.id,
            expect=B.INTENT,
            to=B.SENDING,
            facts=BatchFacts(claim="token", notes={"a": 1}),
        )
        facts = BatchFacts(
            remote_id=RemoteId("msgbatch_1"),
            sent_at=12.5,
            expires_at=99.5,
            reserved=7,
            notes={"b": [1, {"c": None}]},
            events=(NewEvent(kind="batch.live"),),
        )
        moved = store.move_batch(opened.lease, batch.id, expect=B.SENDING, to=B.LIVE, facts=facts)
        assert store.batches(BatchWhere()) == [moved]
        assert (moved.state, moved.claim, moved.remote_id, moved.sent_at) == (
            B.LIVE,
            "token",
            "msgbatch_1",
            12.5,
        )
        assert (moved.expires_at, moved.reserved, moved.notes) == (99.5, 7, {"b": [1, {"c": None}]})
        events = store.docs(DocKind.EVENT, scope=f"run-{opened.run.id}")
        assert [json.loads(body)["kind"] for _, body in events] == ["batch.live"]

    def test_what_is_booked_is_added_to_what_was_spent(self, store: Store) -> None:
        """Booked amounts add up, also to what settled lines cost; facts without any leave it as it is."""
        opened = an_open_run(store)
        batch = opened.live([0])
        store.settle(opened.lease, batch.id, [accepted(row) for row in opened.ids([0])])
        before = store.batches(BatchWhere())[0].spent
        for amount in (7, 0, 5):
            facts = BatchFacts(booked=amount)
            store.move_batch(opened.lease, batch.id, expect=B.LIVE, to=B.LIVE, facts=facts)
        assert store.batches(BatchWhere())[0].spent == before + 12

    def test_a_move_to_the_same_state_only_applies_facts(self, store: Store) -> None:
        """``to`` equal to ``expect`` keeps the state."""
        opened = an_open_run(store)
        batch = opened.live([0])
        moved = store.move_batch(
            opened.lease, batch.id, expect=B.LIVE, to=B.LIVE, facts=BatchFacts(reserved=0)
        )
        assert (moved.state, moved.reserved, moved.remote_id) == (B.LIVE, 0, batch.remote_id)

    def test_held_remembers_where_it_came_from(self, store: Store) -> None:
        """Going to HELD keeps origin and need; a person's way back is checked against them; leaving forgets both."""
        opened = an_open_run(store)
        batch = opened.live([0])
        need = Need(who="person", why="404 for a day", fix="look_again()")
        held = store.move_batch(opened.lease, batch.id, expect=B.LIVE, to=B.HELD, facts=BatchFacts(need=need))
        assert (held.state, held.held_from, held.need) == (B.HELD, B.LIVE, need)
        noted = store.move_batch(
            opened.lease, batch.id, expect=B.HELD, to=B.HELD, facts=BatchFacts(notes={"n": 1})
        )
        assert (noted.held_from, noted.need) == (B.LIVE, need)
        with pytest.raises(IllegalTransition):
            store.move_batch(opened.lease, batch.id, expect=B.HELD, to=B.ABSENT, free=True)
        back = store.move_batch(opened.lease, batch.id, expect=B.HELD, to=B.LIVE)
        assert (back.state, back.held_from, back.need) == (B.LIVE, None, None)

    def test_an_edge_not_listed_is_refused(self, store: Store) -> None:
        """A move the table does not list changes neither batch nor rows and leaves no event."""
        opened = an_open_run(store)
        batch = opened.live([0])
        with pytest.raises(IllegalTransition):
            store.move_batch(
                opened.lease,
                batch.id,
                expect=B.LIVE,
                to=B.ABSENT,
                facts=BatchFacts(events=(NewEvent(kind="never"),)),
                free=True,
            )
        assert store.batches(BatchWhere()) == [batch]
        assert store.docs(DocKind.EVENT) == []
        assert store.tally(opened.run.id).in_state(RowState.SUBMITTED) == 1

    def test_a_batch_elsewhere_is_not_moved(self, store: Store) -> None:
        """A batch that is not in ``expect``, of another run, or unknown is refused."""
        first, second = an_open_run(store, 3, "a"), an_open_run(store, 3, "b")
        batch = first.intend([0])
        with pytest.raises(StoreError):
            store.move_batch(first.lease, batch.id, expect=B.SENDING, to=B.LIVE)
        with pytest.raises(StoreError):
            store.move_batch(second.lease, batch.id, expect=B.INTENT, to=B.SENDING)
        with pytest.raises(StoreError):
            store.move_batch(first.lease, BatchId(99), expect=B.INTENT, to=B.SENDING)
        assert store.batches(BatchWhere()) == [batch]

    def test_a_remote_id_belongs_to_one_batch(self, store: Store) -> None:
        """A remote id another batch has is refused; the same id again on its own batch is fine."""
        opened = an_open_run(store)
        first = opened.live([0])
        second = opened.intend([1], an_intent("bbbbbbbb"))
        opened.move(second, B.INTENT, B.SENDING)
        with pytest.raises(StoreError):
            opened.move(second, B.SENDING, B.LIVE, remote_id=first.remote_id)
        assert store.batches(BatchWhere(ids=(second.id,)))[0].state is B.SENDING
        assert opened.move(first, B.LIVE, B.LIVE, remote_id=first.remote_id).remote_id == first.remote_id

    def test_free_gives_the_rows_back(self, store: Store) -> None:
        """The batch's rows become PENDING and keep reason, tier, tries and resends; other rows stay."""
        opened = an_open_run(store)
        first = opened.live([1, 2, 3])
        kept = [Settled(row, RowEvent.RESENT, Reason.BATCH_EXPIRED, 1, 2, 3) for row in opened.ids([1, 2])]
        store.settle(opened.lease, first.id, [*kept, accepted(opened.ids([3])[0])])
        second = opened.intend([1, 2, 5], an_intent("bbbbbbbb"))
        opened.move(second, B.INTENT, B.REJECTED, free=True)
        rows = store.rows(opened.ids([1, 2, 3, 5]))
        assert [(r.state, r.batch, r.reason, r.tier, r.tries, r.resends) for r in rows] == [
            (RowState.PENDING, None, Reason.BATCH_EXPIRED, 1, 2, 3),
            (RowState.PENDING, None, Reason.BATCH_EXPIRED, 1, 2, 3),
            (RowState.SUCCEEDED, None, None, 0, 1, 0),
            (RowState.PENDING, None, None, 0, 0, 0),
        ]

    def test_free_leaves_rows_of_other_batches(self, store: Store) -> None:
        """A row that went on into another batch is not freed by the first."""
        opened = an_open_run(store)
        first = opened.intend([0, 1])
        opened.move(first, B.INTENT, B.REJECTED, free=True)
        second = opened.live([1], "bbbbbbbb")
        opened.move(first, B.REJECTED, B.LATE, free=True)
        rows = store.rows(opened.ids([0, 1]))
        assert [(row.state, row.batch) for row in rows] == [
            (RowState.PENDING, None),
            (RowState.SUBMITTED, second.id),
        ]

    def test_without_free_rows_stay(self, store: Store) -> None:
        """A move without ``free`` leaves the rows in the batch."""
        opened = an_open_run(store)
        batch = opened.intend([0])
        opened.move(batch, B.INTENT, B.SENDING)
        assert the_run(opened).state is RunState.OPEN
        assert store.rows(opened.ids([0]))[0].batch == batch.id


def _bring(opened: Opened, batch: BatchId, state: BatchState) -> None:
    """Bring a batch from INTENT to a state along listed edges."""
    ways = {
        B.INTENT: [],
        B.SENDING: [B.SENDING],
        B.DOUBTFUL: [B.SENDING, B.DOUBTFUL],
        B.HELD: [B.SENDING, B.DOUBTFUL, B.HELD],
        B.ABSENT: [B.SENDING, B.DOUBTFUL, B.ABSENT],
        B.LIVE: [B.SENDING, B.LIVE],
        B.ENDED: [B.SENDING, B.LIVE, B.ENDED],
        B.REJECTED: [B.REJECTED],
    }
    at = B.INTENT
    for to in ways[state]:
        opened.store.move_batch(opened.lease, batch, expect=at, to=to)
        at = to

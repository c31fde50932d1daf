"""A rule that never ends: readings that die over a row are remembered, and the row is set aside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from rig import Label, Rig

from batchkit.contract import Contract
from batchkit.errors import LeaseLost
from batchkit.ids import RemoteId
from batchkit.inhand import InHand
from batchkit.lease import SECONDS
from batchkit.model import Batch, BatchFacts
from batchkit.reasons import Reason
from batchkit.rules import rule
from batchkit.states import RowState


class Killed(BaseException):
    """Stands for whatever ends a process over a row."""


def contract(dying: list[bool]) -> Contract[Label]:
    """Give a contract whose rule dies over one word while ``dying`` holds True."""

    @rule(version=1)
    def patient(output: Label, row: Any) -> bool:
        if dying[0] and row["word"] == "w0007":
            raise Killed
        return True

    return Contract(Label, rules=[patient])


def ended(rig: Rig) -> Batch:
    batch = rig.send().batch
    assert batch is not None
    return rig.end(batch.id)


def die(rig: Rig, batch: Batch, monkeypatch: pytest.MonkeyPatch, *, silently: bool) -> None:
    """Collect, and die over the row: with or without a last word in the store."""
    with monkeypatch.context() as patch:
        if silently:
            patch.setattr(InHand, "dropped", lambda self, number: None)
        with pytest.raises(Killed):
            rig.collect(batch.id)


def test_an_interrupted_judging_is_told_by_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two interruptions over the same row set it aside: ``output.rule``, did not finish, its answer kept and paid."""
    rig = Rig(20, contract=contract([True]))
    batch = ended(rig)
    for _ in range(2):
        die(rig, batch, monkeypatch, silently=False)
    assert rig.collect(batch.id).complete
    assert rig.tally.counts == {
        (RowState.SUCCEEDED, None, 0): 19,
        (RowState.QUARANTINED, Reason.OUTPUT_RULE, 0): 1,
    }
    (row,) = rig.rows(RowState.QUARANTINED)
    assert (row.key, row.detail, row.answers) == ("S0007", "did not finish", 1)
    assert row.answer is not None
    assert row.cost > 0
    assert rig.billed == sum(r.answers for r in rig.rows())


def test_a_silent_death_is_found_in_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two readings that ended without a word each row is noted first; after two more the row is set aside."""
    rig = Rig(20, contract=contract([True]))
    batch = ended(rig)
    for _ in range(4):
        die(rig, batch, monkeypatch, silently=True)
    assert rig.collect(batch.id).complete
    assert [row.key for row in rig.rows(RowState.QUARANTINED)] == ["S0007"]
    assert rig.tally.in_state(RowState.SUCCEEDED) == 19


def test_deaths_elsewhere_set_no_row_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was killed for reasons of its own leaves every row to be judged once it lives."""
    dying = [True]
    rig = Rig(20, contract=contract(dying))
    batch = ended(rig)
    for _ in range(3):
        die(rig, batch, monkeypatch, silently=True)
    dying[0] = False
    assert rig.collect(batch.id).complete
    assert rig.tally.in_state(RowState.SUCCEEDED) == 20


def test_readings_that_end_in_order_leave_nothing_behind() -> None:
    """A stop, a broken stream and a complete reading are no losses."""
    rig = Rig(20)
    batch = ended(rig)
    for _ in range(3):
        assert not rig.collect(batch.id, stop=lambda: True).complete
        assert "in_hand" not in rig.batch(batch.id).notes
    assert rig.collect(batch.id).complete
    assert "in_hand" not in rig.batch(batch.id).notes


def cutting_off(cut: list[bool], seconds: float = 0.0) -> Rig:
    """Give a run whose lease is taken by another after the rule looked so long at one word, while ``cut`` holds True."""

    @rule(version=1)
    def slow(output: Label, row: Any) -> bool:
        if cut[0] and row["word"] == "w0007":
            rig.clock.sleep(seconds)
            rig.take()
        return True

    rig = Rig(20, contract=Contract(Label, rules=[slow]))
    return rig


def test_a_reader_that_lost_its_lease_is_not_dead() -> None:
    """Cut off over the same row again and again, a reading is begun again as if it were the first."""
    cut = [True]
    rig = cutting_off(cut)
    batch = ended(rig)
    for _ in range(5):
        with pytest.raises(LeaseLost):
            rig.collect(batch.id)
        hand: Any = rig.batch(batch.id).notes["in_hand"]
        assert hand["lost"] == 0
    cut[0] = False
    assert rig.collect(batch.id).complete
    assert rig.tally.in_state(RowState.SUCCEEDED) == 20


def test_a_row_that_outlasts_every_lease_is_set_aside() -> None:
    """Two workers that take a run from each other over a row, as its judging outlasts the lease, come to an end."""
    rig = cutting_off([True], SECONDS + 1.0)
    batch = ended(rig)
    for _ in range(4):
        with pytest.raises(LeaseLost):
            rig.collect(batch.id)
    assert rig.collect(batch.id).complete
    assert [row.key for row in rig.rows(RowState.QUARANTINED)] == ["S0007"]


def test_a_word_that_comes_late_is_heard() -> None:
    """Who was cut off in a slow row says so when others have long begun: from then on it counts as lost no more."""
    rig = Rig(20)
    batch = ended(rig)
    hands: list[InHand] = []
    for lost in range(4):
        hands.append(InHand.taken_up(rig.store, rig.take(), rig.batch(batch.id), rig.clock))
        assert len(hands[-1].lost) == lost
        hands[-1].note(7)
    assert (hands[-1].careful, hands[-1].unjudged) == (True, frozenset({7}))
    for hand in hands[:2]:
        with pytest.raises(LeaseLost), hand:
            hand.note(8)
    last = InHand.taken_up(rig.store, rig.take(), rig.batch(batch.id), rig.clock)
    assert (len(last.lost), last.unjudged) == (2, frozenset({7}))
    for hand in hands[2:]:
        with pytest.raises(LeaseLost), hand:
            hand.note(8)
    last.note(9)
    last = InHand.taken_up(rig.store, rig.take(), rig.batch(batch.id), rig.clock)
    assert (last.careful, last.unjudged) == (False, frozenset())


def test_who_is_cut_off_soon_after_a_page_is_not_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page renews the lease, so it did not run out, however long ago the reading began."""
    rig = cutting_off([True], 1.0)
    batch = ended(rig)
    results = rig.gateway.results

    @contextmanager
    def slowly(remote: RemoteId) -> Iterator[Iterator[bytes]]:
        with results(remote) as chunks:
            yield line_by_line(b"".join(chunks))

    def line_by_line(file: bytes) -> Iterator[bytes]:
        for line in file.splitlines(keepends=True):
            rig.clock.sleep(SECONDS / 4)
            yield line

    monkeypatch.setattr(rig.gateway, "results", slowly)
    monkeypatch.setattr("batchkit.reading.HELD", 1)
    monkeypatch.setattr("batchkit.reading.PAGE", 1)
    began = rig.clock.now()
    with pytest.raises(LeaseLost):
        rig.collect(batch.id)
    assert rig.clock.now() > began + SECONDS
    assert not InHand.taken_up(rig.store, rig.take(), rig.batch(batch.id), rig.clock).lost


def test_workers_of_version_0_1_can_read_on() -> None:
    """What is noted today holds the numbers that they count with; what they note themselves is counted here."""
    rig = Rig(20)
    batch = ended(rig)
    for _ in range(3):
        InHand.taken_up(rig.store, rig.take(), rig.batch(batch.id), rig.clock).note(7)
    noted: Any = rig.batch(batch.id).notes["in_hand"]
    older = {
        "epoch": noted["epoch"] + 1,
        "lost": noted["lost"] + (noted["epoch"] is not None),
        "row": None,
        "rows": {**noted["rows"], "7": noted["rows"]["7"] + 1},
    }
    assert (older["lost"], older["rows"]) == (3, {"7": 3})
    facts = BatchFacts(notes={**batch.notes, "in_hand": older})
    rig.store.move_batch(rig.take(), batch.id, expect=batch.state, to=batch.state, facts=facts)
    hand = InHand.taken_up(rig.store, rig.take(), rig.batch(batch.id), rig.clock)
    assert (len(hand.lost), hand.unjudged) == (4, frozenset({7}))


def test_losses_that_were_only_counted_stand() -> None:
    """Notes of version 0.1 hold numbers; nobody can take those back."""
    rig = Rig(20)
    batch = ended(rig)
    noted = {"in_hand": {"epoch": None, "lost": 2, "row": None, "rows": {"7": 2, "8": 1}}}
    facts = BatchFacts(notes={**batch.notes, **noted})
    batch = rig.store.move_batch(rig.take(), batch.id, expect=batch.state, to=batch.state, facts=facts)
    hand = InHand.taken_up(rig.store, rig.lease, batch, rig.clock)
    assert (hand.careful, hand.unjudged) == (True, frozenset({7}))

"""A rule that never ends: readings that die over a row are remembered, and the row is set aside."""

from __future__ import annotations

from typing import Any

import pytest
from rig import Label, Rig

from batchkit.contract import Contract
from batchkit.model import Batch
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
    from batchkit.inhand import InHand

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

"""Submitter and collector by themselves: a builder, a store, a client, and plain rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from interrupts import Pressed, ctrl_c
from pydantic import BaseModel

from batchkit import Contract, Prompt, RequestBuilder, Spec, Tier
from batchkit.collector import ResultCollector
from batchkit.errors import LeaseLost, NeedsPerson, RowsChanged, SpecChanged, UsageError
from batchkit.states import BatchState, RowState
from batchkit.storage.sqlite import SQLiteStore
from batchkit.submitter import ChunkedSubmitter
from batchkit.testing import SimulatedAPI, SimulatedClock, fixed_model, simulated_client
from batchkit.testing.faults import faulty_store

ROWS = [{"sku": f"S{n}", "word": f"word {n}"} for n in range(25)]


class Label(BaseModel):
    color: Literal["red", "green"]


class Alone:
    def __init__(self, pressed: Pressed | None = None, **limits: Any) -> None:
        self.api = SimulatedAPI(fixed_model('{"color": "red"}'))
        self.clock = SimulatedClock(self.api)
        self.real = SQLiteStore(clock=self.clock)
        self.store = faulty_store(self.real, pressed) if pressed is not None else self.real
        self.spec = Spec(
            Contract(Label), Prompt("{word}"), key="sku", tiers=[Tier("claude-haiku-4-5", max_tokens=50)]
        )
        self.builder = RequestBuilder(self.spec)
        client = simulated_client(api=self.api)
        self.submitter = ChunkedSubmitter(
            self.store, client, builder=self.builder, clock=self.clock, **limits
        )
        self.collector = ResultCollector(self.store, client, builder=self.builder, clock=self.clock)


def test_rows_go_out_and_come_back() -> None:
    """Submit, wait, fetch: every row has its answer, in as many batches as the limits ask for."""
    alone = Alone(max_rows=10)
    batches = alone.submitter.submit("labels", ROWS)
    assert sum(batch.count for batch in batches) == 25
    assert all(batch.state is BatchState.LIVE for batch in batches)
    while alone.collector.fetch("labels").open:
        alone.clock.sleep(300)
    assert alone.collector.fetch("labels").in_state(RowState.SUCCEEDED) == 25


def test_submitting_again_sends_nothing_twice() -> None:
    """A second call with the same name adds no batch while the first ones run."""
    alone = Alone()
    first = alone.submitter.submit("labels", ROWS)
    assert alone.submitter.submit("labels", ROWS) == first
    assert len(alone.api.state()["batches"]) == 1


@pytest.mark.parametrize(
    "other",
    [
        ROWS[:-1],
        [*ROWS, {"sku": "S99", "word": "more"}],
        [*ROWS[:7], {"sku": "S7", "word": "else"}, *ROWS[8:]],
    ],
    ids=["fewer", "more", "another word"],
)
def test_other_rows_under_the_same_name_are_refused(other: list[dict[str, str]]) -> None:
    """A name belongs to the rows it was started with: others are refused, and what one can type is said."""
    alone = Alone(max_rows=10, max_in_queue=10)
    alone.submitter.submit("labels", ROWS)
    sent = len(alone.api.state()["batches"])
    alone.clock.sleep(90_000)
    alone.collector.fetch("labels")
    with pytest.raises(RowsChanged, match=r"submit\('labels', the rows it was started with\)"):
        alone.submitter.submit("labels", other)
    assert len(alone.api.state()["batches"]) == sent
    assert len(alone.submitter.submit("labels", ROWS)) > sent


def test_a_freezing_that_broke_is_gone_on_with() -> None:
    """Rows that came with an error half-way are frozen whole by the next call, and each goes out once."""
    alone = Alone()

    def broken() -> Iterator[dict[str, str]]:
        yield from ROWS[:5]
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"):
        alone.submitter.submit("labels", broken())
    (batch,) = alone.submitter.submit("labels", ROWS)
    assert batch.count == 25


def test_what_needs_somebody_is_raised() -> None:
    """Used alone there is no run to pause: the need comes as an error, and no row is lost."""
    alone = Alone()
    with pytest.raises(NeedsPerson, match="budget"):
        alone.submitter.submit("labels", ROWS, cap=1)
    assert sum(batch.count for batch in alone.submitter.submit("labels", ROWS)) == 25


def test_another_spec_under_the_same_name_is_refused() -> None:
    """A name belongs to the spec it was started with."""
    alone = Alone()
    alone.submitter.submit("labels", ROWS)
    other = RequestBuilder(alone.spec.evolve(prompt=Prompt("Say: {word}")))
    with pytest.raises(SpecChanged, match="labels"):
        ChunkedSubmitter(alone.store, simulated_client(api=alone.api), builder=other).submit("labels", ROWS)


def test_a_run_that_somebody_moves_is_left_alone() -> None:
    """While another process holds the lease neither sending nor fetching touches the run."""
    alone = Alone()
    alone.submitter.submit("labels", ROWS)
    (run,) = alone.store.runs(name="labels")
    assert alone.store.acquire(run.id, "somebody", 60.0) is not None
    with pytest.raises(LeaseLost, match="another process"):
        alone.submitter.submit("labels", ROWS)
    with pytest.raises(LeaseLost, match="another process"):
        alone.collector.fetch("labels")


def test_fetching_an_unknown_name_says_so() -> None:
    """A name that nobody submitted is the caller's mistake."""
    with pytest.raises(UsageError, match="no run 'nope'"):
        Alone().collector.fetch("nope")


def test_a_stored_spec_sends_but_does_not_judge() -> None:
    """A builder of a stored spec has no contract to freeze or judge by, and says so."""
    alone = Alone()
    stored: RequestBuilder[Any] = RequestBuilder(alone.spec.stored())
    client = simulated_client(api=alone.api)
    with pytest.raises(UsageError, match="stored spec"):
        ResultCollector(alone.store, client, builder=stored)
    with pytest.raises(UsageError, match="stored spec"):
        ChunkedSubmitter(alone.store, client, builder=stored).submit("labels", ROWS)


def _sent_and_fetched(alone: Alone) -> None:
    alone.submitter.submit("labels", ROWS)
    alone.clock.sleep(90_000)
    alone.collector.fetch("labels")


def test_ctrl_c_at_any_operation_leaves_no_lease() -> None:
    """Stopped anywhere, also as the lease is taken or given back, submit and fetch go on in the same second."""
    counted = Pressed(None, ctrl_c, after=False)
    _sent_and_fetched(Alone(counted))
    assert counted.operations.count("acquire") == counted.operations.count("release") == 3
    for after in (False, True):
        for at in range(1, len(counted.operations) + 1):
            alone = Alone(Pressed(at, ctrl_c, after=after))
            with pytest.raises(KeyboardInterrupt):
                _sent_and_fetched(alone)
            where = (counted.operations[at - 1], at, after)
            assert [run.id for run in alone.real.runs() if alone.real.holder(run.id)] == [], where
            _sent_and_fetched(alone)
            assert alone.collector.fetch("labels").in_state(RowState.SUCCEEDED) == 25, where
            assert set(alone.api.bill().times_paid().values()) == {1}, where

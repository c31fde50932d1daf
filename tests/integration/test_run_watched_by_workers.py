"""Closed runs whose batches may still turn up a second time: workers look after them, when it is time and not before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from rig import Label, held_back
from shop import Shop, batches

from batchkit.equations import count
from batchkit.errors import StoreError
from batchkit.receipt import latest_receipt
from batchkit.run import Run
from batchkit.states import BatchState, RunState
from batchkit.storage.sqlite import SQLiteStore
from batchkit.suspects import note_suspect
from batchkit.testing import Handler, Request, Response

HOUR = 3_600.0


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


def held_whole(run: Run[Label]) -> bool:
    store = run._store
    return count(store, run.record, tally=store.tally(run.record.id)).hold


def test_a_late_twin_of_a_closed_run_is_booked_by_a_worker(shop: Shop) -> None:
    """A worker with an hour's idle sleep gets up when the watch ends, books the twin, and is done with the run."""
    kept = held_back(shop.faults)
    run = shop.start(rows=6)
    closed = run.wait(progress="none")
    assert (closed.done, shop.paid) == (True, 6)
    shop.sim.handle(kept[0])
    flow = shop.flow()
    assert closed.wake_at is not None
    assert flow.open_runs() == []
    calls = len(shop.faults.seen)
    until = closed.wake_at + 3 * HOUR
    woke: list[float] = []

    def stop() -> bool:
        if len(shop.faults.seen) > calls and not woke:
            woke.append(flow.clock.now())
        return flow.clock.now() > until

    flow.work(stop=stop, idle=100 * HOUR)
    assert woke[0] == pytest.approx(closed.wake_at, abs=2.0)
    assert flow.open_runs() == []
    receipt = latest_receipt(run._store, run.record)
    assert receipt is not None
    assert (receipt[1]["number"], receipt[1]["watches"]) == (2, [])
    assert receipt[1]["equations"]["money"]["duplicate"] > 0
    assert shop.paid == 12
    assert held_whole(run)
    assert run.record.state is RunState.CLOSED
    assert len(shop.faults.seen) - calls < 40


def test_what_another_run_reports_of_a_closed_one_is_looked_at_at_once(shop: Shop) -> None:
    """A copy of an answered batch that somebody saw in the list brings its closed run back to the workers."""
    kept: list[Request] = []

    def twice(request: Request, api: Handler) -> Response | None:
        if request.method != "POST" or not request.path.endswith("/batches") or kept:
            return None
        body = request.body if isinstance(request.body, bytes) else b"".join(request.body)
        kept.append(attrs.evolve(request, body=body))
        api.handle(kept[0])
        return api.handle(kept[0])

    shop.faults.rules.append(twice)
    run = shop.start(rows=6)
    assert run.wait(progress="none").wake_at is None
    flow = shop.flow()
    assert flow.open_runs() == []
    (batch,) = batches(run)
    (copy,) = {item["id"] for item in shop.sim.state()["batches"]} - {batch.remote_id}
    note_suspect(run._store, batch.id, copy)
    assert [one.name for one in flow.open_runs()] == ["run"]
    for _ in range(10):
        flow.advance_all()
        flow.clock.sleep(120.0)
    (batch,) = batches(run)
    assert batch.state is BatchState.COLLECTED
    receipt = latest_receipt(run._store, run.record)
    assert receipt is not None
    assert receipt[1]["equations"]["money"]["duplicate"] > 0
    assert flow.open_runs() == []
    assert held_whole(run)


def test_a_run_whose_pass_raises_keeps_no_other_from_its_turn(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other runs are moved before the error is raised, so that one broken run does not stop a store."""
    runs = [shop.start(f"run-{n}", rows=2) for n in range(3)]
    flow = shop.flow()
    intend = SQLiteStore.intend
    broken = runs[0].record.id

    def failing(self: SQLiteStore, lease: object, *rest: object) -> object:
        if lease.run == broken:  # type: ignore[attr-defined]
            raise StoreError("a page of this run is damaged")
        return intend(self, lease, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(SQLiteStore, "intend", failing)
    with pytest.raises(StoreError, match="damaged"):
        flow.advance_all()
    assert [len(batches(run)) for run in runs] == [0, 1, 1]
    with pytest.raises(StoreError, match="damaged"):
        flow.work(stop=lambda: False)
    monkeypatch.undo()
    assert all(run.wait(progress="none").done for run in runs)
    assert shop.paid == 6

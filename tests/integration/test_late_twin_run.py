"""A whole run and a batch that turns up after it closed: a second receipt tells, and nobody polls for it meanwhile."""

from __future__ import annotations

from rig import Rig, held_back

from batchkit.equations import count
from batchkit.mover import Mover, Parts
from batchkit.progress import Progress
from batchkit.receipt import latest_receipt
from batchkit.states import RunState


def a_mover(rig: Rig) -> Mover[object]:
    parts: Parts[object] = Parts(
        spec=rig.spec,  # type: ignore[arg-type]
        store=rig.store,
        submitter=rig.submitter,  # type: ignore[arg-type]
        collector=rig.collector,  # type: ignore[arg-type]
        clock=rig.clock,
        owner=lambda: "mover",
    )
    return Mover(rig.run, parts)


def until_closed(rig: Rig, mover: Mover[object]) -> Progress:
    for _ in range(300):
        progress = mover.advance()
        if progress.done:
            return progress
        assert progress.wake_at is not None
        rig.clock.sleep(max(progress.wake_at - rig.clock.now(), 1.0))
    raise AssertionError("the run did not close")


def test_a_twin_of_a_closed_run_is_told_by_a_second_receipt() -> None:
    """The closed run says until when a batch may turn up; the pass after that books it, and the sums hold."""
    rig = Rig(12)
    kept = held_back(rig.faults)
    rig.store.release(rig.lease)
    mover = a_mover(rig)
    closed = until_closed(rig, mover)
    assert closed.wake_at is not None
    assert closed.wake_at - rig.clock.now() > 20 * 3_600
    rig.sim.handle(kept[0])
    calls = len(rig.faults.seen)
    assert mover.advance().wake_at == closed.wake_at
    assert len(rig.faults.seen) == calls
    first = latest_receipt(rig.store, rig.run)
    assert first is not None
    assert [watch["until"] for watch in first[1]["watches"]] == [closed.wake_at]

    rig.clock.sleep(closed.wake_at - rig.clock.now() + 3_600)
    progress = mover.advance()
    for _ in range(5):
        if progress.wake_at is None:
            break
        rig.clock.sleep(max(progress.wake_at - rig.clock.now(), 60.0))
        progress = mover.advance()
    assert progress.wake_at is None
    assert progress.run_state is RunState.CLOSED
    second = latest_receipt(rig.store, rig.run)
    assert second is not None
    assert (second[1]["number"], second[1]["previous"], second[1]["watches"]) == (2, first[0], [])
    assert second[1]["balanced"]
    money = second[1]["equations"]["money"]
    assert money["duplicate"] > 0
    assert money["usage"] == money["batches"]
    assert rig.billed == 24
    run = rig.store.runs(name="run")[0]
    assert count(rig.store, run, tally=rig.tally).hold

"""What people ask for while a pass is under way: heeded before the next batch, and never left lying."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig import Label
from shop import Shop, batches

from batchkit.money import Budget
from batchkit.run import Run
from batchkit.states import BatchState, Outcome, RunState
from batchkit.testing import Handler, Request, Response, SimulatedClock
from batchkit.view import RunView, attach, set_cap


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


def during_create(shop: Shop, nth: int, what: Callable[[], object]) -> None:
    """Do something while the n-th create is on its way."""
    seen: list[str] = []

    def rule(request: Request, api: Handler) -> Response | None:
        if request.method == "POST" and request.path.endswith("/batches"):
            seen.append(request.path)
            if len(seen) == nth:
                what()
        return None

    shop.faults.rules.append(rule)


def view(shop: Shop) -> RunView[object]:
    """Look at the run as another process would; by the same clock, by which the lease is held."""
    return attach(shop.flow().store, "run")


def many(shop: Shop, budget: Budget | None = None) -> Run[Label]:
    """Start a run that goes out in ten batches at least, all of them in one pass."""
    return shop.start(rows=100, flow=shop.flow(max_batch_rows=10, budget=budget))


def test_a_pause_is_heeded_before_the_next_batch(shop: Shop) -> None:
    """A pause that arrives while the second batch is sent is the end of sending, in the same pass."""
    run = many(shop)
    during_create(shop, 2, lambda: view(shop).pause("enough"))
    progress = run.advance()
    assert shop.faults.posts == 2
    assert (progress.run_state, progress.state) == (RunState.PAUSED, "paused")
    assert [need.why for need in progress.needs] == ["enough"]


def test_a_cancel_is_heeded_before_the_next_batch(shop: Shop) -> None:
    """A cancel that arrives while a batch is sent lets nothing more out, and is carried through without delay."""
    run = many(shop)
    during_create(shop, 1, lambda: view(shop).cancel("wrong prompt"))
    progress = run.advance()
    assert shop.faults.posts == 1
    assert (progress.run_state, progress.wake_at) == (RunState.CANCELING, shop.now)
    done = run.wait(progress="none")
    sent = sum(batch.count for batch in batches(run))
    assert done.tally.outcomes[Outcome.CANCELED] >= 100 - sent


def test_a_lower_cap_is_heeded_before_the_next_batch(shop: Shop) -> None:
    """A cap that is lowered while a batch is sent stops the next one, which fitted under the old cap."""
    run = many(shop, Budget(5))
    during_create(shop, 3, lambda: set_cap(shop.path, "0.001", by="lead"))
    progress = run.advance()
    assert shop.faults.posts == 3
    assert (progress.state, [need.code for need in progress.needs]) == ("paused", ["budget"])
    assert progress.cap == 1_000_000


def test_what_is_asked_at_the_end_of_a_pass_is_not_left_lying(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks while the lease is held leaves it to the holder: the wait goes on until it is carried out."""
    run = many(shop)
    run.pause("a moment")
    asked: list[bool] = []
    release = type(run._store).release

    def asking(store: object, lease: object) -> None:
        if not asked:
            asked.append(True)
            view(shop).unpause()
        release(store, lease)  # type: ignore[arg-type]

    monkeypatch.setattr(type(run._store), "release", asking)
    assert run.wait(progress="none").done
    assert asked
    assert {batch.state for batch in batches(run)} == {BatchState.COLLECTED}


def test_a_mover_whose_rows_another_one_sent_looks_again(shop: Shop) -> None:
    """A lease that ran out in mid-pass ends no wait early: the late mover sends nothing and says when to look."""
    clock = SimulatedClock(shop.sim)
    run = shop.start(rows=3, flow=shop.flow(clock=clock))
    other = shop.flow(clock=clock).resume("run")
    overtaken: list[bool] = []
    taken: list[int] = []

    def rule(request: Request, api: Handler) -> Response | None:
        if not overtaken:
            overtaken.append(True)
            clock.sleep(90.0)
            taken.append(other.advance().batches_running)
        return None

    shop.faults.rules.append(rule)
    progress = run.advance()
    assert (taken, shop.faults.posts, progress.wake_at is not None) == ([1], 1, True)
    assert run.wait(progress="none").done
    assert shop.paid == 3

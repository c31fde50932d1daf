"""What a worker's looks cost: at runs that others hold, and at its own stop sign."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import Label
from shop import Shop, batches

from batchkit.clock import Clock
from batchkit.progress import Progress
from batchkit.run import Run
from batchkit.states import BatchState
from batchkit.storage import Store
from batchkit.storage.owner import this_process
from batchkit.storage.sqlite import SQLiteStore
from batchkit.testing import Handler, Request, Response
from batchkit.testing.faults import Nth, faulty_store
from batchkit.workflow import Workflow


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


def held(run: Run[Label], seconds: float) -> float:
    """Have another mover take the run's lease and die; give when the lease ends."""
    lease = run._store.acquire(run.record.id, this_process("elsewhere"), seconds)
    assert lease is not None
    return lease.until


def counting(shop: Shop, clock: Clock, counter: Nth, shown: list[Progress]) -> Workflow[Label]:
    """Give a workflow whose operations on the store are counted."""
    flow = shop.flow()
    store: Store = faulty_store(SQLiteStore(shop.path, clock=clock), counter)
    flow.store.close()
    flow = Workflow(shop.spec, store=store, client=flow._client, on_progress=shown.append)
    shop.opened.append(flow)
    return flow


def test_a_look_at_a_held_run_is_four_short_operations(shop: Shop) -> None:
    """While somebody else holds a run, a worker's look is who holds it, and what files they offer; it makes no pass."""
    run = shop.start()
    shop.sim.advance(1.0)
    clock, counter, shown = run._flow.clock, Nth(), list[Progress]()
    ends = held(run, 60.0)
    flow = counting(shop, clock, counter, shown)
    looks: list[float] = []

    def stop() -> bool:
        looks.append(flow.clock.now())
        return flow.clock.now() >= ends - 30.0

    flow.work(stop=stop, idle=1.0)
    assert len(looks) >= 30
    assert set(counter.operations) == {"runs", "holder", "docs"}
    assert len(counter.operations) <= 4 * len(looks)
    assert shown == []
    assert shop.faults.seen == []


def test_a_worker_takes_over_when_a_lease_ends(shop: Shop) -> None:
    """A run whose mover died is moved at the end of its lease, however long the worker may idle, and to its end."""
    run = shop.start()
    ends = held(run, 60.0)
    shown: list[Progress] = []
    flow = shop.flow(on_progress=shown.append)
    flow.work(stop=lambda: not flow.open_runs(), idle=3_600.0)
    assert shown[0].moved
    assert ends <= shown[0].now <= ends + 1.0
    assert run.progress.done
    assert shop.paid == 10


def test_a_run_that_is_let_go_early_is_seen_within_the_idle_time(shop: Shop) -> None:
    """A lease that is given back before it ends is noticed at the next look."""
    run = shop.start()
    lease = run._store.acquire(run.record.id, this_process("elsewhere"), 60.0)
    assert lease is not None
    given_back: list[float] = []
    shown: list[Progress] = []
    flow = shop.flow(on_progress=shown.append)

    def stop() -> bool:
        if not given_back and flow.clock.now() >= lease.until - 40.0:
            run._store.release(lease)
            given_back.append(flow.clock.now())
        return not flow.open_runs()

    flow.work(stop=stop, idle=5.0)
    assert given_back[0] <= shown[0].now <= given_back[0] + 6.0
    assert run.progress.done


def test_a_worker_whose_key_is_refused_asks_no_oftener_than_it_idles(shop: Shop) -> None:
    """A run that waits for somebody is looked at every `idle` seconds, though each look notes something."""
    run = shop.start(rows=20, flow=shop.flow(max_batch_rows=5))
    run.advance()
    run._flow.clock.sleep(400.0)
    files: list[str] = []

    def refuse(request: Request, api: Handler) -> Response | None:
        if request.path.endswith("/results"):
            files.append(request.path)
            return Response(status=401)
        return None

    shop.faults.rules.append(refuse)
    flow = shop.flow()
    ends = flow.clock.now() + 600.0
    flow.work(stop=lambda: flow.clock.now() >= ends or len(files) > 100, idle=60.0)
    assert run.progress.needs
    assert 5 <= len(files) <= 12


def test_within_a_pass_a_stop_sign_is_asked_once_a_second(shop: Shop) -> None:
    """A pass that takes no time asks nobody: telling whether any run is open is dearer than a few hundred rows."""
    shop.start(rows=200)
    shown: list[Progress] = []
    asked: list[bool] = []
    within: list[str] = []

    def note(request: Request, api: Handler) -> Response | None:
        if request.path.endswith("/results"):
            within.append(request.path)
            asked.clear()
        return None

    shop.faults.rules.append(note)

    def show(progress: Progress) -> None:
        shown.append(progress)
        asked.append(False)

    flow = shop.flow(on_progress=show)

    def stop() -> bool:
        asked.append(True)
        return not flow.open_runs()

    flow.work(stop=stop, idle=5.0)
    assert shown[-1].done
    # From the file's request to the end of its pass, which showed its progress before the sign was asked again.
    assert within
    assert not asked[0]


def test_a_stop_sign_ends_a_long_pass_midway(shop: Shop) -> None:
    """Where a pass takes longer than a second, a stop sign that went up in it ends it: the file is read later."""
    run = shop.start()
    began: list[str] = []

    class Slow:
        """The same time, in which a second passes whenever somebody measures."""

        def __init__(self, clock: Clock) -> None:
            self.now, self.sleep = clock.now, clock.sleep
            self.ticks = 0

        def monotonic(self) -> float:
            self.ticks += 1
            return float(self.ticks)

    def note(request: Request, api: Handler) -> Response | None:
        if request.path.endswith("/results"):
            began.append(request.path)
        return None

    shop.faults.rules.append(note)
    shop.flow(clock=Slow(run._flow.clock)).work(stop=lambda: bool(began), idle=5.0)
    assert len(began) == 1
    assert [batch.state for batch in batches(run)] == [BatchState.ENDED]
    assert run.wait(progress="none").done
    assert shop.paid == 10

"""Units: result files read by others, under the lease of whoever moves the run."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import sys
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import unitapp
from rig import Label
from shop import Shop, batches
from typing_extensions import override

from batchkit import units
from batchkit.equations import count
from batchkit.errors import ExecutorError, LeaseLost, ProviderError, UsageError
from batchkit.ids import Nonce
from batchkit.inhand import InHand
from batchkit.model import Batch, BatchWhere, Lease
from batchkit.model import Run as Record
from batchkit.progress import Progress
from batchkit.run import Run
from batchkit.standing import progress_of
from batchkit.states import BatchState, RowState
from batchkit.storage import Store
from batchkit.testing import Handler, Latency, Request, Response, SimulatedAPI, serve
from batchkit.testing.soak.scene import model
from batchkit.units import Unit, perform
from batchkit.workflow import Workflow

APP = "apps_of_units:flow"


class Inline(Executor):
    """Does each unit at once, in this thread, and remembers what it was given."""

    def __init__(self, instead: Callable[[Unit, Callable[[Unit], Any]], Any] | None = None) -> None:
        self.units: list[Unit] = []
        self.instead = instead

    @override
    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        [unit] = args
        self.units.append(unit)
        future: Future[Any] = Future()
        try:
            future.set_result(fn(unit) if self.instead is None else self.instead(unit, fn))
        except BaseException as error:
            future.set_exception(error)
        return future


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A shop whose workflow workers find under `APP`."""
    made = Shop(tmp_path)
    apps = ModuleType("apps_of_units")

    def flow() -> Workflow[Label]:
        return made.flow()

    apps.flow = flow  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "apps_of_units", apps)
    units._workflow.cache_clear()
    yield made
    units._workflow.cache_clear()
    made.close()


def started(shop: Shop, executor: Executor, *, rows: int = 20, most: int = 5) -> Run[Label]:
    flow = shop.flow(executor=executor, app=APP, max_batch_rows=most)
    return shop.start(rows=rows, flow=flow)


def ended(run: Run[Label]) -> list[Batch]:
    """Send everything and have it end; give the batches."""
    run.advance()
    run._flow.clock.sleep(400.0)
    lease = held(run)
    run._flow.parts().collector.poll(lease, run.record)
    run._store.release(lease)
    found = batches(run)
    assert {batch.state for batch in found} == {BatchState.ENDED}
    return found


def held(run: Run[Label]) -> Lease:
    """Take the run's lease, as whoever moves it does."""
    lease = run._store.acquire(run.record.id, "holder", 60.0)
    assert lease is not None
    return lease


def unit_of(batch: Batch, epoch: int) -> Unit:
    return Unit(app=APP, run=batch.run, batch=batch.id, nonce=batch.nonce, epoch=epoch)


def test_a_run_whose_files_others_read_ends_as_any_other(shop: Shop) -> None:
    """Every result file is handed out once, the run balances, and every row is paid once."""
    executor = Inline()
    run = started(shop, executor)
    assert run.wait(progress="none").done
    found = batches(run)
    assert len(executor.units) == len(found) > 3
    assert {unit.batch for unit in executor.units} == {batch.id for batch in found}
    assert {batch.state for batch in found} == {BatchState.COLLECTED}
    assert run.reconcile().balanced
    assert (shop.paid, max(shop.sim.bill().times_paid().values())) == (20, 1)
    assert count(run._store, run.record, tally=run._store.tally(run.record.id)).hold


def test_a_unit_is_ids_alone(shop: Shop) -> None:
    """What goes to a worker names no store, no address and no row, and is small."""
    executor = Inline()
    run = started(shop, executor)
    run.wait(progress="none")
    sent = pickle.dumps(executor.units[0])
    assert len(sent) < 400
    for secret in (str(shop.path), "simulated", "S0001", "w0001"):
        assert secret.encode() not in sent


def test_of_two_deliveries_one_reads(shop: Shop) -> None:
    """A unit that is delivered again finds itself claimed, whether the first delivery ended or died on the way."""
    run = started(shop, Inline())
    first, second, *_ = ended(run)
    store = run._store
    lease = held(run)
    collected = perform(unit_of(first, lease.epoch))
    assert collected is not None
    assert collected.complete
    assert perform(unit_of(first, lease.epoch)) is None

    died = unit_of(second, lease.epoch)
    assert units.claimed(store, lease, second.id, "a worker that died")
    assert perform(died) is None
    assert store.batches(BatchWhere(ids=(second.id,)))[0] == second


def test_a_unit_of_an_epoch_that_is_over_does_nothing(shop: Shop) -> None:
    """Handed out before the lease was taken over or given back, a unit neither claims nor reads."""
    run = started(shop, Inline())
    first, *_ = ended(run)
    store = run._store
    lease = held(run)
    calls = len(shop.faults.seen)
    assert perform(unit_of(first, lease.epoch - 1)) is None
    store.release(lease)
    assert perform(unit_of(first, lease.epoch)) is None
    assert len(shop.faults.seen) == calls
    assert store.batches(BatchWhere(ids=(first.id,)))[0] == first


def test_a_lease_that_is_lost_on_the_way_ends_the_unit(shop: Shop) -> None:
    """Taken over while a file is read, the next page is refused: nothing of it is settled, and nobody counts as dead."""
    run = started(shop, Inline())
    first, *_ = ended(run)
    store = run._store
    lease = held(run)
    others: list[Lease] = []

    def taken_over(request: Request, api: Handler) -> Response | None:
        if request.path.endswith("/results"):
            store.release(lease)
            other = store.acquire(run.record.id, "another", 60.0)
            assert other is not None
            others.append(other)
        return None

    shop.faults.rules.append(taken_over)
    with pytest.raises(LeaseLost):
        perform(unit_of(first, lease.epoch))
    assert store.tally(run.record.id).in_state(RowState.SUBMITTED) == 20
    (batch,) = store.batches(BatchWhere(ids=(first.id,)))
    assert batch.lines == 0
    assert InHand.taken_up(store, others[0], batch, run._flow.clock).lost == []


def test_a_worker_on_another_store_is_told_so(shop: Shop) -> None:
    """The same numbers in a store that is not the run's are no reason to settle anything: the nonce must agree."""
    run = started(shop, Inline())
    first, *_ = ended(run)
    lease = held(run)
    other = Unit(app=APP, run=first.run, batch=first.id, nonce=Nonce("zzzz2345"), epoch=lease.epoch)
    with pytest.raises(UsageError, match="opens another store"):
        perform(other)


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("no_such_module_at_all:flow", "there is no module 'no_such_module_at_all'.*set PYTHONPATH"),
        ("apps_of_units:nothing", "is no workflow, it is NoneType"),
        ("apps_of_units:broken", "KeyError: 'STORE'.*environment set"),
    ],
)
def test_a_worker_that_cannot_make_the_workflow_says_why(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, app: str, said: str
) -> None:
    """The error reaches the caller of the pass, and the next pass, without the executor, goes on."""

    def broken() -> None:
        raise KeyError("STORE")

    monkeypatch.setattr(sys.modules["apps_of_units"], "broken", broken, raising=False)
    flow = shop.flow(executor=Inline(), app=app, max_batch_rows=5)
    run = shop.start(rows=20, flow=flow)
    with pytest.raises(UsageError, match=f"the worker \\(process \\d+ on .*{said}"):
        run.wait(progress="none")
    assert shop.flow().resume("run").wait(progress="none").done
    assert shop.paid == 20


def test_an_executor_needs_the_name_of_the_workflow(shop: Shop) -> None:
    """Without app='module:name' workers could not find the workflow: that is refused at once."""
    with pytest.raises(UsageError, match="module:name"):
        shop.flow(executor=Inline())


def test_four_are_out_at_a_time_and_none_is_kept(shop: Shop) -> None:
    """A fifth unit waits for one of four to end, and whoever handed them out keeps no future that is done."""
    out: list[tuple[Future[Any], Callable[[], None]]] = []
    kept: list[weakref.ref[Future[Any]]] = []
    most: list[int] = []

    class Late(Inline):
        """Does a unit when the fourth is there, or nobody gives another."""

        @override
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            kept.append(weakref.ref(future))
            out.append((future, lambda: future.set_result(fn(*args))))
            most.append(len(out))
            return future

    def do_one(*_: object, **__: object) -> tuple[set[Future[Any]], set[Future[Any]]]:
        assert sum(ref() is not None for ref in kept) == len(out)
        future, finish = out.pop(0)
        finish()
        return {future}, set()

    run = started(shop, Late(), rows=40)
    ended(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "wait", do_one)
        assert run.wait(progress="none").done
    assert max(most) == 4
    assert len(most) == len(batches(run)) > 6
    assert all(ref() is None for ref in kept)


def test_a_unit_that_fails_is_looked_up_in_the_store(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """What failed before it settled is handed out again in another epoch; what failed after it settled is not."""
    failures = iter([False, True])

    def fails(unit: Unit, fn: Callable[[Unit], Any]) -> Any:
        settles = next(failures, None)
        if settles is None:
            return fn(unit)
        if settles:
            fn(unit)
        raise OSError("a worker died")

    executor = Inline(fails)
    run = started(shop, executor, rows=4)
    with caplog.at_level(logging.WARNING, "batchkit"):
        assert run.wait(progress="none").done
    assert [unit.batch for unit in executor.units] == [1, 1]
    assert executor.units[0].epoch < executor.units[1].epoch
    assert "batch 1 came back unread from the executor (1): OSError" in caplog.text
    assert "(2)" not in caplog.text
    assert shop.paid == 4
    assert run.reconcile().balanced


def test_workers_that_come_to_nothing_end_the_pass(shop: Shop) -> None:
    """A file that comes back unread six times is an error of the executor; the rows wait, and another one goes on."""

    def dies(unit: Unit, fn: Callable[[Unit], Any]) -> Any:
        raise OSError("killed")

    executor = Inline(dies)
    run = started(shop, executor, rows=4)
    with pytest.raises(ExecutorError, match=r"batch 1 came back unread from the executor 6 times.*OSError"):
        run.wait(progress="none")
    assert len(executor.units) == 6
    assert run._store.holder(run.record.id) is None
    assert shop.flow().resume("run").wait(progress="none").done
    assert shop.paid == 4


@pytest.mark.parametrize("error", [BrokenExecutor("gone"), RuntimeError("cannot schedule new futures")])
def test_an_executor_that_takes_nothing_is_named(shop: Shop, error: Exception) -> None:
    """A broken pool, and one that was shut down, end the pass with what to do."""

    class Broken(Inline):
        @override
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            raise error

    run = started(shop, Broken(), rows=4)
    with pytest.raises(ExecutorError, match="run again with a new executor"):
        run.wait(progress="none")
    assert shop.flow().resume("run").wait(progress="none").done


def test_a_credential_that_workers_lack_pauses_the_run(shop: Shop) -> None:
    """What the API refuses a worker is what it would refuse the mover: the run pauses and says who must act."""

    def refused(unit: Unit, fn: Callable[[Unit], Any]) -> Any:
        raise ProviderError("invalid x-api-key", status=401)

    run = started(shop, Inline(refused), rows=4)
    progress = run.wait(progress="none")
    assert [need.code for need in progress.needs] == ["api.refused"]


def test_units_that_are_never_done_are_left(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody writes any more the lease lapses and the units are left; a stop sign is heeded after a grace."""
    monkeypatch.setattr(units, "LOOK", 0.001)
    monkeypatch.setattr(units, "IDLE", 3)
    clock = shop.flow().clock
    hung: list[Future[Any]] = []

    class Hanging(Inline):
        @override
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            hung.append(Future())
            return hung[-1]

    run = started(shop, Hanging(), rows=4)
    run.advance()
    clock.sleep(200.0)
    run.advance(stop=lambda: bool(hung))
    assert [future.cancelled() for future in hung] == [True]

    def lapsed(*_: object, **__: object) -> tuple[set[Any], set[Any]]:
        clock.sleep(61.0)
        run._flow.clock.sleep(0.0)
        return set(), set()

    monkeypatch.setattr(units, "wait", lapsed)
    run.advance()
    assert [future.cancelled() for future in hung] == [True, True]
    assert run._flow._hands is not None
    assert run._flow._hands._failed == {1: 1}
    assert shop.flow().resume("run").wait(progress="none").done


class Hanging(Inline):
    """Takes units and does none."""

    @override
    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.units.append(args[0])
        return Future()


def test_a_unit_may_write_after_the_pass_has_counted(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a unit settles after its mover stopped, before the lease ends, is counted in the next pass: the run closes."""
    monkeypatch.setattr(units, "LOOK", 0.001)
    executor = Hanging()
    run = started(shop, executor, rows=4)
    ended(run)
    late: list[bool] = []

    def written_late(store: Store, record: Record, **more: Any) -> Progress:
        if executor.units and not late:
            collected = perform(executor.units[0])
            late.append(collected is not None and collected.complete)
        return progress_of(store, record, **more)

    monkeypatch.setattr("batchkit.mover.progress_of", written_late)
    run.advance(stop=lambda: bool(executor.units))
    assert late == [True]
    assert run.advance().done
    assert shop.paid == 4


def test_a_mover_that_was_taken_over_leaves_its_units(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited past its lease, and finds another's, says until when that one lives."""
    executor = Hanging()
    run = started(shop, executor, rows=4)
    ended(run)
    until: list[float] = []

    def taken_over(*_: object, **__: object) -> tuple[set[Any], set[Any]]:
        run._flow.clock.sleep(100.0)
        until.append(held(run).until)
        return set(), set()

    monkeypatch.setattr(units, "wait", taken_over)
    assert [run.advance().wake_at] == until


@contextmanager
def opened(pool: Executor) -> Iterator[Workflow[Label]]:
    """Make the coordinator's workflow, and close what it opened."""
    flow = unitapp.flow(pool)
    yield flow
    flow.store.close()
    flow.gateway.client.close()


def test_a_pool_of_processes_loses_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spawned processes read the files; one is killed over a row, the pool is named broken, a new one ends the run."""
    sim = SimulatedAPI(model, seed=5, latency=Latency(60.0, 120.0))
    trap = tmp_path / "trap"
    with serve(sim) as server:
        monkeypatch.setenv("UNITAPP_STORE", str(tmp_path / "store.db"))
        monkeypatch.setenv("UNITAPP_URL", server.url)
        monkeypatch.setenv("UNITAPP_TRAP", str(trap))
        trap.touch()
        rows = [{"sku": f"S{n:04}", "word": "fine", "brand": "b"} for n in range(40)]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool, opened(pool) as flow:
            run = flow.start("run", rows, unlocked=True)
            with pytest.raises(ExecutorError, match="BrokenProcessPool"):
                run.wait(progress="none")
            assert not trap.exists()
        with ProcessPoolExecutor(2, mp_context=context) as pool, opened(pool) as flow:
            again = flow.resume("run")
            assert again.wait(progress="none").done
            assert again.reconcile().balanced
            assert count(flow.store, again.record, tally=flow.store.tally(again.record.id)).hold
        assert (sim.bill().lines, max(sim.bill().times_paid().values())) == (40, 1)

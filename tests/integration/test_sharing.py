"""The result files of one run, read by whoever works on its store."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import to_json
from rig import Label, answers
from shop import Shop, batches, tiny_spec

from batchkit import sharing, units
from batchkit.collector import Collected, ResultCollector
from batchkit.contract import Contract
from batchkit.errors import StoreError
from batchkit.ids import BatchId
from batchkit.model import Batch, BatchWhere, DocKind, Lease
from batchkit.model import Run as Record
from batchkit.progress import Progress
from batchkit.reasons import Reason
from batchkit.run import Run
from batchkit.sharing import lend_a_hand, shared
from batchkit.standing import progress_of
from batchkit.states import BatchState, RunState
from batchkit.storage import Store
from batchkit.testing import Answer, Handler, Latency, Request, Response
from batchkit.testing.faults import Nth, faulty_store
from batchkit.workflow import Workflow

GONE = "from batchkit.storage.owner import this_process; print(this_process('helper'))"


class Shape(BaseModel):
    """What another spec asks for."""

    edges: int


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


@pytest.fixture
def run(shop: Shop) -> Run[Label]:
    """A run of several batches, which have ended."""
    started = shop.start(rows=20, flow=shop.flow(max_batch_rows=5))
    started.advance()
    started._flow.clock.sleep(400.0)
    assert len(batches(started)) > 3
    return started


def lends(run: Run[Label], helper: Workflow[Label]) -> bool:
    """Have the helper look once at what the run's mover offers."""
    return lend_a_hand(helper, [run.record], lambda: False)


def at_the_first_file(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> list[BatchId]:
    """Do something when the first file is about to be read, by whoever; give the batches whose files are read."""
    read: list[BatchId] = []
    collect = ResultCollector.collect

    def first(self: Any, lease: Lease, record: Any, batch: Batch, **more: Any) -> Collected:
        read.append(batch.id)
        if len(read) == 1:
            do()
        return collect(self, lease, record, batch, **more)

    monkeypatch.setattr(ResultCollector, "collect", first)
    return read


def at_the_first_look(
    run: Run[Label], monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]
) -> list[float]:
    """Do something when the mover first waits for a file that another reads; give the times of its looks."""
    looks: list[float] = []
    clock = run._flow.clock
    sleep = clock.sleep

    def first(seconds: float) -> None:
        sleep(seconds)
        looks.append(clock.now())
        if len(looks) == 1:
            do()

    monkeypatch.setattr(clock, "sleep", first)
    return looks


def claimed_elsewhere(monkeypatch: pytest.MonkeyPatch, name: str) -> list[BatchId]:
    """Let somebody of this name claim the first file that is offered, once; give its batch."""
    taken: list[BatchId] = []
    claimed = units.claimed

    def late(store: Store, lease: Lease, batch: BatchId, owner: str) -> bool:
        if not taken:
            taken.append(batch)
            assert claimed(store, lease, batch, name)
        return claimed(store, lease, batch, owner)

    monkeypatch.setattr(sharing, "claimed", late)
    return taken


def refusing(status: int) -> Callable[[Request, Handler], Response | None]:
    """Give a rule by which the API gives no results."""
    return lambda request, api: Response(status=status) if request.path.endswith("/results") else None


def state_of(run: Run[Label], batch: BatchId) -> BatchState:
    return run._store.batches(BatchWhere(ids=(batch,)))[0].state


def losses(run: Run[Label]) -> list[object]:
    """Give what the batches' notes say of readings in hand."""
    return [batch.notes["in_hand"] for batch in batches(run) if "in_hand" in batch.notes]


def ended_well(run: Run[Label], shop: Shop) -> bool:
    return run.progress.done and run.reconcile().balanced and max(shop.sim.bill().times_paid().values()) == 1


def test_a_worker_reads_files_of_a_run_that_another_moves(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is read once, the mover's from the first and the helper's from the last, and all are waited for."""
    helper = shop.flow()
    helped: list[bool] = []

    def help_twice() -> None:
        helped.extend([lends(run, helper), lends(run, helper)])

    read = at_the_first_file(monkeypatch, help_twice)
    everything = [batch.id for batch in batches(run)]
    run.advance()
    assert helped == [True, True]
    assert read == [everything[0], *everything[:-3:-1], *everything[1:-2]]
    assert {batch.state for batch in batches(run)} == {BatchState.COLLECTED}
    owners = Counter(
        body.split(b"/")[-1] for key, body in run._store.docs(DocKind.CLAIM) if key[-1].isdigit()
    )
    assert len(owners) > 1
    assert ended_well(run, shop)


def test_a_file_that_waits_alone_is_offered_to_nobody(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of one batch writes nothing down about who reads, and a worker that looks finds nothing to do."""
    run = shop.start()
    helped: list[bool] = []
    helper = shop.flow()
    read = at_the_first_file(monkeypatch, lambda: helped.append(lends(run, helper)))
    assert run.wait(progress="none").done
    assert (helped, len(read)) == ([False], 1)
    assert not run._store.docs(DocKind.CLAIM)


def test_nothing_is_read_of_a_run_that_nobody_moves(shop: Shop, run: Run[Label]) -> None:
    """Without a lease there is none to read under."""
    assert not lends(run, shop.flow())
    assert {batch.state for batch in batches(run)} == {BatchState.LIVE}


def test_an_offer_of_an_epoch_that_is_over_is_none(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a mover offered is not read under the lease of the one after it."""
    shop.faults.rules.append(
        lambda request, api: Response(status=500) if request.path.endswith("/results") else None
    )
    run.advance()
    assert run._store.docs(DocKind.CLAIM)
    shop.faults.rules.clear()
    lease = run._store.acquire(run.record.id, "another", 60.0)
    assert lease is not None
    assert not lends(run, shop.flow())
    run._store.release(lease)


def test_code_that_cannot_judge_a_run_leaves_its_files(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose contract is another claims nothing; the mover reads all."""
    other = shop.flow(tiny_spec(contract=Contract(Shape)))
    helped: list[bool] = []
    read = at_the_first_file(monkeypatch, lambda: helped.append(lends(run, other)))
    run.advance()
    assert helped == [False]
    assert read == [batch.id for batch in batches(run)]
    assert ended_well(run, shop)


@pytest.mark.parametrize("status", [401, 404])
def test_a_file_that_a_helper_cannot_read_is_read_by_the_mover(
    shop: Shop,
    run: Run[Label],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    """A helper with another key puts the file down, says so in the log, and judges nothing; the same pass reads the file."""
    helper = shop.flow()
    helped: list[bool] = []

    def refused() -> None:
        shop.faults.rules.append(refusing(status))
        helped.append(lends(run, helper))
        assert not {"broken", "read_next", "in_hand"} & batches(run)[-1].notes.keys()
        shop.faults.rules.clear()

    read = at_the_first_file(monkeypatch, refused)
    began, last = shop.now, batches(run)[-1].id
    run.advance()
    assert helped == [False]
    assert f"the results of batch {last}, offered by another worker, cannot be read here" in caplog.text
    assert read == [batches(run)[0].id, last, *[batch.id for batch in batches(run)[1:]]]
    assert {batch.state for batch in batches(run)} == {BatchState.COLLECTED}
    assert shop.now < began + 5.0
    assert ended_well(run, shop)


def test_a_reader_that_is_gone_is_not_waited_for(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the claimant was a process of this machine that has ended, the mover reads its file in the same pass."""
    gone = subprocess.run([sys.executable, "-c", GONE], capture_output=True, text=True, check=True)
    batch = claimed_elsewhere(monkeypatch, gone.stdout.strip())
    read = at_the_first_file(monkeypatch, lambda: None)
    began = shop.now
    run.advance()
    assert read[-1:] == batch
    assert {batch.state for batch in batches(run)} == {BatchState.COLLECTED}
    assert shop.now < began + 5.0
    assert ended_well(run, shop)


def test_a_reader_of_whom_nothing_is_heard_is_given_up(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody can tell whether the claimant lives, its file is waited for until nothing was written for some time."""
    monkeypatch.setattr(sharing, "IDLE", 20)
    batch = claimed_elsewhere(monkeypatch, "a worker on another machine")
    began = shop.now
    run.advance()
    assert [b.id for b in batches(run) if b.state is BatchState.ENDED] == batch
    assert began + 20.0 <= shop.now <= began + 25.0
    run.advance()
    assert ended_well(run, shop)


def test_who_is_told_to_stop_waits_a_moment_for_the_others(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped mover gives those who read ten seconds, and then the lease back."""
    claimed_elsewhere(monkeypatch, "a worker on another machine")
    stopped: list[float] = []

    def stop() -> bool:
        if len(batches(run)) - sum(b.state is BatchState.COLLECTED for b in batches(run)) == 1:
            stopped.append(shop.now)
        return bool(stopped)

    run.advance(stop=stop)
    assert 9.0 <= shop.now - stopped[0] <= 12.0
    assert run._store.holder(run.record.id) is None
    run.advance()
    assert ended_well(run, shop)


def test_a_helper_whose_mover_is_replaced_writes_no_more(shop: Shop, run: Run[Label]) -> None:
    """A helper that reads on when another has taken the run over settles nothing of it, and goes on with its work."""
    helper, store = shop.flow(), run._store
    lease = store.acquire(run.record.id, "a mover", 60.0)
    assert lease is not None
    run._flow.parts().collector.poll(lease, run.record)
    ready = [batch for batch in batches(run) if batch.state is BatchState.ENDED]
    assert len(ready) > 1
    helped: list[bool] = []

    def taken_over(request: Request, api: Handler) -> Response | None:
        if request.path.endswith("/results") and not helped:
            store.release(lease)
            assert store.acquire(run.record.id, "the next mover", 1.0) is not None
        return None

    def read(batch: Batch) -> Collected:
        helped.append(lends(run, helper))
        return Collected(batch=batch)

    shop.faults.rules.append(taken_over)
    over, clock = (lambda: bool(helped)), run._flow.clock
    list(shared(store, lease, run.record, ready, read=read, owner="a mover", clock=clock, over=over))
    assert helped == [True]
    assert [batch.id for batch in ready] == [b.id for b in batches(run) if b.state is BatchState.ENDED]
    clock.sleep(2.0)
    assert run.wait(progress="none").done
    assert ended_well(run, shop)


@pytest.mark.parametrize("why", ["stopped", "refused"])
def test_a_pass_that_reads_no_more_waits_for_what_others_have_begun(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """A mover that is stopped, or whose key is refused, takes its offer back, and cuts nobody off who reads for it."""
    store, helper, last = run._store, shop.flow(), batches(run)[-1].id
    leases: list[Lease] = []
    helped: list[bool] = []

    def begin() -> None:
        lease = store.holder(run.record.id)
        assert lease is not None
        assert units.claimed(store, lease, last, "a helper")
        leases.append(lease)
        if why == "refused":
            shop.faults.rules.append(refusing(401))

    def finish() -> None:
        shop.faults.rules.clear()
        helped.append(lends(run, helper))
        batch = batches(run)[-1]
        assert helper.parts().collector.collect(leases[0], run.record, batch, lent=True).complete
        store.put(DocKind.CLAIM, f"{units.scope(leases[0])}/{last}-over", b"")

    read = at_the_first_file(monkeypatch, begin)
    looks = at_the_first_look(run, monkeypatch, finish)
    progress = run.advance(stop=(lambda: bool(leases)) if why == "stopped" else None)
    assert (helped, len(looks)) == ([False], 1)
    assert state_of(run, last) is BatchState.COLLECTED
    assert read == [batches(run)[0].id, last]
    assert [need.code for need in progress.needs] == ["api.refused"] * (why == "refused")
    assert losses(run) == []
    assert progress.tally == store.tally(run.record.id)


def test_a_claim_that_comes_after_the_offer_was_taken_back_is_put_down(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper that claims just too late for the mover to see it reads nothing."""
    helper, claimed = shop.flow(), units.claimed
    helping: list[bool] = []
    helped: list[bool] = []

    def late(store: Store, lease: Lease, batch: BatchId, owner: str) -> bool:
        if helping:
            store.put(DocKind.CLAIM, f"{units.scope(lease)}/closed", b"")
        return claimed(store, lease, batch, owner)

    def help_late() -> None:
        helping.append(True)
        helped.append(lends(run, helper))
        helping.clear()

    monkeypatch.setattr(sharing, "claimed", late)
    read = at_the_first_file(monkeypatch, help_late)
    run.advance()
    assert helped == [False]
    assert read == [batch.id for batch in batches(run)]
    assert ended_well(run, shop)


def test_a_run_is_waited_for_to_its_end_though_a_reader_is_silent(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was given up says when to come back: ``wait`` does not leave with rows open."""
    claimed_elsewhere(monkeypatch, "a worker on another machine")
    assert run.wait(progress="none").done
    assert ended_well(run, shop)


def test_a_mover_that_was_taken_over_while_it_waited_comes_back(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited past its lease, and finds another's, says until when that one lives."""
    claimed_elsewhere(monkeypatch, "a worker on another machine")
    until: list[float] = []

    def take_over() -> None:
        run._flow.clock.sleep(100.0)
        lease = run._store.acquire(run.record.id, "the next mover", 60.0)
        assert lease is not None
        until.append(lease.until)

    looks = at_the_first_look(run, monkeypatch, take_over)
    progress = run.advance()
    assert len(looks) == 2
    assert [progress.wake_at] == until
    assert run.wait(progress="none").done


def test_a_helper_may_write_after_the_pass_has_counted(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written between a pass's last count and the end of its lease is counted in the next pass: the run closes."""
    batch = claimed_elsewhere(monkeypatch, "a worker on another machine")
    store, helper = run._store, shop.flow()
    late: list[bool] = []

    def written_late(store: Store, record: Record, **more: Any) -> Progress:
        lease = store.holder(record.id)
        if lease is not None and not late:
            unread = store.batches(BatchWhere(ids=tuple(batch)))[0]
            late.append(helper.parts().collector.collect(lease, record, unread).complete)
        return progress_of(store, record, **more)

    monkeypatch.setattr("batchkit.mover.progress_of", written_late)
    run.advance(
        stop=lambda: sum(b.state is BatchState.COLLECTED for b in batches(run)) == len(batches(run)) - 1
    )
    assert late == [True]
    assert store.tally(run.record.id).open == 0
    assert run.advance().done
    assert ended_well(run, shop)


@pytest.mark.parametrize("helps", [False, True])
def test_money_that_is_missing_pauses_the_run_whoever_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helps: bool
) -> None:
    """A line that was refused for money, read by a helper, pauses the run in the same pass, and nothing is sent."""
    refused = Answer(kind="errored", error_type="billing_error", error_message="no credit")
    shop = Shop(tmp_path, model=answers({"w0019": refused}))
    run = shop.start(rows=20, flow=shop.flow(max_batch_rows=5))
    run.advance()
    run._flow.clock.sleep(400.0)
    helper, sent = shop.flow(), len(batches(run))
    helped: list[bool] = []

    def help_twice() -> None:
        helped.extend([lends(run, helper), lends(run, helper)] if helps else [])

    at_the_first_file(monkeypatch, help_twice)
    progress = run.advance()
    assert helped == [True, True] * helps
    assert run.record.state is RunState.PAUSED
    assert [need.code for need in progress.needs] == ["api.credit"]
    assert len(batches(run)) == sent
    shop.close()


def test_a_claim_that_landed_unheard_is_ones_own(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store breaks off after it wrote a claim, who claimed reads the file, and waits for nobody."""
    broken: list[str] = []
    put = type(run._store).put

    def lost(self: Any, kind: DocKind, key: str, body: bytes) -> object:
        done = put(self, kind, key, body)
        if kind is DocKind.CLAIM and key[-1].isdigit() and not broken:
            broken.append(key)
            raise StoreError("the connection broke")
        return done

    monkeypatch.setattr(type(run._store), "put", lost)
    began = shop.now
    run.advance()
    assert len(broken) == 1
    assert shop.now < began + 5.0
    assert ended_well(run, shop)


def test_a_time_budget_ends_the_wait(shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass with a timeout waits for others as long as one that is told to stop."""
    claimed_elsewhere(monkeypatch, "a worker on another machine")
    began = shop.now
    progress = run.advance(timeout=5.0)
    assert began + 14.0 <= shop.now <= began + 18.0
    assert progress.wake_at is not None
    assert progress.wake_at <= shop.now


def test_a_clock_that_is_set_back_keeps_nobody_waiting(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease that lives for another day, because its time was put right, says nothing about its reader."""
    monkeypatch.setattr(sharing, "IDLE", 20)
    claimed_elsewhere(monkeypatch, "a worker on another machine")
    clock = run._flow.clock
    now = clock.now
    looks = at_the_first_look(
        run, monkeypatch, lambda: monkeypatch.setattr(clock, "now", lambda: now() - 86_400.0)
    )
    run.advance()
    assert 20 <= len(looks) <= 25


def test_ctrl_c_right_after_a_claim_puts_the_file_down(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper that is interrupted as it has claimed, before it knows, leaves a file that the mover reads at once."""
    helper, claimed = shop.flow(), units.claimed
    interrupted: list[BatchId] = []

    def ctrl_c(store: Store, lease: Lease, batch: BatchId, owner: str) -> bool:
        assert claimed(store, lease, batch, owner)
        interrupted.append(batch)
        raise KeyboardInterrupt

    def helping() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sharing, "claimed", ctrl_c)
            with pytest.raises(KeyboardInterrupt):
                lends(run, helper)

    read = at_the_first_file(monkeypatch, helping)
    began = shop.now
    run.advance()
    assert read[-1:] == interrupted
    assert shop.now < began + 5.0
    assert ended_well(run, shop)


def test_a_paused_run_offers_nothing_before_a_file_was_read(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass that is refused once more leaves no offer behind; one that can read a file again offers the others."""
    helper = shop.flow()
    shop.faults.rules.append(refusing(401))
    run.advance()
    assert run.record.state is RunState.PAUSED
    told = len(run._store.docs(DocKind.CLAIM))
    for _ in range(3):
        assert [need.code for need in run.advance().needs] == ["api.refused"]
    assert len(run._store.docs(DocKind.CLAIM)) == told
    shop.faults.rules.clear()
    helped: list[bool] = []
    collect = ResultCollector.collect

    def helping(self: Any, lease: Lease, record: Record, batch: Batch, **more: Any) -> Collected:
        if not more.get("lent"):
            helped.append(lends(run, helper))
        return collect(self, lease, record, batch, **more)

    monkeypatch.setattr(ResultCollector, "collect", helping)
    run.advance()
    assert helped[:2] == [False, True]
    assert ended_well(run, shop)


def test_a_file_that_was_only_put_off_proves_nothing(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused run whose first file is to be read later offers none of the others for it."""
    shop.faults.rules.append(refusing(503))
    run.advance(stop=lambda: "read_next" in batches(run)[0].notes)
    shop.faults.rules[:] = [refusing(401)]
    run.advance()
    assert [need.code for need in run.record.needs] == ["api.refused"]
    told = len(run._store.docs(DocKind.CLAIM))
    run.advance()
    assert "read_next" in batches(run)[0].notes
    assert len(run._store.docs(DocKind.CLAIM)) == told


def test_a_run_that_is_being_canceled_and_is_refused_offers_nothing_more(shop: Shop, run: Run[Label]) -> None:
    """A run that waits for somebody writes nothing down at every pass, whatever its state."""
    run.cancel()
    shop.faults.rules.append(refusing(401))
    run.advance()
    assert run.record.state is RunState.CANCELING
    told = len(run._store.docs(DocKind.CLAIM))
    run.advance()
    assert len(run._store.docs(DocKind.CLAIM)) == told


@pytest.mark.parametrize("fails", ["get", "put"])
def test_a_last_word_is_tried_again(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """A helper whose store fails as it says that it is done says so again, and nobody waits for minutes."""
    helper, failed = shop.flow(), list[str]()
    act = getattr(type(helper.store), fails)

    def once(self: Any, kind: DocKind, key: str, *body: bytes) -> object:
        # What is left to do with a claim that stands and a file that is read is the last word.
        last = key.endswith("-over") or (fails == "get" and key.endswith(f"/{batches(run)[-1].id}"))
        if kind is DocKind.CLAIM and last and not failed:
            failed.append(key)
            raise StoreError("the connection broke")
        return act(self, kind, key, *body)

    monkeypatch.setattr(type(helper.store), fails, once)
    at_the_first_file(monkeypatch, lambda: lends(run, helper))
    began = shop.now
    run.advance()
    assert len(failed) == 1
    assert shop.now < began + 10.0
    assert ended_well(run, shop)


def test_a_last_word_that_cannot_be_said_is_logged(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the store takes no last word, the helper says who will wait and goes on; the mover gives the file up in time."""
    monkeypatch.setattr(sharing, "IDLE", 20)
    helper, put = shop.flow(), type(run._store).put

    def refused(self: Any, kind: DocKind, key: str, body: bytes) -> object:
        if key.endswith("-over"):
            raise StoreError("the disk is full")
        return put(self, kind, key, body)

    monkeypatch.setattr(type(helper.store), "put", refused)
    helped: list[bool] = []
    at_the_first_file(monkeypatch, lambda: helped.append(lends(run, helper)))
    run.advance()
    assert helped == [True]
    assert "whoever moves the run will wait" in caplog.text
    assert ended_well(run, shop)


def test_a_commit_of_the_dead_that_lands_late_ends_nobody(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a helper sent to the server before it was killed may land as the mover reads its file: it counts."""
    gone = subprocess.run([sys.executable, "-c", GONE], capture_output=True, text=True, check=True)
    batch = claimed_elsewhere(monkeypatch, gone.stdout.strip())
    helper, collect = shop.flow(), ResultCollector.collect
    late: list[bool] = []

    def landing(self: Any, lease: Lease, record: Record, found: Batch, **more: Any) -> Collected:
        if found.id in batch and not late:
            late.append(collect(helper.parts().collector, lease, record, found, lent=True).complete)
        return collect(self, lease, record, found, **more)

    monkeypatch.setattr(ResultCollector, "collect", landing)
    run.advance()
    assert late == [True]
    assert {batch.state for batch in batches(run)} == {BatchState.COLLECTED}
    assert ended_well(run, shop)


def test_a_store_that_fails_while_a_file_is_read_ends_the_pass(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not the late end of another reading stays an error."""

    def failing(*_: Any, **__: Any) -> Collected:
        raise StoreError("the disk is full")

    monkeypatch.setattr(ResultCollector, "collect", failing)
    with pytest.raises(StoreError, match="the disk is full"):
        run.advance()


def test_a_helper_judges_a_run_as_it_stands_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was canceled since a helper looked at it is read as one that was: its canceled lines were asked for."""
    shop = Shop(tmp_path, latency=Latency(3_000.0, 4_000.0))
    run = shop.start(rows=20, flow=shop.flow(max_batch_rows=5))
    for _ in range(3):
        run.advance()
        run._flow.clock.sleep(60.0)
    before, helper = run.record, shop.flow()
    run.cancel()
    run.advance()
    run._flow.clock.sleep(400.0)
    helped: list[bool] = []
    at_the_first_file(monkeypatch, lambda: helped.append(lend_a_hand(helper, [before], lambda: False)))
    assert run.wait(progress="none").done
    assert helped == [True]
    assert {reason for _, reason, _ in run.progress.tally.counts} <= {None, Reason.BATCH_CANCELED}
    assert run.reconcile().balanced
    shop.close()


def test_a_file_that_comes_back_unread_as_the_pass_is_over_is_read_in_the_next(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mover that is stopped as its helper puts a file down comes back for it at once."""
    taken = claimed_elsewhere(monkeypatch, "a worker on another machine")
    over: list[bool] = []

    def put_down() -> None:
        lease = run._store.holder(run.record.id)
        assert lease is not None
        run._store.put(DocKind.CLAIM, f"{units.scope(lease)}/{taken[0]}-over", b"")
        over.append(True)

    at_the_first_look(run, monkeypatch, put_down)
    progress = run.advance(stop=lambda: bool(over))
    assert state_of(run, taken[0]) is BatchState.ENDED
    assert progress.wake_at is not None
    assert progress.wake_at <= shop.now
    assert run.wait(progress="none").done
    assert ended_well(run, shop)


def test_a_pass_whose_key_is_refused_does_not_ask_to_be_made_again(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose file nobody read, and whose own key is refused, names no time to come back: somebody is needed first."""
    monkeypatch.setattr(sharing, "IDLE", 5)
    first, last = batches(run)[0].id, batches(run)[-1].id

    def taken(store: Store, lease: Lease, batch: BatchId, owner: str) -> bool:
        if batch == first:
            assert units.claimed(store, lease, last, "a worker on another machine")
        return units.claimed(store, lease, batch, owner)

    monkeypatch.setattr(sharing, "claimed", taken)
    shop.faults.rules.append(refusing(401))
    began = shop.now
    progress = run.advance()
    assert shop.now >= began + 5.0
    assert [need.code for need in progress.needs] == ["api.refused"]
    assert progress.wake_at is None or progress.wake_at > shop.now + 1.0


def test_a_file_that_cannot_be_read_keeps_no_other_run_from_being_helped(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper that is refused one run's file goes on to the next run."""
    other = shop.start(rows=20, name="other", flow=run._flow)
    other.advance()
    run._flow.clock.sleep(400.0)
    helper = shop.flow()
    held = [run.record, other.record]
    helped: list[bool] = []
    of_first = {str(batch.remote_id) for batch in batches(run)}

    def refused(request: Request, api: Handler) -> Response | None:
        mine = any(remote in request.path for remote in of_first)
        return Response(status=401) if mine and request.path.endswith("/results") else None

    def help_both() -> None:
        shop.faults.rules.append(refused)
        helped.append(lend_a_hand(helper, held, lambda: False))
        shop.faults.rules.clear()

    lease = run._store.acquire(run.record.id, "a mover", 600.0)
    assert lease is not None
    run._flow.parts().collector.poll(lease, run.record)
    ready = [batch.id for batch in batches(run) if batch.state is BatchState.ENDED]
    run._store.put(DocKind.CLAIM, f"{units.scope(lease)}/offer", to_json(ready))
    read = at_the_first_file(monkeypatch, help_both)
    other.advance()
    assert helped == [True]
    assert read[:3] == [batches(other)[0].id, ready[-1], batches(other)[-1].id]


def test_a_look_at_files_that_are_all_claimed_asks_twice(
    shop: Shop, run: Run[Label], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a helper's look costs does not grow with the files: who holds the run, and what is written under that lease."""
    counter = Nth()
    plain = shop.flow()
    helper = Workflow(shop.spec, store=faulty_store(plain.store, counter), client=plain._client)
    looks: list[list[str]] = []
    collect = ResultCollector.collect

    def look() -> None:
        counter.operations.clear()
        assert not lends(run, helper)
        looks.append(list(counter.operations))

    def read(self: Any, lease: Lease, record: Record, batch: Batch, **more: Any) -> Collected:
        if batch.id == batches(run)[-1].id:
            look()
        return collect(self, lease, record, batch, **more)

    monkeypatch.setattr(ResultCollector, "collect", read)
    run.advance()
    assert looks == [["holder", "docs"]]

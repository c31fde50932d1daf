"""Listeners, event loops and worker processes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import Label
from shop import Shop, batches, tiny_spec

from batchkit.contract import Contract
from batchkit.errors import StoreError
from batchkit.model import Event
from batchkit.progress import Progress
from batchkit.states import BatchState
from batchkit.storage.sqlite import SQLiteStore
from batchkit.testing import Handler, Request, Response


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


# -------------------------------------------------------------------- listeners


def test_a_listener_hears_every_event_once(shop: Shop) -> None:
    """Events reach the listener after their commit, each once while nothing fails, whatever handle moves the run."""
    heard: list[Event] = []
    flow = shop.flow(on_event=heard.append)
    run = shop.start(rows=2, flow=flow)
    run.advance()
    flow.resume("run").wait(progress="none")
    assert [event.kind for event in heard] == ["batch.sent", "batch.collected", "run.balanced"]
    assert [event.id for event in heard] == [event.id for event in run.events()]
    assert {event.run for event in heard} == {"run"}


def test_the_next_process_goes_on_telling(shop: Shop) -> None:
    """Another process tells what was not told yet, and not what was."""
    first: list[str] = []
    run = shop.start(rows=2, flow=shop.flow(on_event=lambda event: first.append(event.kind)))
    run.advance()
    run.pause("for now")
    second: list[str] = []
    later = shop.flow(on_event=lambda event: second.append(event.kind)).resume("run")
    later.advance()
    assert (first, second) == (["batch.sent"], ["run.pause"])


def test_a_listener_that_fails_is_told_again(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """A failing listener stops no run; it hears the same event at the next pass."""
    heard: list[str] = []

    def flaky(event: Event) -> None:
        heard.append(event.kind)
        if len(heard) == 1:
            raise RuntimeError("the pager is down")

    run = shop.start(rows=2, flow=shop.flow(on_event=flaky))
    with caplog.at_level(logging.ERROR, "batchkit"):
        assert run.wait(progress="none").done
    assert heard == ["batch.sent", "batch.sent", "batch.collected", "run.balanced"]
    assert "the pager is down" in caplog.text


# -------------------------------------------------------------------- event loops


def test_wait_async_ends_like_wait(shop: Shop) -> None:
    """Waiting on an event loop makes the same passes and shows the same progress."""
    shown: list[Progress] = []
    run = shop.start(flow=shop.flow(on_progress=shown.append))
    progress = asyncio.run(run.wait_async())
    assert progress.done
    assert shown[-1] == progress
    assert shop.paid == 10


def test_wait_async_returns_at_its_timeout(shop: Shop) -> None:
    """The timeout is in the clock's seconds, as in wait."""
    run = shop.start()
    before = shop.now
    assert asyncio.run(run.wait_async(timeout=30.0)).state == "waiting"
    assert shop.now - before == pytest.approx(30.0)


def test_wait_async_raises_what_a_pass_raises(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the store arrives as itself, not inside a group of errors."""
    run = shop.start()

    def failing(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(SQLiteStore, "intend", failing)
    with pytest.raises(StoreError, match="disk is full"):
        asyncio.run(run.wait_async())


def test_a_cancelled_wait_leaves_nothing_behind(shop: Shop) -> None:
    """Cancelling the task in mid-send stops the body before its last chunk, ends the thread and frees the lease."""
    run = shop.start()
    sending = threading.Event()

    def slowly(request: Request, api: Handler) -> Response | None:
        if request.method == "POST" and not sending.is_set():
            sending.set()
            time.sleep(0.3)
        return None

    shop.faults.rules.append(slowly)

    async def main() -> None:
        task = asyncio.create_task(run.wait_async())
        while not sending.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [batch.state for batch in batches(run)] == [BatchState.REJECTED]
    assert run._store.holder(run.record.id) is None
    assert run.wait(progress="none").done
    assert shop.paid == 10


# -------------------------------------------------------------------- workers


def test_a_worker_moves_every_open_run(shop: Shop) -> None:
    """One worker brings all open runs of the store to their end, and then idles without passes to no end."""
    runs = [shop.start(f"run-{n}", rows=3) for n in range(3)]
    flow = shop.flow()
    passes: list[float] = []
    flow.on_progress = None

    def stop() -> bool:
        passes.append(flow.clock.now())
        return not flow.open_runs()

    flow.work(stop=stop, idle=60.0)
    assert all(run.progress.done for run in runs)
    assert shop.paid == 9


def test_a_worker_shows_every_pass(shop: Shop) -> None:
    """The listener gets the progress of each pass that this worker made, of every run, the last one done."""
    runs = [shop.start(f"run-{n}", rows=3) for n in range(2)]
    shown: list[Progress] = []
    flow = shop.flow(on_progress=shown.append)
    flow.work(stop=lambda: not flow.open_runs())
    for run in runs:
        own = [progress for progress in shown if progress.name == run.name]
        assert [progress.done for progress in own] == [False] * (len(own) - 1) + [True]
        assert own[0].moved


def test_an_idle_worker_sleeps(shop: Shop) -> None:
    """While there is nothing to do a worker sleeps, and looks at its stop sign every second."""
    shop.start().pause("hold")
    flow = shop.flow()
    asked: list[float] = []
    start = flow.clock.now()

    def stop() -> bool:
        asked.append(flow.clock.now() - start)
        return asked[-1] >= 10.0

    flow.work(stop=stop, idle=300.0)
    assert shop.faults.posts == 0
    assert asked[-1] == pytest.approx(10.0, abs=1.0)
    assert len(asked) < 30


def test_a_terminated_worker_finishes_its_pass(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGTERM ends the worker at the next edge, cancels nothing, and says how to."""
    run = shop.start()
    before = signal.getsignal(signal.SIGTERM)

    def terminate(request: Request, api: Handler) -> Response | None:
        if request.path.endswith("/batches") and request.method == "GET":
            os.kill(os.getpid(), signal.SIGTERM)
        return None

    shop.faults.rules.append(terminate)
    shop.flow().work()
    assert signal.getsignal(signal.SIGTERM) is before
    assert "Nothing was canceled" in capsys.readouterr().err
    shop.faults.rules.clear()
    assert run.wait(progress="none").done
    assert shop.paid == 10


def test_a_worker_leaves_runs_it_cannot_judge(shop: Shop) -> None:
    """Runs under another contract are left to code that has it; the others are moved."""
    shop.start("ours", rows=2)
    theirs = tiny_spec(contract=Contract(Label, sparse=lambda out: out.color == "green"))
    other = shop.start("theirs", rows=2, flow=shop.flow(theirs))
    assert [progress.name for progress in shop.flow().advance_all()] == ["ours"]
    assert batches(other) == []

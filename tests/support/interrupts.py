"""One small run whose process is asked to stop at its k-th operation: by Ctrl-C, by SIGTERM, by a cancelled task."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from sweep import Scene, _folder, clear

from batchkit.model import BatchWhere
from batchkit.progress import Progress
from batchkit.states import BatchState, RunState
from batchkit.storage import Store
from batchkit.testing.faults import FaultyAPI, Nth, faulty_store
from batchkit.testing.soak.scene import SPEC, Label
from batchkit.workflow import Workflow

T = TypeVar("T")

Stop = Literal["Ctrl-C", "SIGTERM", "cancelled task"]
STOPS: tuple[Stop, ...] = ("Ctrl-C", "SIGTERM", "cancelled task")


class Pressed:
    """Stops the process at one operation of store or provider, before its effect or after it; counts the others."""

    def __init__(self, at: int | None, press: Callable[[], None], *, after: bool) -> None:
        self._at = at
        self._after = after
        self.press = press
        self.operations: list[str] = []

    @property
    def struck(self) -> bool:
        return self._at is not None and len(self.operations) >= self._at

    def __call__(self, operation: str, act: Callable[[], T], error: Callable[[], Exception]) -> T:
        self.operations.append(operation)
        now = len(self.operations) == self._at
        if now and not self._after:
            self.press()
        result = act()
        if now and self._after:
            self.press()
        return result


def ctrl_c() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@functools.cache
def operations(stop: Stop, *, database: str | None = None) -> list[str]:
    """Name the operations of a run that nobody stops."""
    pressed = Pressed(None, ctrl_c, after=False)
    with _folder() as folder:
        clear(database)
        scene = Scene(Path(folder), database=database)
        scene.start()
        wrong = _stopped(scene, stop, pressed) + scene.check()
        scene.end()
    assert wrong == [], wrong
    return pressed.operations


def stopped_at(stop: Stop, at: int, *, after: bool, database: str | None = None) -> list[str]:
    """Stop a run at an operation, go on in another process' stead; give what was wrong."""
    pressed = Pressed(at, terminate if stop == "SIGTERM" else ctrl_c, after=after)
    with _folder() as folder:
        clear(database)
        scene = Scene(Path(folder), database=database)
        scene.start()
        wrong = _stopped(scene, stop, pressed)
        if not pressed.struck:
            wrong.append(f"operation {at} was not reached")
        # Nobody waits for a lease: the next one goes on in the same second.
        wrong += [] if scene.run(Nth(), "store") else ["it died"]
        wrong += scene.check()
        wrong += ["a batch was canceled" for b in scene.sim.state()["batches"] if b["cancel_initiated_at"]]
        scene.end()
    return wrong


def _stopped(scene: Scene, stop: Stop, pressed: Pressed) -> list[str]:
    """Let a process move the run until it is stopped; give what it leaves behind."""
    threads = set(threading.enumerate())
    with scene.opened() as real:
        api = FaultyAPI(scene.sim, pressed)
        store = faulty_store(real, pressed)
        flow: Workflow[Label] = Workflow(SPEC, store=store, clock=scene.clock)
        flow._parts[SPEC.fingerprint] = scene.parts(store, api)
        match stop:
            case "Ctrl-C":
                with contextlib.suppress(KeyboardInterrupt):
                    flow.resume("run").wait(progress="none")
            case "SIGTERM":
                flow.work(stop=lambda: real.runs(name="run")[0].state is RunState.CLOSED)
            case "cancelled task":
                asyncio.run(_cancelled(flow, pressed))
        return _left(real, threads)


async def _cancelled(flow: Workflow[Label], pressed: Pressed) -> None:
    loop = asyncio.get_running_loop()
    pressed.press = lambda: None  # the handle is made in the loop's own thread
    run = flow.resume("run")
    task = asyncio.create_task(run.wait_async())
    pressed.press = lambda: _called(loop, task)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _called(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Progress]) -> None:
    """Cancel the task before the operation in the other thread goes on."""
    done = threading.Event()

    def cancel() -> None:
        task.cancel()
        loop.call_soon(done.set)  # one turn later, when the cancellation has been delivered

    loop.call_soon_threadsafe(cancel)
    done.wait(5)


def _left(store: Store, threads: set[threading.Thread]) -> list[str]:
    """Say what a stopped process left behind that it must not."""
    run = store.runs(name="run")[0]
    left = set(threading.enumerate()) - threads
    for thread in left:
        thread.join(2.0)  # told to end when its event loop did
    sending = store.batches(BatchWhere(states=frozenset({BatchState.SENDING})))
    return [
        *(f"thread {thread.name} is left" for thread in left if thread.is_alive()),
        *(["the lease is held"] if store.holder(run.id) is not None else []),
        *(f"batch {batch.id} is neither sent nor unsent" for batch in sending),
    ]

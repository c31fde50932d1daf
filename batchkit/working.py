"""A worker process: every open run of a store, until told to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchkit.workflow import Workflow


def work(flow: Workflow[Any], *, stop: Callable[[], bool] | None, idle: float) -> None:
    """Move every open run of the workflow's store; return when ``stop`` says so or SIGTERM arrives."""
    with _terminated() as terminated:
        while not terminated.is_set() and not (stop is not None and stop()):
            wakes = [idle + flow.clock.now()]
            moved = False
            for run in flow.open_runs():
                progress = run.advance(stop=terminated.is_set)
                moved = moved or progress.moved
                if progress.wake_at is not None:
                    wakes.append(progress.wake_at)
                if terminated.is_set():
                    return
            if not moved:
                _doze(flow, min(wakes) - flow.clock.now(), terminated)


def _doze(flow: Workflow[Any], seconds: float, terminated: threading.Event) -> None:
    left = max(0.05, seconds)
    while left > 0 and not terminated.is_set():
        flow.clock.sleep(min(1.0, left))
        left -= 1.0


@contextlib.contextmanager
def _terminated() -> Iterator[threading.Event]:
    """Turn SIGTERM into an event while the block runs; only the main thread may do so."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(number: int, frame: FrameType | None) -> None:
        event.set()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)

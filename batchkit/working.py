"""A worker process: every open run of a store, until told to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from batchkit.display import interrupted

if TYPE_CHECKING:
    from batchkit.workflow import Workflow

_STEP = 1.0
"""Seconds between two looks at the stop sign while there is nothing to do."""


def work(flow: Workflow[Any], *, stop: Callable[[], bool] | None, idle: float) -> None:
    """Move every open run of the workflow's store; return when ``stop`` says so or SIGTERM arrives."""
    with _terminated() as terminated:

        def over() -> bool:
            return terminated.is_set() or (stop is not None and stop())

        while not over():
            wakes = [flow.clock.now() + idle]
            moved = False
            for run in flow.open_runs():
                progress = run.advance(stop=over)
                moved = moved or progress.moved
                if progress.wake_at is not None:
                    wakes.append(progress.wake_at)
                if over():
                    break
            if not moved and not over():
                _doze(flow, min(wakes) - flow.clock.now(), over)
        if terminated.is_set():
            interrupted(flow.where)


def _doze(flow: Workflow[Any], seconds: float, over: Callable[[], bool]) -> None:
    left = max(0.05, seconds)
    while left > 0 and not over():
        flow.clock.sleep(min(_STEP, left))
        left -= _STEP


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

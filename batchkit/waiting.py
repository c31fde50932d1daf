"""Waiting: how long to sleep between passes, and the same waiting on an event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Protocol

from batchkit.clock import Clock, SystemClock
from batchkit.progress import Progress

LONGEST_SLEEP: Final = 60.0
"""Seconds: a waiting process looks at its stop sign and at requests at least this often."""

_SHORTEST_SLEEP: Final = 0.05


class Advance(Protocol):
    """What makes one pass."""

    def __call__(self, *, timeout: float | None = None, stop: Callable[[], bool] | None = None) -> Progress:
        """Make one pass."""
        ...


class Patience:
    """What is left of a timeout, and the sleep that fits into it."""

    def __init__(self, clock: Clock, timeout: float | None) -> None:
        """Begin to wait; ``timeout`` is in seconds, None waits as long as it takes."""
        self._clock = clock
        self._until = None if timeout is None else clock.monotonic() + timeout

    @property
    def left(self) -> float | None:
        """Give the seconds left; None where there is no end."""
        return None if self._until is None else max(self._until - self._clock.monotonic(), 0.0)

    def nap(self, progress: Progress) -> float | None:
        """Give the seconds to sleep before the next pass.

        None where waiting longer cannot help: the run is done, only somebody else can move it, or time is up.
        """
        left = self.left
        if progress.done or progress.wake_at is None or left == 0.0:
            return None
        nap = min(max(progress.wake_at - self._clock.now(), _SHORTEST_SLEEP), LONGEST_SLEEP)
        return nap if left is None else min(nap, left)


async def wait_async(
    advance: Advance, clock: Clock, *, timeout: float | None, show: Callable[[Progress], None]
) -> Progress:
    """Make passes in a worker thread until the run is done, needs somebody, or ``timeout`` seconds are over."""
    patience = Patience(clock, timeout)
    while True:
        now = await _pass(advance, patience.left)
        show(now)
        nap = patience.nap(now)
        if nap is None:
            return now
        await _sleep(clock, nap)


async def _pass(advance: Advance, timeout: float | None) -> Progress:
    """Run one pass in a thread. Cancelling tells the pass to stop at its next edge and waits for it."""
    import anyio
    import anyio.to_thread

    stopping, ended = threading.Event(), threading.Event()
    done: list[Progress] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            done.append(advance(timeout=timeout, stop=stopping.is_set))
        except BaseException as error:
            # Carried out of the task group by hand, which would wrap it in a group of one.
            failed.append(error)
        finally:
            ended.set()

    async def tell_on_cancel() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            stopping.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell_on_cancel)
        try:
            await anyio.to_thread.run_sync(work)
        except anyio.get_cancelled_exc_class():
            # A task canceled by asyncio itself passes anyio's shield: the thread is still to be waited for.
            stopping.set()
            with anyio.CancelScope(shield=True):
                while not ended.is_set():
                    await anyio.sleep(_SHORTEST_SLEEP)
            raise
        tasks.cancel_scope.cancel()
    if failed:
        raise failed[0]
    return done[0]


async def _sleep(clock: Clock, seconds: float) -> None:
    import anyio
    import anyio.to_thread

    if isinstance(clock, SystemClock):
        await anyio.sleep(seconds)
    else:
        await anyio.to_thread.run_sync(clock.sleep, seconds)

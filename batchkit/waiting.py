"""Waiting on an event loop: the same pass in a worker thread, the sleep awaited."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from batchkit.clock import Clock, SystemClock
from batchkit.progress import Progress

if TYPE_CHECKING:
    from batchkit.run import Run


async def wait_async(
    run: Run[Any],
    clock: Clock,
    *,
    timeout: float | None,
    finished: Callable[[Progress], bool],
    nap: Callable[[Progress, float], float],
) -> Progress:
    """Make passes of ``run`` in a worker thread until it is finished or ``timeout`` seconds are over."""
    until = None if timeout is None else clock.monotonic() + timeout
    while True:
        left = None if until is None else until - clock.monotonic()
        now = await _pass(run, left)
        if finished(now) or (until is not None and clock.monotonic() >= until):
            return now
        await _sleep(clock, nap(now, clock.now()))


async def _pass(run: Run[Any], timeout: float | None) -> Progress:
    """Run one pass in a thread. Cancelling tells the pass to stop at its next edge and waits for it."""
    import anyio
    import anyio.to_thread

    stopping = threading.Event()
    passes: list[Progress] = []

    async def tell_on_cancel() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            stopping.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell_on_cancel)
        passes.append(
            await anyio.to_thread.run_sync(lambda: run.advance(timeout=timeout, stop=stopping.is_set))
        )
        tasks.cancel_scope.cancel()
    return passes[0]


async def _sleep(clock: Clock, seconds: float) -> None:
    import anyio
    import anyio.to_thread

    if isinstance(clock, SystemClock):
        await anyio.sleep(seconds)
    else:
        await anyio.to_thread.run_sync(clock.sleep, seconds)

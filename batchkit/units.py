"""Units: result files that other processes read under this mover's lease, through any ``concurrent.futures.Executor``."""

from __future__ import annotations

import functools
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from typing import TYPE_CHECKING, Any, Final

import attrs

from batchkit.collector import Collected, not_before
from batchkit.errors import BatchkitError, ExecutorError, LeaseLost, ProviderError, StoreError, UsageError
from batchkit.ids import BatchId, Nonce, RunId
from batchkit.loading import load
from batchkit.model import Batch, BatchWhere, DocKind, Lease
from batchkit.specs import recall_spec
from batchkit.states import BatchState, RunState
from batchkit.storage import Store

if TYPE_CHECKING:
    from batchkit.workflow import Workflow

__all__ = ["GRACE", "IDLE", "LOOK", "Hands", "Unit", "claimed", "perform", "scope"]

_LOG: Final = logging.getLogger("batchkit")

AT_ONCE = 4
"""Units that are out at one time. An engine that loses a worker begins all those anew that it was told to remember."""
LOOK = 1.0
"""Seconds, of real time, between two looks at the stop sign and the lease while units are out."""
GRACE = 10
"""Looks that a stopped pass waits for the units that are out."""
IDLE = 300
"""Looks in a row without a living lease, which every page renews, after which no unit counts as being at work."""
PATIENCE = 6
"""Times that a file may come back unread before the executor is at fault: over a row that kills its reader it comes
back four times (`batchkit.inhand`), then that row is left out."""


@attrs.frozen(kw_only=True)
class Unit:
    """One result file to be read, told by ids alone: no key, no address, no row.

    Attributes:
        app: Where the worker finds the workflow, ``module:name``; what it needs comes from its environment.
        run: The run.
        batch: The batch, which has ended.
        nonce: The batch's nonce, which no batch of another store has.
        epoch: That of the lease under which it was handed out. Each file is handed out once in an epoch.
    """

    app: str
    run: RunId
    batch: BatchId
    nonce: Nonce
    epoch: int


def perform(unit: Unit) -> Collected | None:
    """Read a unit's result file and settle its rows; None where it is not this process's to read.

    Engines deliver at least once, and late. So nothing is done unless the lease is still that of the unit's
    epoch and nobody has claimed the unit; and every page that is settled checks the epoch again.

    Raises:
        UsageError: this process cannot make the workflow, or its store is not the unit's.
        ProviderError: the API refuses this process's credential.
        StoreError: the store failed, or the lease was lost on the way.
    """
    try:
        return _read(_workflow(unit.app, os.getpid()), unit)
    except BaseException as error:
        # Causes may hold a request with its key, and some engines pickle them with the error.
        error.__cause__ = error.__context__ = None
        raise


@functools.cache
def _workflow(app: str, process: int) -> Workflow[Any]:
    """Make the workflow that units name, once in a process: it keeps its store and its client."""
    from batchkit.workflow import Workflow

    here = f"the worker (process {process} on {socket.gethostname()})"
    try:
        flow = load(app)
    except UsageError as error:
        raise UsageError(
            f"{here} cannot make the workflow: {error}. Install it there, or set PYTHONPATH."
        ) from error
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise UsageError(
            f"{here} cannot make the workflow {app!r}: {told}. Is its environment set?"
        ) from error
    if not isinstance(flow, Workflow):
        raise UsageError(f"{here} finds that {app!r} is no workflow, it is {type(flow).__name__}")
    return flow


def _read(flow: Workflow[Any], unit: Unit) -> Collected | None:
    store = flow.store
    run = next((run for run in store.runs() if run.id == unit.run), None)
    batch = next(iter(store.batches(BatchWhere(ids=(unit.batch,)))), None)
    if run is None or batch is None or (batch.run, batch.nonce) != (unit.run, unit.nonce):
        raise UsageError(
            f"{unit.app!r} opens another store in the worker ({flow.where}) than the one whose batch {unit.batch} is to "
            "be read. Nothing was changed; give the worker the same address."
        )
    lease = store.holder(unit.run)
    if lease is None or lease.epoch != unit.epoch or batch.state is not BatchState.ENDED:
        return None
    parts = flow.parts(recall_spec(store, run.spec, flow.spec))
    if not claimed(store, lease, batch.id, parts.owner()):
        return None
    return parts.collector.collect(lease, run, batch, canceling=run.state is RunState.CANCELING)


def scope(lease: Lease) -> str:
    """Give where it is written down who reads which file under this lease."""
    return f"unit-{lease.run}-{lease.epoch}"


def claimed(store: Store, lease: Lease, batch: BatchId, name: str) -> bool:
    """Claim a file before anything is done: of several who try one gets it, whatever happens to it then."""
    key, claim = f"{scope(lease)}/{batch}", name.encode()
    try:
        store.put(DocKind.CLAIM, key, claim)
    except StoreError:
        # Refused, or broken off: whose claim stands, and whether one does, only the store knows.
        standing = store.get(DocKind.CLAIM, key)
        if standing is None:
            raise
        return standing == claim
    return True


class Hands:
    """Hands out what a pass may leave to others, and believes the store about what became of it."""

    def __init__(self, executor: Executor, app: str) -> None:
        """Have ``executor``'s workers make the workflow from ``app``.

        Raises:
            UsageError: ``app`` is not of the form ``module:name``.
        """
        if ":" not in app:
            raise UsageError(
                f"executor= needs app='module:name', by which its workers find this workflow, not {app!r}"
            )
        self._executor = executor
        self._app = app
        self._failed: dict[BatchId, int] = {}

    def collect(
        self,
        store: Store,
        lease: Lease,
        batches: Sequence[Batch],
        over: Callable[[], bool],
        stop: Callable[[], bool] | None,
    ) -> Generator[Collected, None, bool]:
        """Have result files read, four at a time, and give what came of each as it comes.

        Units renew the lease by what they write, so it lapses where none is at work, and another mover may take it.

        Returns:
            Whether units are still out, which may write until the lease ends.

        Raises:
            LeaseLost: another process moves the run now.
            UsageError: a worker cannot make the workflow, or has another store.
            ProviderError: the API refuses a worker's credential.
            ExecutorError: the executor is broken, or its workers come to nothing again and again.
        """
        now, left = store.now(), deque[Batch]()
        for batch in batches:
            if (at := not_before(batch, now)) is None:
                left.append(batch)
            else:
                yield Collected(batch=batch, wait_until=at)
        out: dict[Future[Collected | None], Batch] = {}
        stopped = idle = 0
        try:
            while left or out:
                while left and len(out) < AT_ONCE and not over():
                    batch = left.popleft()
                    out[self._submit(lease, batch)] = batch
                if not out:
                    return False
                done, _ = wait(out, timeout=LOOK, return_when=FIRST_COMPLETED)
                while done:
                    # Let go of at once: of futures that are kept, some engines run finished ones again.
                    future = done.pop()
                    yield self._outcome(store, out.pop(future), future)
                    del future
                held = store.holder(lease.run)
                stopped = stopped + 1 if stop is not None and stop() else 0
                idle = idle + 1 if held is None else 0
                if held is not None and held.epoch != lease.epoch:
                    raise LeaseLost(f"run {lease.run} is moved by another process now")
                if stopped > GRACE:
                    return bool(out)
                if idle > IDLE:
                    for batch in out.values():
                        yield self._came_to_nothing(
                            store, batch, f"nothing was written for {IDLE * LOOK:.0f} seconds"
                        )
                    return bool(out)
            return False
        finally:
            for future in out:
                future.cancel()

    def _submit(self, lease: Lease, batch: Batch) -> Future[Collected | None]:
        unit = Unit(app=self._app, run=lease.run, batch=batch.id, nonce=batch.nonce, epoch=lease.epoch)
        try:
            return self._executor.submit(perform, unit)
        except (BrokenExecutor, RuntimeError) as error:  # a pool that was shut down says RuntimeError
            raise _broken(error) from error

    def _outcome(self, store: Store, batch: Batch, future: Future[Collected | None]) -> Collected:
        try:
            collected = future.result()
        except BrokenExecutor as error:
            raise _broken(error) from error
        except (UsageError, ProviderError):
            raise
        except (Exception, CancelledError) as error:
            why = str(error) if isinstance(error, BatchkitError) else type(error).__name__
            return self._came_to_nothing(store, batch, why)
        if collected is None:
            return self._came_to_nothing(store, batch, "its worker found it claimed, or its epoch over")
        self._failed.pop(batch.id, None)
        return collected

    def _came_to_nothing(self, store: Store, batch: Batch, why: str) -> Collected:
        """Take no unit's word for a failure: what became of the file is in the store, and another pass reads on."""
        (now,) = store.batches(BatchWhere(ids=(batch.id,)))
        if now.state is not BatchState.ENDED:
            self._failed.pop(batch.id, None)
            return Collected(batch=now)
        times = self._failed[batch.id] = self._failed.get(batch.id, 0) + 1
        _LOG.warning(
            "the results of batch %s came back unread from the executor (%d): %s", batch.id, times, why
        )
        if times >= PATIENCE:
            raise ExecutorError(
                f"the results of batch {batch.id} came back unread from the executor {times} times, the last time: {why}. "
                "Nothing is lost, and what was settled stays settled; see what its workers say, then run again."
            )
        return Collected(batch=now, wait_until=store.now() + min(2.0**times, 60.0))


def _broken(error: BaseException) -> ExecutorError:
    return ExecutorError(
        f"the executor takes no more work ({type(error).__name__}: {error}). Nothing is lost, and what was settled stays "
        "settled; run again with a new executor."
    )

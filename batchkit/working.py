"""A worker process: every open run of a store, until told to stop."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from batchkit.display import interrupted
from batchkit.errors import BatchkitError, SpecChanged
from batchkit.ids import RunId
from batchkit.judgements import has_unsettled
from batchkit.model import Batch, BatchWhere, Run
from batchkit.progress import Progress
from batchkit.spec import Spec
from batchkit.specs import recall_spec
from batchkit.states import RunState
from batchkit.storage import Store
from batchkit.suspects import reported
from batchkit.watcher import watched_until

if TYPE_CHECKING:
    from batchkit.run import Run as Movable
    from batchkit.workflow import Workflow

T = TypeVar("T")

_LOG: Final = logging.getLogger("batchkit")
_STEP = 1.0
"""Seconds between two looks at the stop sign while there is nothing to do."""


def due_runs(store: Store) -> tuple[list[Run], float | None]:
    """Give the runs in which a mover finds something to do now, and when the next closed one will want a look."""
    now = store.now()
    runs = [run for run in store.runs() if run.state is not RunState.FREEZING]
    closed = any(run.state is RunState.CLOSED for run in runs)
    batches: dict[RunId, list[Batch]] = defaultdict(list)
    for batch in store.batches(BatchWhere()) if closed else ():
        batches[batch.run].append(batch)
    left = reported(store) if closed else {}
    due: list[Run] = []
    later: list[float] = []
    for run in runs:
        at: float | None = now
        if run.state is RunState.CLOSED and not has_unsettled(store, run):
            at = watched_until(batches[run.id], left)
        if at is not None and at <= now:
            due.append(run)
        elif at is not None:
            later.append(at)
    return due, min(later, default=None)


def movable_runs(store: Store, code: Spec[T], told: set[RunId]) -> list[tuple[Run, Spec[T]]]:
    """Give the runs in which a mover finds something to do now and that this code can judge, each with its spec.

    Those that it cannot judge are left to who can, with a word in the log for each that is not among the ``told``.
    """
    movable: list[tuple[Run, Spec[T]]] = []
    for run in due_runs(store)[0]:
        try:
            movable.append((run, recall_spec(store, run.spec, code)))
        except SpecChanged as error:
            if run.id not in told:
                told.add(run.id)
                _LOG.warning("run %r is left alone: %s", run.name, error)
    return movable


def advance_each(
    runs: Sequence[Movable[Any]],
    *,
    stop: Callable[[], bool] | None = None,
    show: Callable[[Progress], None] | None = None,
) -> list[Progress]:
    """Make one pass over each run, and show each pass; one that raises keeps no other from its turn.

    Raises:
        BatchkitError: the first that a pass raised, after the last pass.
    """
    made: list[Progress] = []
    failed: BatchkitError | None = None
    for run in runs:
        try:
            made.append(run.advance(stop=stop))
        except BatchkitError as error:
            failed = failed or error
        else:
            if show is not None:
                show(made[-1])
        if stop is not None and stop():
            break
    if failed is not None:
        raise failed
    return made


def work(flow: Workflow[Any], *, stop: Callable[[], bool] | None, idle: float) -> None:
    """Move every open run of the workflow's store; return when ``stop`` says so or SIGTERM arrives."""
    with _terminated() as terminated:

        def over() -> bool:
            return terminated.is_set() or (stop is not None and stop())

        while not over():
            idle_until = flow.clock.now() + idle
            made = advance_each(flow.open_runs(), stop=over, show=flow.on_progress)
            if not any(progress.moved for progress in made) and not over():
                wakes = [idle_until, due_runs(flow.store)[1], *(progress.wake_at for progress in made)]
                _doze(flow, min(at for at in wakes if at is not None) - flow.clock.now(), over)
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

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

from batchkit.clock import Clock
from batchkit.display import interrupted
from batchkit.errors import BatchkitError, SpecChanged
from batchkit.ids import RunId
from batchkit.judgements import has_unsettled
from batchkit.model import Batch, BatchWhere, Run
from batchkit.progress import Progress
from batchkit.sharing import lend_a_hand
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
"""Seconds between two looks at the stop sign, while there is nothing to do and within a pass."""


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


def free_runs(store: Store, due: Sequence[Run]) -> tuple[list[Run], float | None]:
    """Give those of the runs that nobody holds, and when the first lease of the others ends if nothing renews it.

    Who moves a run writes all the time. To try for its lease, or to count its rows, every time somebody else
    looks at it would cost more than the look is worth.
    """
    free: list[Run] = []
    until: list[float] = []
    for run in due:
        lease = store.holder(run.id)
        free.append(run) if lease is None else until.append(lease.until)
    return free, min(until, default=None)


def judged_runs(
    store: Store, runs: Sequence[Run], code: Spec[T], told: set[RunId]
) -> list[tuple[Run, Spec[T]]]:
    """Give those of the runs that this code can judge, each with its spec.

    The others are left to who can, with a word in the log for each that is not among the ``told``.
    """
    judged: list[tuple[Run, Spec[T]]] = []
    for run in runs:
        try:
            judged.append((run, recall_spec(store, run.spec, code)))
        except SpecChanged as error:
            if run.id not in told:
                told.add(run.id)
                _LOG.warning("run %r is left alone: %s", run.name, error)
    return judged


def advance_each(
    runs: Sequence[Movable[Any]],
    *,
    stop: Callable[[], bool] | None = None,
    midway: Callable[[], bool] | None = None,
    show: Callable[[Progress], None] | None = None,
) -> list[Progress]:
    """Make one pass over each run, and show each pass; one that raises keeps no other from its turn.

    ``stop`` is asked between passes, ``midway`` within them.

    Raises:
        BatchkitError: the first that a pass raised, after the last pass.
    """
    made: list[Progress] = []
    failed: BatchkitError | None = None
    for run in runs:
        try:
            made.append(run.advance(stop=midway))
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


def work(
    flow: Workflow[Any],
    movable: Callable[[Sequence[Run]], Sequence[Movable[Any]]],
    *,
    stop: Callable[[], bool] | None,
    idle: float,
) -> None:
    """Move every open run of the workflow's store; return when ``stop`` says so or SIGTERM arrives.

    Args:
        flow: The workflow.
        movable: Gives handles for those of some runs that the workflow can move.
        stop: Asked between passes, and now and then within one.
        idle: Seconds to sleep at most while there is nothing to do.
    """
    store = flow.store
    with _terminated() as terminated:

        def over() -> bool:
            return terminated.is_set() or (stop is not None and stop())

        while not over():
            due, later = due_runs(store)
            free, until = free_runs(store, due)
            midway = _midway(over, terminated, flow.clock)
            made = advance_each(movable(free), stop=over, midway=midway, show=flow.on_progress)
            # Where somebody is needed, a pass may write down no more than that it was refused once more.
            moved = any(progress.moved and not progress.needs for progress in made)
            if not moved and not over():
                held = [run for run in due if run not in free]
                moved = lend_a_hand(flow, held, midway)
            if not moved and not over():
                wakes = [later, until, *(progress.wake_at for progress in made)]
                now = store.now()
                _doze(flow, min([idle, *(at - now for at in wakes if at is not None)]), over)
        if terminated.is_set():
            interrupted(flow.where)


def _midway(stop: Callable[[], bool], at_once: threading.Event, clock: Clock) -> Callable[[], bool]:
    """Give what a pass may ask for every few hundred rows: ``stop``, once a second and no more once it said yes.

    Whether any run of the store is open, say, takes longer to tell than those rows take.
    """
    asked, said = clock.monotonic(), False

    def ask() -> bool:
        nonlocal asked, said
        if not said and clock.monotonic() - asked >= _STEP:
            said = stop()
            asked = clock.monotonic()
        return said or at_once.is_set()

    return ask


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

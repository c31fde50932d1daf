"""What one wants to know first of a store that somebody else left: is it whole, may it send, what is open."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import attrs

from batchkit.model import BatchWhere, DocKind
from batchkit.progress import EXIT_BROKEN, EXIT_DONE, EXIT_PERSON
from batchkit.standing import progress_of
from batchkit.states import UNRESOLVED, BatchState, RunState
from batchkit.storage import Store
from batchkit.storage.checkup import Condition, look
from batchkit.view import check_exists

_DOUBTS = UNRESOLVED | {BatchState.HELD}


@attrs.frozen(kw_only=True)
class OpenRun:
    """A run that is not closed."""

    name: str
    state: str
    rows: int
    open: int


@attrs.frozen(kw_only=True)
class OpenDoubt:
    """A batch of which nobody knows yet whether the provider has it, or that waits for a decision."""

    batch: int
    run: str
    state: str
    since: float
    need: str


@attrs.frozen(kw_only=True)
class LockNote:
    """The lock that was written last."""

    spec: str
    by: str
    at: float
    rows: int
    share: float
    eval_set: str


@attrs.frozen(kw_only=True)
class Checkup:
    """What was found.

    Attributes:
        condition: How the store is, apart from what is in it.
        closed: How many runs are closed.
        open: The runs that are not.
        doubts: Batches that keep others from being sent, or wait for a person.
        lock: The newest lock; None where nothing was locked.
    """

    condition: Condition
    closed: int
    open: tuple[OpenRun, ...]
    doubts: tuple[OpenDoubt, ...]
    lock: LockNote | None

    @property
    def exit_code(self) -> int:
        """Give 1 where the file is damaged, 3 where a person has to confirm or decide, else 0."""
        if self.condition.damage:
            return EXIT_BROKEN
        held = any(doubt.state == BatchState.HELD.value for doubt in self.doubts)
        return EXIT_PERSON if self.condition.held or held else EXIT_DONE

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {**attrs.asdict(self), "exit_code": self.exit_code}


def examine(where: str) -> Checkup:
    """Check a store and say what is in it; changes nothing.

    A file is read whole: a few seconds for each gigabyte.

    Args:
        where: the store's path or address.

    Raises:
        UsageError: there is no such file.
        StoreError: it cannot be opened, or is no store.
        StoreHeld: it belongs to another program, or to newer code.
    """
    check_exists(where)
    condition, store = look(where)
    with closing(store):
        if condition.damage:
            return Checkup(condition=condition, closed=0, open=(), doubts=(), lock=None)
        runs = store.runs()
        standing = [run for run in runs if run.state is not RunState.CLOSED]
        progress = [progress_of(store, run) for run in standing]
        names = {run.id: run.name for run in runs}
        return Checkup(
            condition=condition,
            closed=len(runs) - len(standing),
            open=tuple(
                OpenRun(name=one.name, state=one.state, rows=one.rows, open=one.tally.open)
                for one in progress
            ),
            doubts=tuple(
                OpenDoubt(
                    batch=batch.id,
                    run=names[batch.run],
                    state=batch.state.value,
                    since=batch.sent_at or batch.created_at,
                    need="" if batch.need is None else batch.need.why,
                )
                for batch in store.batches(BatchWhere(states=_DOUBTS))
            ),
            lock=_newest_lock(store),
        )


def _newest_lock(store: Store) -> LockNote | None:
    found = [(key, json.loads(body)) for key, body in store.docs(DocKind.LOCK)]
    if not found:
        return None
    spec, lock = max(found, key=lambda one: one[1]["at"])
    kept = {name: lock[name] for name in ("by", "at", "rows", "share", "eval_set")}
    return LockNote(spec=spec, **kept)

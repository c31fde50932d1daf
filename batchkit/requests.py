"""Pause, unpause, cancel: asked for in the store by anybody, carried out by whoever holds the lease."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from batchkit.lease import held, new_owner
from batchkit.model import DocKind, Lease, Need, NewEvent, Run, RunFacts
from batchkit.standing import scope_of
from batchkit.states import RUN_TRANSITIONS, RunState
from batchkit.storage import Store

Request: TypeAlias = Literal["pause", "unpause", "cancel"]

_GOES_TO: Final[dict[str, RunState]] = {
    "pause": RunState.PAUSED,
    "unpause": RunState.OPEN,
    "cancel": RunState.CANCELING,
}
_SEEN: Final = "requests_seen"


def ask(store: Store, run: Run, what: Request, *, why: str, by: str) -> Run:
    """Write the request down; carry it out at once where nobody moves the run, else the mover does.

    Args:
        store: The store.
        run: The run.
        what: What is asked.
        why: In the asker's words.
        by: Who asks.
    """
    body = {"what": what, "why": why, "by": by, "at": store.now()}
    store.append(DocKind.REQUEST, scope_of(run.id), json.dumps(body).encode())
    with held(store, run.id, new_owner("request")) as lease:
        return run if lease is None else carry_out(store, lease, store.runs(name=run.name)[0])


def carry_out(store: Store, lease: Lease, run: Run) -> Run:
    """Apply the requests that came since the last look, in order. One that is not possible is reported and dropped."""
    for key, body in unheeded(store, run):
        run = _apply(store, lease, run, key, json.loads(body))
    return run


def unheeded(store: Store, run: Run) -> Sequence[tuple[str, bytes]]:
    """Give the requests that came since the last look."""
    seen = str(run.options.get(_SEEN, ""))
    return store.docs(DocKind.REQUEST, scope=scope_of(run.id), after=seen)


def _apply(store: Store, lease: Lease, run: Run, key: str, request: dict[str, str]) -> Run:
    what = request["what"]
    to = _GOES_TO[what]
    possible = to is not run.state and to in RUN_TRANSITIONS[run.state] and run.state is not RunState.CLOSED
    event = NewEvent(
        kind=f"run.{what}" if possible else "request.not_possible",
        data={"what": what, "by": request["by"], "why": request["why"], "state": run.state.value},
    )
    needs: tuple[Need, ...] | None = None
    if possible:
        why = request["why"] or "paused on request"
        needs = () if to is not RunState.PAUSED else (_paused_need(why),)
    facts = RunFacts(needs=needs, options={**run.options, _SEEN: key}, events=(event,))
    return store.move_run(lease, expect=run.state, to=to if possible else run.state, facts=facts)


def _paused_need(why: str) -> Need:
    """Say who can let a paused run go on, and how."""
    return Need(who="person", why=why, fix="python -m batchkit resume STORE RUN", code="paused")

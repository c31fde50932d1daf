"""A person's decision about a held batch, from anywhere that sees the store."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from batchkit import holding
from batchkit.builder import RequestBuilder
from batchkit.desks import stored_spec
from batchkit.errors import LeaseLost, UsageError
from batchkit.ids import BatchId, RemoteId
from batchkit.lease import held, new_owner
from batchkit.model import Batch, BatchWhere, Run
from batchkit.remote import usable_id
from batchkit.storage import Store

Decision: TypeAlias = Literal["look-again", "adopt", "declare-absent", "accept-missing", "give-up"]
DECISIONS: Final[tuple[Decision, ...]] = (
    "look-again",
    "adopt",
    "declare-absent",
    "accept-missing",
    "give-up",
)


def decide(
    store: Store,
    run: Run,
    batch: int,
    decision: Decision,
    *,
    by: str,
    remote: str = "",
    force: bool = False,
) -> Batch:
    """Carry out a decision about a held batch of a run, under the run's lease.

    Args:
        store: The store.
        run: The run.
        batch: The batch's number, as the need names it.
        decision: What to do; :mod:`batchkit.holding` says what each does and when it is possible.
        by: Who decides.
        remote: The remote batch's id; for ``adopt`` only.
        force: For ``declare-absent``: also before the grace is over, or with suspects that nobody opened.

    Raises:
        LeaseLost: another process moves the run now; try again in a minute.
        UsageError: no such batch, decision or id, or the batch is not held where this is possible.
        DoubtHeld: it is too early to declare the batch absent, or a suspect is open.
    """
    if decision not in DECISIONS:
        raise UsageError(f"{decision!r} is no decision; they are {', '.join(DECISIONS)}")
    if not by:
        raise UsageError("a decision needs a name: by=...")
    if (decision == "adopt") != bool(remote) or (remote and not usable_id(remote)):
        raise UsageError("adopt, and nothing else, takes the id of a remote batch: remote='msgbatch_...'")
    number = BatchId(batch)
    own = store.batches(BatchWhere(run=run.id))
    if all(one.id != number for one in own):
        known = ", ".join(str(one.id) for one in own if one.need is not None) or "none"
        raise UsageError(f"run {run.name!r} has no batch {batch}; held are: {known}")
    builder: RequestBuilder[Any] = RequestBuilder(stored_spec(store, run))
    with held(store, run.id, new_owner("decision")) as lease:
        if lease is None:
            raise LeaseLost(
                f"another process moves {run.name!r} now; nothing was changed. Try again in a minute"
            )
        match decision:
            case "look-again":
                return holding.look_again(store, lease, number)
            case "adopt":
                return holding.adopt(store, lease, number, RemoteId(remote))
            case "declare-absent":
                return holding.declare_absent(store, lease, number, by=by, force=force)
            case "accept-missing":
                return holding.accept_missing(store, lease, number, builder, by=by)
            case "give-up":
                return holding.give_up(store, lease, number, builder, by=by)

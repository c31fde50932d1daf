"""The cap at work: put in force, warned of as it fills up, and gone on from once it was changed."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Final

from batchkit.model import NANO, BatchWhere, DocKind, Lease, NewEvent, Run, RunFacts
from batchkit.money import Budget
from batchkit.standing import Cap, read_cap, write_cap
from batchkit.states import RunState
from batchkit.storage import Store

_CAP: Final = "paused_cap"
_WARNED: Final = "budget_warned"


class Spending:
    """The store's cap as one pass over one run sees it. ``warn_at`` are shares of it."""

    def __init__(self, store: Store, warn_at: tuple[float, ...] = ()) -> None:
        """Read the cap."""
        self._store = store
        self._warn_at = sorted(warn_at)
        self.look()

    def look(self) -> None:
        """Read the cap again: somebody may have changed it since the pass began."""
        cap = read_cap(self._store)
        self.cap: int | None = cap.usd_nano if cap is not None else None

    def mark(self) -> dict[str, object]:
        """Give the options that a paused run keeps, to notice later that the cap was changed."""
        return {_CAP: self.cap}

    def unpaused(self, lease: Lease, run: Run) -> Run:
        """Let a run go on that was paused for the cap, where the cap has been changed since."""
        over_cap = any(need.code == "budget" for need in run.needs)
        if run.state is not RunState.PAUSED or not over_cap or run.options.get(_CAP) == self.cap:
            return run
        event = NewEvent(kind="run.unpause", data={"why": "the cap was changed"})
        facts = RunFacts(needs=(), events=(event,))
        return self._store.move_run(lease, expect=RunState.PAUSED, to=RunState.OPEN, facts=facts)

    def warned(self, lease: Lease, run: Run) -> Run:
        """Append an event for the highest share of the cap that was reached, once per run and cap."""
        if not self.cap:
            return run
        spent = sum(batch.spent for batch in self._store.batches(BatchWhere()))
        reached = max((share for share in self._warn_at if spent >= share * self.cap), default=None)
        said = run.options.get(_WARNED)
        before = said[1] if isinstance(said, list) and said[0] == self.cap else 0.0
        if reached is None or reached <= before:
            return run
        data: dict[str, str | float] = {"share": reached, "spent_usd": _usd(spent), "cap_usd": _usd(self.cap)}
        facts = RunFacts(
            options={**run.options, _WARNED: [self.cap, reached]},
            events=(NewEvent(kind="budget.warned", severity="warn", data=data),),
        )
        return self._store.move_run(lease, expect=run.state, to=run.state, facts=facts)


def record_budget(store: Store, budget: Budget) -> None:
    """Put the code's budget in force, where it differs from the one that code last gave.

    A cap that a person set since stays: the same code, started again, does not take it back.
    """
    given = [json.loads(body) for _, body in store.docs(DocKind.CAP)]
    by_code = [cap for cap in given if cap["origin"] == "code"]
    if not by_code or by_code[-1]["usd_nano"] != budget.nano:
        cap = Cap(usd_nano=budget.nano, origin="code", by="", why="Workflow(budget=)", at=store.now())
        write_cap(store, cap)


def _usd(nano: int) -> str:
    return str(Decimal(nano) / NANO)

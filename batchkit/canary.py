"""The canary: a large run's first batch must do about as well as the pilot before the rest is sent."""

from __future__ import annotations

import json
from typing import Literal

import attrs

from batchkit.intervals import wilson
from batchkit.model import BatchWhere, DocKind, Need, Run
from batchkit.reasons import Reason
from batchkit.states import BatchState, RowState
from batchkit.storage import Store

ABOVE = 20_000
"""Source records above which a run begins with a canary."""

FLOOR_UNLOCKED = 0.5
"""Share of good rows asked of a canary where no pilot says what to expect."""

_NEVER_SENT = frozenset({BatchState.REJECTED, BatchState.ABSENT})


@attrs.frozen(kw_only=True)
class CanaryVerdict:
    """Where the canary stands. ``rows`` is its size, ``share`` what it reached, ``floor`` what was asked."""

    state: Literal["off", "first", "out", "passed", "failed"]
    rows: int = 0
    share: float = 1.0
    floor: float = 0.0

    def need(self, name: str) -> Need:
        """Say what a person has to decide after a canary that failed."""
        return Need(
            who="person",
            code="canary",
            why=f"the first {self.rows:,} rows reached {self.share:.1%}, below the pilot's {self.floor:.1%}; "
            "nothing else was sent",
            fix=f"read them (run.failures()), then go on (python -m batchkit resume STORE {name}) or cancel",
        )


def canary_verdict(store: Store, run: Run) -> CanaryVerdict:
    """Judge the canary of a run from what the store holds."""
    wanted = int(str(run.options.get("canary", 0)))
    if run.rows <= ABOVE or wanted <= 0 or run.options.get("canary_overruled"):
        return CanaryVerdict(state="off")
    sent = [b for b in store.batches(BatchWhere(run=run.id)) if b.state not in _NEVER_SENT]
    if not sent:
        return CanaryVerdict(state="first", rows=wanted)
    if len(sent) > 1:
        return CanaryVerdict(state="passed", rows=sent[0].count)
    if sent[0].state is not BatchState.COLLECTED:
        return CanaryVerdict(state="out", rows=sent[0].count)
    share = good_rows(store, run) / sent[0].count
    floor = pilot_floor(store, run)
    state: Literal["passed", "failed"] = "passed" if share >= floor else "failed"
    return CanaryVerdict(state=state, rows=sent[0].count, share=share, floor=floor)


def good_rows(store: Store, run: Run) -> int:
    """Count the rows of the run that a model answered well: accepted, or rightly called too sparse."""
    good = 0
    for (state, reason, _), n in store.tally(run.id).counts.items():
        if state is RowState.SUCCEEDED or (state is RowState.HUMAN and reason is Reason.OUTPUT_SPARSE):
            good += n
    return good


def pilot_floor(store: Store, run: Run) -> float:
    """Give the pilot's share of good rows minus its interval: the lower end of Wilson's 95 % interval."""
    lock = store.get(DocKind.LOCK, run.spec)
    if lock is None:
        return FLOOR_UNLOCKED
    body = json.loads(lock)
    return wilson(int(body["good"]), int(body["rows"]))[0]

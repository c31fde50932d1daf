"""The canary: a large run's first batch must do about as well as the pilot before the rest is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence, Set
from typing import Final, Literal

import attrs

from batchkit.ids import BatchId, ResultId
from batchkit.intervals import wilson
from batchkit.model import Batch, BatchWhere, DocKind, Need, ResultView, Run
from batchkit.reasons import Reason
from batchkit.states import BatchState, RowEvent
from batchkit.storage import Store

ABOVE: Final = 20_000
"""Source records above which a run begins with a canary, unless told otherwise."""

FLOOR_UNLOCKED: Final = 0.5
"""Share of good answers asked of a canary where no pilot says what to expect."""

SETTLED: Final = "canary_settled"
"""The run's option that says how the canary ended: ``passed``, or ``overruled`` by whoever lets the run go on."""

_NEVER_SENT = frozenset({BatchState.REJECTED, BatchState.ABSENT, BatchState.LATE})
_READ = frozenset({BatchState.COLLECTED, BatchState.UNRECOVERABLE})
_UNJUDGED = frozenset({RowEvent.RESENT, RowEvent.MONEY_PAUSED, RowEvent.LINE_CANCELED, RowEvent.RESULTS_GONE})
_PAGE = 2_000


@attrs.frozen(kw_only=True)
class CanaryVerdict:
    """Where the canary stands.

    Attributes:
        state: ``off`` (nothing to wait for), ``first`` (it is to be sent), ``out`` (sent, not read yet),
            ``passed`` or ``failed``.
        rows: Its size: the most rows to send, or the answers judged.
        share: The share of good answers it reached.
        floor: The share that was asked of it.
        locked: Whether a pilot set the floor.
    """

    state: Literal["off", "first", "out", "passed", "failed"]
    rows: int = 0
    share: float = 1.0
    floor: float = 0.0
    locked: bool = False

    def need(self) -> Need:
        """Say what a person has to decide after a canary that failed."""
        asked = "the pilot's lower bound" if self.locked else "what is asked where no pilot was locked"
        return Need(
            who="person",
            code="canary",
            why=f"of the first {self.rows:,} answers {self.share:.1%} are good, below {self.floor:.1%}, {asked}; "
            "nothing else was sent",
            fix="read them (run.failures()), then go on (python -m batchkit resume STORE RUN) or end it "
            "(python -m batchkit cancel STORE RUN)",
        )


def canary_verdict(store: Store, run: Run) -> CanaryVerdict:
    """Judge the canary of a run from what the store holds."""
    wanted = _number(run, "canary", 0)
    if run.rows <= _number(run, "canary_above", ABOVE) or wanted <= 0 or SETTLED in run.options:
        return CanaryVerdict(state="off")
    sent = [b for b in store.batches(BatchWhere(run=run.id)) if b.state not in _NEVER_SENT]
    if any(batch.state not in _READ for batch in sent):
        return CanaryVerdict(state="out", rows=sum(batch.count for batch in sent))
    good, judged = _count(store, run, sent)
    if not judged:
        # Nothing was sent yet, or all of it expired or met an overloaded API: that says nothing of the prompt.
        return CanaryVerdict(state="first", rows=wanted)
    floor, locked = _floor(store, run)
    share = good / judged
    return CanaryVerdict(
        state="passed" if share >= floor else "failed", rows=judged, share=share, floor=floor, locked=locked
    )


def _count(store: Store, run: Run, batches: Sequence[Batch]) -> tuple[int, int]:
    """Count the good answers of some batches, and all that were judged: accepted, or rightly called too sparse."""
    good = judged = 0
    for result in _results(store, run, {batch.id for batch in batches}):
        if result.event not in _UNJUDGED:
            judged += 1
            good += result.verdict is None or result.verdict is Reason.OUTPUT_SPARSE
    return good, judged


def _results(store: Store, run: Run, batches: Set[BatchId]) -> Iterator[ResultView]:
    after: ResultId | None = None
    while batches and (page := store.results(run.id, after=after, limit=_PAGE)):
        yield from (result for result in page if result.batch in batches)
        after = page[-1].id


def _floor(store: Store, run: Run) -> tuple[float, bool]:
    """Give the pilot's share of good rows minus its interval (Wilson, 95 %), and whether there was a pilot."""
    lock = store.get(DocKind.LOCK, run.spec)
    if lock is None:
        return FLOOR_UNLOCKED, False
    body = json.loads(lock)
    return wilson(int(body["good"]), int(body["rows"]))[0], True


def _number(run: Run, option: str, default: int) -> int:
    value = run.options.get(option, default)
    return value if isinstance(value, int) else default

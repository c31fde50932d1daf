"""The sum of it all: what the demo prints last, and writes for programs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from batchkit.demo.stand_in import StandIn
from batchkit.demo.task import Attributes
from batchkit.equations import answered_tier, every_result
from batchkit.model import BatchWhere, Tally
from batchkit.money import usd
from batchkit.run import Run
from batchkit.states import Outcome
from batchkit.storage import Store


def recorded_answers(store: Store) -> int:
    """Count the answers from batches that the store holds with a price, over all its runs."""
    return sum(
        result.batch is not None and result.usage is not None
        for run in store.runs()
        for result in every_result(store, run)
    )


def summary(
    store: Store, made: Run[Attributes], *, api: StandIn | None, facts: dict[str, Any]
) -> dict[str, Any]:
    """Give everything worth asserting on, JSON-able.

    ``double_paid`` is what the simulator billed beyond what the store recorded, None where nobody can be
    asked for the bill.
    """
    progress, reconciled = made.progress, made.reconcile()
    by_tier: dict[int, int] = {}
    for result in every_result(store, made.record):
        if result.usage is not None and result.batch is not None:
            tier = answered_tier(result)
            by_tier[tier] = by_tier.get(tier, 0) + 1
    sent = [batch for batch in store.batches(BatchWhere()) if batch.remote_id is not None]
    recorded = recorded_answers(store)
    return {
        "rows": made.record.rows,
        "outcomes": {outcome.value: rows for outcome, rows in progress.tally.outcomes.items()},
        "balanced": reconciled.balanced,
        "equation": reconciled.equation,
        "quarantined_because": _because(progress.tally, Outcome.QUARANTINED),
        "batches": len(sent),
        "tiers": len(by_tier),
        "answers_by_tier": {str(tier): answers for tier, answers in sorted(by_tier.items())},
        "spent_usd": str(usd(sum(batch.spent for batch in sent))),
        "recorded_answers": recorded,
        "double_paid": None if api is None else api.billed_lines() - recorded,
        **facts,
    }


def _because(tally: Tally, bucket: Outcome) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for outcome, reason, _, rows in tally.reasons():
        if outcome is bucket:
            counts[reason.value] += rows
    return dict(counts.most_common())

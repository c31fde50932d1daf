"""The sum of it all: what the demo prints last, and writes for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from batchkit.demo.stand_in import StandIn
from batchkit.demo.task import Attributes
from batchkit.equations import answered_tier
from batchkit.model import BatchWhere, Tally
from batchkit.money import usd
from batchkit.reasons import Reason
from batchkit.run import Run
from batchkit.states import Outcome
from batchkit.storage import Store

INPUTS: Final = {
    Reason.INPUT_DUPLICATE_KEY: "repeat a sku: the first record of each is taken",
    Reason.INPUT_MISSING_KEY: "have no sku",
    Reason.INPUT_UNENCODABLE: "are broken text",
    Reason.INPUT_TOO_LARGE: "are too large for a request",
}


def recorded_answers(store: Store) -> int:
    """Count the answers from batches that the store holds with a price, over all its runs."""
    return sum(
        line.results
        for run in store.runs()
        for line in store.ledger(run.id)
        if line.batch is not None and line.usage is not None
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
    for line in store.ledger(made.record.id):
        if line.usage is not None and line.batch is not None:
            tier = answered_tier(line)
            by_tier[tier] = by_tier.get(tier, 0) + line.results
    sent = [batch for batch in store.batches(BatchWhere()) if batch.remote_id is not None]
    recorded = recorded_answers(store)
    return {
        "rows": made.record.rows,
        "outcomes": {outcome.value: rows for outcome, rows in progress.tally.outcomes.items()},
        "balanced": reconciled.balanced,
        "equation": reconciled.equation,
        "quarantined_because": _because(progress.tally, Outcome.QUARANTINED),
        "set_aside": [
            {"records": rows, "that": why, "are": outcome} for rows, why, outcome in set_aside(made)
        ],
        "batches": len(sent),
        "tiers": len(by_tier),
        "answers_by_tier": {str(tier): answers for tier, answers in sorted(by_tier.items())},
        "spent_usd": str(usd(sum(batch.spent for batch in sent))),
        "recorded_answers": recorded,
        "double_paid": None if api is None else api.billed_lines() - recorded,
        **facts,
    }


def set_aside(made: Run[Attributes]) -> list[tuple[int, str, str]]:
    """Say how many records are no ordinary ones: why, and where they ended."""
    inputs = [
        (rows, INPUTS.get(reason, reason.value), outcome.value)
        for outcome, reason, _, rows in made.progress.tally.reasons()
        if reason.matches("input.*")
    ]
    silent = Counter(row.outcome.value for row in made.rows(source=_says_nothing) if row.key)
    return [*inputs, *((rows, "have no text at all", outcome) for outcome, rows in silent.most_common())]


def _says_nothing(source: Mapping[str, str | None]) -> bool:
    return not any((source.get(name) or "").strip() for name in ("title", "description"))


def _because(tally: Tally, bucket: Outcome) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for outcome, reason, _, rows in tally.reasons():
        if outcome is bucket:
            counts[reason.value] += rows
    return dict(counts.most_common())

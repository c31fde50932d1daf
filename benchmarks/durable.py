"""A whole durable run of batchkit: freeze, intent, submit, poll, collect, judge, settle, reconcile."""

from __future__ import annotations

import sys
from pathlib import Path

import anthropic
import httpx2  # noqa: F401 (comes with the SDK; loaded before the clock starts)
import meter
import workload
from anthropic.types.messages import MessageBatch  # noqa: F401 (the same)

from batchkit.api import wire_schema
from batchkit.contract import Contract
from batchkit.model import RowView, Where
from batchkit.policy import Policy, quarantine
from batchkit.prompt import Prompt
from batchkit.spec import Spec
from batchkit.states import RowState
from batchkit.tier import Tier
from batchkit.workflow import Workflow

SPEC = Spec(
    Contract(workload.Answer),
    Prompt(workload.TEMPLATE, system=workload.INSTRUCTION),
    key="sku",
    tiers=[Tier(workload.MODEL, max_tokens=workload.MAX_TOKENS)],
    # The plain script asks no row twice, so this run does not either: the same work for both.
    policy=Policy.default().on("output.*", quarantine()),
)


def main(url: str, rows: int, folder: Path, batch_rows: int) -> None:
    """Run it once."""
    if wire_schema(SPEC.contract.schema) != workload.SCHEMA:
        raise SystemExit("workload.SCHEMA is not what the SDK makes of the contract any more")
    client = anthropic.Anthropic(api_key="none", base_url=url)
    meter_ = meter.Meter()
    flow = Workflow(SPEC, store=folder / "durable.db", client=client, max_batch_rows=batch_rows)
    run = flow.start("bench", workload.rows(rows), unlocked=True)
    run.wait(progress="none")  # closes with a receipt: everything counted anew
    report = meter_.report()
    reconciliation = run.reconcile()
    if not reconciliation.balanced:
        raise SystemExit(f"it does not balance: {reconciliation.equation}")
    valid = ((row.key, row.answer or b"") for row in _staged(flow))
    meter.tell({**report, "valid": workload.digest(valid), "equation": reconciliation.equation})


def _staged(flow: Workflow[workload.Answer]) -> list[RowView]:
    run = flow.store.runs(name="bench")[0]
    return list(
        flow.store.page(run.id, Where(states=frozenset({RowState.SUCCEEDED}), results=True), limit=10**9)
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))

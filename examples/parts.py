"""The six parts, each alone: on plain values where it is pure, on a store and a client where it is not.

Nothing here needs a workflow. The client is a simulator's; in earnest it is ``anthropic.Anthropic()``.
"""

import json

from common import Attributes, spec

from batchkit import (
    ChunkedSubmitter,
    Escalator,
    Reason,
    Reconciler,
    Reconciliation,
    RequestBuilder,
    ResultCollector,
    SQLiteStore,
    Validator,
    Verdict,
)
from batchkit.states import RowEvent
from batchkit.testing import SimulatedClock, simulated_client
from batchkit.testing.catalog_model import catalog_model
from batchkit.testing.simulator import SimulatedAPI

ROWS = [
    {"sku": "0042", "title": "HDMI cable", "description": "HDMI cable, 2 m, braided", "brand": "Ilyra"},
    {"sku": "0043", "title": "Desk lamp", "description": "Lamp with a warm light", "brand": "Tarn & Sons"},
    {"sku": "0044", "title": "n/a", "description": "", "brand": ""},
]


def build() -> str:
    """RequestBuilder: a record becomes the bytes of one request, the same every time."""
    builder = RequestBuilder(spec)
    request = builder.build(ROWS[0], nonce="abcd2345")
    print(request.custom_id, len(request.body), "bytes")
    return request.custom_id


def judge() -> Verdict[Attributes]:
    """Validator: a line of a result file becomes a verdict; what is wrong has a reason and a place."""
    answer = {"category": "Gadgets", "features": [], "summary": "A cable."}
    message = {
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": json.dumps(answer)}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 200, "output_tokens": 40},
    }
    line = {"custom_id": "sku_0042-abcd2345", "result": {"type": "succeeded", "message": message}}
    verdict = Validator(spec).judge(json.dumps(line).encode())
    print(verdict.reason, verdict.detail)
    return verdict


def decide(reason: Reason) -> list[str]:
    """Escalator: a reason becomes what happens to the row, step after step."""
    escalator, steps = Escalator(spec), []
    tier = tries = 0
    while True:
        decided = escalator.decide(reason, tier=tier, tries=tries, resends=0)
        steps.append(decided.event.value)
        if decided.event not in {RowEvent.RETRIED, RowEvent.ESCALATED}:
            break
        tier, tries = decided.tier, decided.tries
    print(reason.value, "→", " → ".join(steps))
    return steps


def send_and_collect() -> Reconciliation:
    """ChunkedSubmitter, ResultCollector, Reconciler: rows go out, answers come back, the sum is counted."""
    api = SimulatedAPI(catalog_model(), seed=1)
    clock, client = SimulatedClock(api), simulated_client(api=api)
    store = SQLiteStore(":memory:", clock=clock)
    builder = RequestBuilder(spec)
    submitter = ChunkedSubmitter(store, client, builder=builder, max_rows=2, clock=clock)
    collector = ResultCollector(
        store, client, validator=Validator(spec), escalator=Escalator(spec), builder=builder, clock=clock
    )
    submitter.submit("by-hand", ROWS)
    while collector.fetch("by-hand").open:
        clock.sleep(600)
        submitter.submit("by-hand", ROWS)  # sends only what is to be sent again
    counted = Reconciler(store).reconcile("by-hand")
    print(counted.equation)
    return counted


if __name__ == "__main__":
    build()
    judge()
    decide(Reason.OUTPUT_SCHEMA)
    decide(Reason.OUTPUT_REFUSED)
    send_and_collect()

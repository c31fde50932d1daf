"""One simulated batch: its times, its state, and the lines it ends with."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter
from datetime import datetime, timezone
from typing import Any, Literal

import attrs

from batchkit.testing.answers import Answer, Model
from batchkit.testing.bill import Invoice, InvoiceWriter
from batchkit.testing.http import error_body
from batchkit.testing.lines import Lines
from batchkit.testing.message import message
from batchkit.testing.validate import Checker

__all__ = ["DAY", "Batch", "Latency", "Settled", "row_seed", "settle", "timestamp"]

DAY = 86_400.0
LIFETIME = DAY
RETENTION = 29 * DAY
_OUTCOMES = ("succeeded", "errored", "canceled", "expired")
_DUMPS = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@attrs.frozen
class Latency:
    """How long batches take: from ``min`` to ``max`` seconds, shorter ones more often.

    Beyond 24 hours is allowed: what is not finished by then expires.
    """

    min: float = attrs.field(default=120.0, validator=attrs.validators.gt(0))
    max: float = attrs.field(default=5_400.0)

    def __attrs_post_init__(self) -> None:
        if self.max < self.min:
            raise ValueError(f"Latency(min={self.min}, max={self.max}): max is below min")

    def draw(self, rng: random.Random) -> float:
        """Draw one duration in seconds, log-uniform."""
        return math.exp(rng.uniform(math.log(self.min), math.log(self.max)))


@attrs.frozen
class Settled:
    """What an ended batch holds: its result lines, their counts, and what was billed."""

    results: Lines
    counts: dict[str, int]
    invoice: Invoice


@attrs.define(kw_only=True)
class Batch:
    """One batch as the server knows it. Times are seconds since the epoch.

    Attributes:
        done_at: When the last request would be finished, were there neither expiry nor cancellation.
        drain: Seconds that a cancellation takes.
        requests: The requests, one JSON text a line; None once settled.
    """

    id: str
    serial: int
    workspace: str
    version: str
    size: int
    created_at: float
    done_at: float
    drain: float
    requests: Lines | None
    cancel_at: float | None = None
    deleted: bool = False
    settled: Settled | None = None

    @property
    def expires_at(self) -> float:
        return self.created_at + LIFETIME

    @property
    def ended_at(self) -> float:
        """When processing ends, or will end as things stand."""
        natural = min(self.done_at, self.expires_at)
        return natural if self.cancel_at is None else min(natural, self.cancel_at + self.drain)

    @property
    def archived_at(self) -> float:
        return self.created_at + RETENTION

    def status(self, now: float) -> Literal["in_progress", "canceling", "ended"]:
        if now >= self.ended_at:
            return "ended"
        return "in_progress" if self.cancel_at is None else "canceling"

    def to_dict(self, now: float, base_url: str) -> dict[str, Any]:
        """Return the API's object; an ended batch must have been settled before."""
        status = self.status(now)
        counts = {"processing": self.size, **dict.fromkeys(_OUTCOMES, 0)}
        if status == "ended" and self.settled is not None:
            counts = {"processing": 0, **self.settled.counts}
        archived = now >= self.archived_at
        readable = status == "ended" and not archived
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": counts,
            "created_at": timestamp(self.created_at),
            "expires_at": timestamp(self.expires_at),
            "ended_at": timestamp(self.ended_at) if status == "ended" else None,
            "cancel_initiated_at": None if self.cancel_at is None else timestamp(self.cancel_at),
            "archived_at": timestamp(self.archived_at) if archived else None,
            "results_url": f"{base_url}/v1/messages/batches/{self.id}/results" if readable else None,
        }


def timestamp(seconds: float) -> str:
    """Return RFC 3339 text in UTC, with microseconds."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds")


def row_seed(seed: int, text: str) -> bytes:
    """Return 16 bytes that depend on the simulator's seed and a request's text, and on nothing else."""
    return hashlib.blake2b(text.encode(), digest_size=16, key=str(seed).encode()[:64]).digest()


def settle(batch: Batch, requests: Lines, model: Model, seed: int) -> Settled:
    """Answer the requests of a batch that has ended."""
    rng = random.Random()
    checker = Checker(batch.version)
    lasted = batch.ended_at - batch.created_at
    would_last = batch.done_at - batch.created_at
    unfinished = "expired" if batch.cancel_at is None or batch.ended_at >= batch.expires_at else "canceled"
    invoice = InvoiceWriter(batch.id)
    lines: list[str] = []
    counts: Counter[str] = Counter()
    for text in requests:
        digest = row_seed(seed, text)
        request = json.loads(text)
        custom_id = request["custom_id"]
        finished_at = int.from_bytes(digest[12:], "big") / 2**32 * would_last
        if finished_at > lasted:
            result: dict[str, Any] = {"type": unfinished}
        else:
            rng.seed(int.from_bytes(digest[:12], "big"))
            result = _result(request["params"], checker, model, rng, digest.hex())
        kind = result["type"]
        counts[kind] += 1
        if kind == "succeeded":
            invoice.add(custom_id, result["message"]["model"], result["message"]["usage"])
        # The id was checked when the batch was created: it needs no escaping.
        lines.append(f'{{"custom_id":"{custom_id}","result":{_DUMPS(result)}}}')
    counts["expired"] += batch.size - len(lines)  # requests of a stranger's that nobody kept
    random.Random(f"{seed}:{batch.id}").shuffle(lines)
    return Settled(Lines.of(lines), {name: counts[name] for name in _OUTCOMES}, invoice.close())


def _result(params: Any, checker: Checker, model: Model, rng: random.Random, digest: str) -> dict[str, Any]:
    wrong = checker.refusal(params)
    if wrong is not None:
        return _errored("invalid_request_error", wrong, digest)
    answer: Answer = model(params, rng)
    match answer.kind:
        case "message":
            return {
                "type": "succeeded",
                "message": message(params, answer, f"msg_01{digest[:22]}", rng, "batch"),
            }
        case "errored":
            return _errored(answer.error_type, answer.error_message or answer.error_type, digest)
        case "expired":
            return {"type": "expired"}


def _errored(kind: str, text: str, digest: str) -> dict[str, Any]:
    return {"type": "errored", "error": error_body(kind, text, f"req_01{digest[:22]}")}

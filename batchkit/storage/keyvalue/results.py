"""Results as they are kept in an ordered map: a line of JSON, then the answer as it came. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from json import JSONEncoder
from operator import add
from typing import TypeAlias

from batchkit.frozen import parse
from batchkit.ids import BatchId, ResultId, RowId
from batchkit.model import LedgerLine, ResultView, Settled, Usage
from batchkit.reasons import Reason
from batchkit.states import RowEvent

_Alike: TypeAlias = tuple[BatchId | None, RowEvent, int, Reason | None, str, bool, bool]

_encode = JSONEncoder(separators=(",", ":")).encode
_event = cache(RowEvent)
_reason = cache(Reason)


def encode_result(item: Settled, source: BatchId | None, by: str) -> bytes:
    """Encode a result."""
    head = (
        item.row,
        source,
        item.event.value,
        item.tier,
        None if item.verdict is None else item.verdict.value,
        item.detail,
        item.answer is not None,
        item.usage,
        item.cost,
        item.model,
        by,
    )
    return _encode(head).encode() + b"\n" + (item.answer or b"")


def decode_result(id_: int, stored: bytes) -> ResultView:
    """Read what `encode_result` gave."""
    head, _, answer = stored.partition(b"\n")
    row, batch, event, tier, verdict, detail, answered, usage, cost, model, by = parse(head)
    return ResultView(
        ResultId(id_),
        RowId(row),
        batch,
        _event(event),
        tier,
        None if verdict is None else _reason(verdict),
        detail,
        answer if answered else None,
        None if usage is None else Usage(*usage),
        cost,
        model,
        by,
    )


def ledger_lines(results: Iterable[ResultView], standing: frozenset[int]) -> list[LedgerLine]:
    """Count and sum results that are alike; ``standing`` are those that are their row's answer."""
    sums: dict[_Alike, tuple[int, ...]] = {}
    for result in results:
        alike = (
            result.batch,
            result.event,
            result.tier,
            result.verdict,
            result.model,
            result.id in standing,
            result.usage is not None,
        )
        more = (1, *(result.usage or Usage()), result.cost)
        known = sums.get(alike)
        sums[alike] = more if known is None else tuple(map(add, known, more))
    lines: list[LedgerLine] = []
    for (batch, event, tier, verdict, model, stands, told), (count, *tokens, cost) in sums.items():
        usage = Usage(*tokens) if told else None
        lines.append(LedgerLine(batch, event, tier, verdict, model, stands, count, usage, cost))
    return lines

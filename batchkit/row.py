"""One row as people and programs see it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Generic

import attrs
from typing_extensions import TypeVar

from batchkit.ids import RowId
from batchkit.reasons import Reason
from batchkit.states import Outcome

T = TypeVar("T", default=Any)

COLUMNS: Final = ("key", "outcome", "reason", "detail", "tier", "attempts", "cost_usd")
"""The columns every row has, before ``source.*`` and ``output.*``."""


@attrs.frozen(kw_only=True)
class Row(Generic[T]):
    """One source record with everything known of it.

    Attributes:
        key: The record's key.
        source: Its frozen fields.
        output: The valid answer in the contract's type; None where there is none.
        outcome: The bucket it is counted in.
        reason: Why it is not (yet) a success.
        detail: What exactly was wrong.
        tier: The tier it stands at, counted from 0.
        attempts: How many answers were billed for it.
        cost_usd: What they cost, in US dollars.
        answer: The raw text of the latest answer, also where it was not accepted.
        metadata: The frozen fields that were never sent.
        by: The person who answered, where one did.
        id: The store's own id.
    """

    key: str
    source: Mapping[str, str | None] = attrs.field(hash=False)
    output: T | None = attrs.field(hash=False)
    outcome: Outcome
    reason: Reason | None
    detail: str
    tier: int
    attempts: int
    cost_usd: Decimal
    answer: str | None
    metadata: Mapping[str, str | None] = attrs.field(factory=dict, hash=False)
    by: str = ""
    id: RowId = attrs.field(repr=False)

    def flat(self, output: Mapping[str, object] | None) -> dict[str, object]:
        """Give the row as one flat mapping of JSON-able values: fixed columns, then ``source.*`` and ``output.*``."""
        flat: dict[str, object] = {
            "key": self.key,
            "outcome": self.outcome.value,
            "reason": self.reason.value if self.reason else None,
            "detail": self.detail or None,
            "tier": self.tier,
            "attempts": self.attempts,
            "cost_usd": str(self.cost_usd),
        }
        flat.update((f"source.{name}", value) for name, value in self.source.items())
        flat.update((f"output.{name}", value) for name, value in (output or {}).items())
        return flat

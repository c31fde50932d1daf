"""A look before anything is spent: the exact request for a row, its tokens, and what it may cost at most."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import attrs

from batchkit import source
from batchkit.builder import RequestBuilder
from batchkit.errors import UsageError
from batchkit.ids import Nonce, RowId, RowKey
from batchkit.model import NANO, RowView, SourceRow
from batchkit.money import OVERHEAD, worst_case
from batchkit.prices import Price, price_of
from batchkit.printing import printable
from batchkit.source import Freezer
from batchkit.spec import Spec
from batchkit.states import RowEvent, RowState

NONCE: Final = Nonce("preview2")
"""Stands where a batch's own nonce will; eight characters of ``a-z2-7`` like any."""

_CHARACTERS: Final = 4


@attrs.frozen(kw_only=True)
class Preview:
    """One request as it would be sent.

    Attributes:
        key: The record's key.
        custom_id: The request's id; in a batch it ends in the batch's nonce.
        tier: The tier, counted from 0.
        model: Its model.
        request: The request: one element of a batch's ``requests``.
        bytes: Its length in a batch's body.
        input_tokens: About how many tokens it has, at four characters to a token.
        max_tokens: The most tokens its answer may have.
        worst_usd: What it costs at most, in US dollars; None where the model's price is not known.
        skipped: Records before it that would not be sent, by reason.
    """

    key: str
    custom_id: str
    tier: int
    model: str
    request: Mapping[str, Any] = attrs.field(hash=False)
    bytes: int
    input_tokens: int
    max_tokens: int
    worst_usd: Decimal | None
    skipped: Mapping[str, int] = attrs.field(factory=dict, hash=False)

    @property
    def json(self) -> str:
        """Give the request as indented JSON."""
        return json.dumps(self.request, indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        """Give the facts and the request as text."""
        worst = "no price known" if self.worst_usd is None else f"at most ${self.worst_usd:.6f}"
        tokens = f"about {self.input_tokens:,} tokens in, at most {self.max_tokens:,} out"
        lines = [f"{self.custom_id} · {self.model} · {tokens} · {worst}"]
        lines += [
            f"{n:,} record{'s' if n > 1 else ''} before it would not be sent: {why}"
            for why, n in self.skipped.items()
        ]
        return "\n".join(printable(line) for line in (*lines, *self.json.split("\n")))

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def preview(
    spec: Spec[Any],
    rows: object,
    *,
    tier: int = 0,
    schema: Mapping[str, Any] | None = None,
    prices: Mapping[str, Price] | None = None,
) -> Preview:
    """Make the request of the first record that would be sent. Sends and stores nothing.

    Args:
        spec: What is sent.
        rows: Anything that :func:`batchkit.source.rows` takes; only its beginning is read.
        tier: Which tier's request.
        schema: The wire schema, where one goes with the request.
        prices: Prices that replace or extend the shipped table.

    Raises:
        UsageError: there is no such tier, or no record that would be sent.
        MissingField, KeyTypeError: the rows cannot be used as they are.
    """
    if not 0 <= tier < len(spec.tiers):
        raise UsageError(f"the spec has tiers 0 to {len(spec.tiers) - 1}, not {tier}")
    builder = RequestBuilder(spec, schema=schema)
    skipped: dict[str, int] = {}
    for page in Freezer(spec, builder=builder).pages(source.records(rows)):
        for row in page:
            if row.event is RowEvent.FROZEN:
                return _previewed(spec, builder, row, tier, prices or {}, skipped)
            why = row.reason.value if row.reason is not None else row.event.value
            skipped[why] = skipped.get(why, 0) + 1
    said = ", ".join(f"{n:,} {why}" for why, n in skipped.items()) or "there are none"
    raise UsageError(f"none of these rows would be sent: {said}")


def _previewed(
    spec: Spec[Any],
    builder: RequestBuilder[Any],
    row: SourceRow,
    tier: int,
    prices: Mapping[str, Price],
    skipped: Mapping[str, int],
) -> Preview:
    chosen = spec.tiers[tier]
    fields = json.loads(row.line)[2]
    view = RowView(
        RowId(0), RowKey(row.key), RowState.PENDING, None, tier, 0, 0, row.size, None, None, 0, 0, fields
    )
    body = builder.encode(view, NONCE)
    price = chosen.price or price_of(chosen.model, prices)
    return Preview(
        key=row.key,
        custom_id=builder.custom_id(row.key, NONCE),
        tier=tier,
        model=chosen.model,
        request=json.loads(body),
        bytes=len(body),
        input_tokens=-(-len(body.decode()) // _CHARACTERS) + OVERHEAD,
        max_tokens=chosen.max_tokens,
        worst_usd=None if price is None else Decimal(worst_case(len(body), chosen.max_tokens, price)) / NANO,
        skipped=dict(skipped),
    )

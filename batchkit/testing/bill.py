"""What the provider charges, line by line, so that tests count what was really paid."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from batchkit.testing.lines import Lines, LinesWriter

__all__ = ["Bill", "Invoice", "InvoiceWriter"]

TOKENS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
_SUMS: tuple[str, ...] = ("lines", *TOKENS)


@attrs.frozen
class Invoice:
    """What one batch, or one direct message, costs.

    Attributes:
        batch_id: The batch; None for a direct message.
        lines: Number of paid answers.
        models: Token sums per model.
        entries: One JSON object a paid answer, kept compressed.
    """

    batch_id: str | None
    lines: int
    models: Mapping[str, Mapping[str, int]]
    entries: Lines


class InvoiceWriter:
    """Adds up one invoice.

    Args:
        batch_id: The batch that is charged; None for a direct message.
    """

    def __init__(self, batch_id: str | None) -> None:
        self._batch_id = batch_id
        self._count = 0
        self._models: dict[str, list[int]] = {}
        self._entries = LinesWriter()

    def add(self, custom_id: str | None, model: str, usage: Mapping[str, Any]) -> None:
        """Charge one answer."""
        self._count += 1
        sums = self._models.get(model)
        if sums is None:
            sums = self._models[model] = [0] * len(_SUMS)
        sums[0] += 1
        charged = []
        for column, name in enumerate(TOKENS, 1):
            tokens = usage.get(name) or 0
            sums[column] += tokens
            charged.append(f'"{name}":{tokens}')
        # Ids of requests need no escaping, and this runs once for every row.
        who = "null" if custom_id is None else f'"{custom_id}"'
        self._entries.add(f'{{"custom_id":{who},"model":{_quoted(model)},"usage":{{{",".join(charged)}}}}}')

    def close(self) -> Invoice:
        """Return the invoice."""
        models = {model: dict(zip(_SUMS, sums, strict=True)) for model, sums in self._models.items()}
        return Invoice(self._batch_id, self._count, models, self._entries.close())


@attrs.frozen
class Bill:
    """Everything charged so far.

    Attributes:
        invoices: One for each batch that has ended, deleted ones included, and one for each direct message.
    """

    invoices: tuple[Invoice, ...]

    @classmethod
    def of(cls, invoices: Iterable[Invoice]) -> Bill:
        """Collect the invoices that charge something."""
        return cls(tuple(invoice for invoice in invoices if invoice.lines))

    @property
    def lines(self) -> int:
        """Number of paid answers."""
        return sum(invoice.lines for invoice in self.invoices)

    @property
    def models(self) -> dict[str, dict[str, int]]:
        """Paid answers and tokens of each kind, per model."""
        sums: dict[str, Counter[str]] = {}
        for invoice in self.invoices:
            for model, tokens in invoice.models.items():
                sums.setdefault(model, Counter(dict.fromkeys(_SUMS, 0))).update(tokens)
        return {model: dict(tokens) for model, tokens in sorted(sums.items())}

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield ``batch_id``, ``custom_id``, ``model`` and ``usage`` of each paid answer."""
        for text in self.texts():
            yield json.loads(text)

    def texts(self) -> Iterator[str]:
        """Yield `entries` as JSON texts."""
        for invoice in self.invoices:
            head = f'{{"batch_id":{_quoted(invoice.batch_id)},'
            for text in invoice.entries:
                yield head + text[1:]

    def times_paid(self) -> Counter[str]:
        """Return how often each ``custom_id`` was paid for, over all batches."""
        return Counter(entry["custom_id"] for entry in self.entries() if entry["custom_id"] is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return the totals."""
        batches = sum(invoice.batch_id is not None for invoice in self.invoices)
        return {"lines": self.lines, "batches": batches, "models": self.models}


@functools.lru_cache(maxsize=64)
def _quoted(name: str | None) -> str:
    return json.dumps(name)

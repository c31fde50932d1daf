"""The requests of pending rows: how large, how dear, and their bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from batchkit.builder import RequestBuilder
from batchkit.ids import RowId, RunId
from batchkit.model import Batch, RowView, Where
from batchkit.money import known_price, price_of, worst_case
from batchkit.planner import Sized
from batchkit.policy import Retry
from batchkit.prices import Price
from batchkit.reasons import Reason
from batchkit.states import RowState
from batchkit.storage import BatchStore, RowStore

__all__ = ["Requests"]

T = TypeVar("T")

READ = 500
"""Rows read at a time: few enough to be gone before the cyclic collector looks at them."""


class _Rows(RowStore, BatchStore, Protocol):
    """What is read here."""


class Requests(Generic[T]):
    """Reads rows and makes their requests, a page at a time."""

    def __init__(self, store: _Rows, builder: RequestBuilder[T], prices: Mapping[str, Price]) -> None:
        """Prepare; ``prices`` override the built-in table."""
        self._store = store
        self._builder = builder
        self._prices = dict(prices)
        spec = builder.spec
        self._tiers = spec.tiers
        # What sizing and encoding need of a row is read only where the spec has use for it.
        self._templates = any(tier.prompt is not None for tier in spec.tiers)
        self._shows = any(
            isinstance(step, Retry) and step.show_error
            for reason in Reason
            for step in spec.policy.ladder(reason)
        )
        self._worsts: dict[tuple[int, int, int], int] = {}

    def sized(self, run: RunId, *, capped: bool) -> Iterator[Sized]:
        """Give the pending rows of a run in id order, each with its exact size and worst cost.

        Raises:
            UsageError: ``capped``, and a tier's price is not known: an unknown price is not zero.
        """
        where = Where(states=frozenset({RowState.PENDING}), source=self._templates, results=self._shows)
        after: RowId | None = None
        measure = self._builder.size
        while True:
            page = self._store.page(run, where, after=after, limit=READ)
            for row in page:
                size = measure(row)
                yield Sized(row.id, size, self._worst(row, size, capped=capped))
            if len(page) < READ:
                return
            after = page[-1].id

    def encoded(self, batch: Batch) -> Iterator[bytes]:
        """Give the requests of a batch in the order of its members, made as they are asked for."""
        members = self._store.members(batch.id).rows
        for start in range(0, len(members), READ):
            ids = [RowId(row) for row in members[start : start + READ]]
            for row in self._store.rows(ids, source=True, results=self._shows):
                yield self._builder.encode(row, batch.nonce)

    def _worst(self, row: RowView, size: int, *, capped: bool) -> int:
        tier = self._tiers[row.tier]
        step = None if row.reason is None else self._builder.spec.policy.step(row.reason, row.tries)
        most = tier.max_tokens if step is None else math.ceil(tier.max_tokens * step.max_tokens)
        key = (row.tier, most, size)
        if key not in self._worsts:
            if len(self._worsts) > 1_000:
                self._worsts.clear()
            price = tier.price or price_of(tier.model, self._prices)
            if price is None and capped:
                price = known_price(tier.model, self._prices)
            self._worsts[key] = 0 if price is None else worst_case(size, most, price)
        return self._worsts[key]

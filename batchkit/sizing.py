"""The requests of pending rows: how large, how dear, and their bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar, cast

from batchkit.alike import AlikeRows
from batchkit.builder import RequestBuilder
from batchkit.errors import UsageError
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

JOINED = 96 * 1024
"""About as many bytes of requests are joined at a time: a step of an iterator for each would cost more than the joining."""


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

    def sized(self, run: RunId, *, capped: bool, after: RowId | None = None) -> Iterator[Sized]:
        """Give the pending rows of a run in id order, some at a time, each with its exact size and worst cost.

        ``after`` leaves out the rows up to that one.

        Raises:
            UsageError: ``capped``, and a tier's price is not known: an unknown price is not zero.
        """
        where = Where(states=frozenset({RowState.PENDING}), source=self._templates, results=self._shows)
        # Many rows are alike in all that their worst cost depends on.
        worst: dict[tuple[int, Reason | None, int, int], int] = {}
        while True:
            page = self._store.page(run, where, after=after, limit=READ)
            sizes = self._builder.sizes(page)
            costs: list[int] = []
            alike = page.one if isinstance(page, AlikeRows) else None
            if alike is not None:
                by_size = {size: self._worst(alike, size, capped=capped) for size in set(sizes)}
                costs = list(map(by_size.__getitem__, sizes))
            else:
                for row, size in zip(page, sizes, strict=True):
                    way = (row.tier, row.reason, row.tries, size)
                    cost = worst.get(way)
                    if cost is None:
                        try:
                            cost = worst[way] = self._worst(row, size, capped=capped)
                        except UsageError:
                            # Rows before it may be all that is wanted.
                            yield _sized(page, sizes, costs)
                            raise
                    costs.append(cost)
            yield _sized(page, sizes, costs)
            if len(worst) > 1_000:
                worst.clear()
            if len(page) < READ:
                return
            after = page[-1].id

    def encoded(self, batch: Batch) -> Iterator[bytes]:
        """Give the requests of a batch in the order of its members, some at a time, with commas between them.

        They are made as they are asked for.
        """
        members = self._store.members(batch.id).rows
        step = max(1, min(READ, JOINED * batch.count // max(1, batch.size)))
        for start in range(0, len(members), READ):
            ids = cast("list[RowId]", members[start : start + READ].tolist())
            rows = self._store.rows(ids, source=True, results=self._shows)
            for first in range(0, len(rows), step):
                yield self._builder.encode_joined(rows[first : first + step], batch.nonce)

    def _worst(self, row: RowView, size: int, *, capped: bool) -> int:
        tier = self._tiers[row.tier]
        step = None if row.reason is None else self._builder.spec.policy.step(row.reason, row.tries)
        most = tier.max_tokens if step is None else math.ceil(tier.max_tokens * step.max_tokens)
        price = tier.price or price_of(tier.model, self._prices)
        if price is None and capped:
            price = known_price(tier.model, self._prices)
        return 0 if price is None else worst_case(size, most, price)


def _sized(page: Sequence[RowView], sizes: Sequence[int], costs: Sequence[int]) -> Sized:
    """Put together what is known of the rows of a page as far as their costs are."""
    ids = cast("Sequence[RowId]", page.ids) if isinstance(page, AlikeRows) else [row.id for row in page]
    known = len(costs)
    return Sized(ids[:known], sizes[:known], costs)

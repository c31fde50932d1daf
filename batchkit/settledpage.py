"""A page of what came back in which most rows were accepted alike: what they share is said once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias, overload

import attrs
from typing_extensions import override

from batchkit.ids import RowId
from batchkit.model import Settled, Usage
from batchkit.states import RowEvent

__all__ = ["Accepted", "AcceptedLine", "SettledPage"]

AcceptedLine: TypeAlias = tuple[RowId, int, int, int, int, int, int, bytes]
"""A row, its cost in nano-dollars, its tokens in the order of `Usage`, and its answer.

A plain tuple of plain values: the cyclic collector looks at one once and then no more.
"""


@attrs.frozen(kw_only=True)
class Accepted:
    """Valid answers of one model to rows that stand alike; tier, tries and resends are the rows' afterwards."""

    tier: int
    tries: int
    resends: int
    model: str
    lines: Sequence[AcceptedLine]


@attrs.frozen(kw_only=True)
class SettledPage(Sequence[Settled]):
    """Accepted answers and everything else of one page.

    To a store that does not know it, it is a sequence like any other; one that does writes what is shared once.
    No row is in it twice.
    """

    accepted: Sequence[Accepted]
    others: Sequence[Settled]

    @override
    def __len__(self) -> int:
        """Count the items."""
        return sum(len(group.lines) for group in self.accepted) + len(self.others)

    @override
    def __iter__(self) -> Iterator[Settled]:
        """Give every item, the accepted ones first."""
        for group in self.accepted:
            for row, cost, *tokens, answer in group.lines:
                yield Settled(
                    row,
                    RowEvent.ACCEPTED,
                    None,
                    group.tier,
                    group.tries,
                    group.resends,
                    answer=answer,
                    usage=Usage(*tokens),
                    cost=cost,
                    model=group.model,
                )
        yield from self.others

    @overload
    def __getitem__(self, index: int) -> Settled: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Settled]: ...
    @override
    def __getitem__(self, index: int | slice) -> Settled | Sequence[Settled]:
        """Give one item, or some."""
        return list(self)[index]

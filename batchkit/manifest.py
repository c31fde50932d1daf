"""The members of a batch, as its result file is read against them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import TypeVar, cast

import attrs

from batchkit.alike import AlikeRows
from batchkit.builder import RequestBuilder
from batchkit.ids import CustomId, RowId
from batchkit.model import Batch, RowView
from batchkit.reasons import Reason
from batchkit.states import RowState
from batchkit.storage import Store

__all__ = ["Manifest", "Standing"]

T = TypeVar("T")

READ = 500
"""Members read at a time: few enough to be gone before the cyclic collector looks at them."""

Standing = tuple[int, int, int, "Reason | None"]
"""A row's tier, tries, resends and reason."""

_standing: Callable[[RowView], Standing] = attrgetter("tier", "tries", "resends", "reason")


def _waits(row: RowView, batch: Batch) -> bool:
    return row.state is RowState.SUBMITTED and row.batch == batch.id


@attrs.define(kw_only=True)
class Manifest:
    """The members of a batch: by custom id, with what each row's values were when it was sent.

    ``open`` has a 1 for every member that still waits for its line in this batch.
    """

    index: dict[CustomId, int]
    rows: Sequence[RowId]
    standings: list[Standing]
    open: bytearray

    @classmethod
    def load(cls, store: Store, builder: RequestBuilder[T], batch: Batch) -> Manifest:
        """Read the members of a batch."""
        members = store.members(batch.id).rows
        index: dict[CustomId, int] = {}
        standings: list[Standing] = []
        waiting = bytearray()
        # Most rows of a batch stand alike: one tuple for all of them.
        shared: dict[Standing, Standing] = {}
        for start in range(0, len(members), READ):
            rows = store.rows(cast("list[RowId]", members[start : start + READ].tolist()))
            if isinstance(rows, AlikeRows):
                keys, standing = rows.keys, _standing(rows.one)
                standings += [shared.setdefault(standing, standing)] * len(rows)
                waiting += bytes([_waits(rows.one, batch)]) * len(rows)
            else:
                keys = [row.key for row in rows]
                stood = list(map(_standing, rows))
                standings += map(shared.setdefault, stood, stood)
                waiting += bytes(_waits(row, batch) for row in rows)
            ids = builder.custom_ids(keys, batch.nonce)
            index.update(zip(ids, range(start, start + len(rows)), strict=True))
        return cls(index=index, rows=cast("Sequence[RowId]", members), standings=standings, open=waiting)

    def still_open(self) -> Iterator[int]:
        """Give the numbers of the members that wait."""
        position = self.open.find(1)
        while position >= 0:
            yield position
            position = self.open.find(1, position + 1)

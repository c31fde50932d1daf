"""What the pending rows of a run would send, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from rig import Label

from batchkit.alike import AlikeRows
from batchkit.builder import RequestBuilder
from batchkit.contract import Contract
from batchkit.errors import UsageError
from batchkit.ids import RowId, RowKey, RunId
from batchkit.model import RowView, Where
from batchkit.planner import Limits, plan
from batchkit.prompt import Prompt
from batchkit.sizing import Requests
from batchkit.spec import Spec
from batchkit.states import RowState
from batchkit.tier import Tier

SPEC = Spec(
    Contract(Label),
    Prompt("Word: {word}"),
    key="sku",
    tiers=[Tier("claude-haiku-4-5", max_tokens=300), Tier("nobody-knows-its-price", max_tokens=300)],
)


def row(number: int, tier: int) -> RowView:
    return RowView(
        RowId(number), RowKey(f"S{number}"), RowState.PENDING, None, tier, 0, 0, 9, None, None, 0, 0
    )


class Pending:
    """A store of which only pending rows are read."""

    def __init__(self, rows: Sequence[RowView]) -> None:
        self.rows = rows

    def page(self, run: RunId, where: Where, *, after: RowId | None, limit: int) -> Sequence[RowView]:
        """Give all that come after."""
        return [one for one in self.rows if after is None or one.id > after][:limit]


def requests(rows: Sequence[RowView]) -> Requests[Label]:
    return Requests(cast("Any", Pending(rows)), RequestBuilder(SPEC), {})


def test_a_price_nobody_knows_matters_only_to_who_sends_its_row() -> None:
    """Under a cap, rows before the first of a model without a price are planned; that one is refused when it is wanted."""
    sized = requests([row(n, 1 if n >= 30 else 0) for n in range(40)])
    for most, fits in [(30, True), (31, False)]:
        pages = sized.sized(RunId(1), capped=True)
        if fits:
            chosen = plan(pages, 40, Limits(max_rows=most), frozenset(), lambda low, high: high)
            assert (len(chosen.rows), chosen.cost > 0) == (30, True)
        else:
            with pytest.raises(UsageError, match="nobody-knows-its-price"):
                plan(pages, 40, Limits(max_rows=most), frozenset(), lambda low, high: high)


def test_rows_that_stand_alike_are_sized_as_each_is() -> None:
    """Sizes and worst costs of neighbours read as columns are those of the same rows read one by one."""
    rows = [row(n, 0) for n in range(20)]
    keys = [one.key for one in rows]
    alike = AlikeRows(
        ids=range(20),
        keys=keys,
        sizes=[9] * 20,
        lines=None,
        stands=(RowState.PENDING, None, 0, 0, 0, None, None, 0, 0),
    )

    class Columns(Pending):
        def page(self, run: RunId, where: Where, *, after: RowId | None, limit: int) -> Sequence[RowView]:
            return alike

    [one_by_one] = requests(rows).sized(RunId(1), capped=True)
    [together] = Requests(cast("Any", Columns(rows)), RequestBuilder(SPEC), {}).sized(RunId(1), capped=True)
    assert list(map(list, together)) == list(map(list, one_by_one))

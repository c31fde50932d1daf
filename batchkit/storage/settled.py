"""A page of what came back, before it meets a database: which events may be in it, and each row once. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Final

from batchkit.errors import IllegalTransition
from batchkit.ids import BatchId, RowId
from batchkit.model import Settled
from batchkit.states import ROW_TRANSITIONS, RowEvent, RowState
from batchkit.storage import schema

_BY_BATCH: Final = frozenset(
    event for event, (origin, _) in ROW_TRANSITIONS.items() if origin is RowState.SUBMITTED
) - {RowEvent.FREED} | {RowEvent.TWIN_ACCEPTED}
_ALONE: Final = frozenset(
    event for event, (origin, _) in ROW_TRANSITIONS.items() if origin not in {None, RowState.SUBMITTED}
) - {RowEvent.TAKEN, RowEvent.TWIN_ACCEPTED}

_NO_USAGE: Final = (None, None, None, None, None)


def check_events(page: Iterable[Settled], source: BatchId | None) -> None:
    """Make sure that the source, a batch or a decision without one, can cause all these events.

    Raises:
        IllegalTransition: it cannot.
    """
    legal = _ALONE if source is None else _BY_BATCH
    for event in set(map(itemgetter(1), page)):
        if event not in legal:
            raise IllegalTransition(
                f"settle: {event.value!r} is not an event of this source; nothing was settled"
            )


def first_of_each(page: Sequence[Settled]) -> tuple[list[Settled], list[RowId]]:
    """Give the items in order of row, of each row the first, and the rows of those left out."""
    # In order, because the update then walks the narrow table instead of jumping about in it.
    ascending = sorted(page, key=itemgetter(0))
    rows = [item[0] for item in ascending]
    again = [b for a, b in pairwise(rows) if a == b]
    if again:
        kept: dict[RowId, Settled] = {}
        for item in ascending:
            kept.setdefault(item.row, item)
        ascending = list(kept.values())
    return ascending, again


def result_rows(
    low: int,
    source: BatchId | None,
    page: Iterable[Settled],
    names: Mapping[str, int],
    by: str,
    *,
    storable: Callable[[str], str],
) -> Iterator[tuple[object, ...]]:
    """Give the results of a page, numbered from ``low`` on, as columns from ``id`` to ``answer``."""
    person, codes = names[by], schema.CODES
    for number, item in enumerate(page, low):
        row, event, reason, tier, tries, resends, verdict, detail, answer, usage, cost, model = item
        fresh, spoken, short, long, read = usage or _NO_USAGE
        yield (
            number,
            row,
            source,
            codes[id(event)],
            codes[id(reason)],
            tier,
            tries,
            resends,
            codes[id(verdict)],
            cost,
            fresh,
            spoken,
            short,
            long,
            read,
            names[model],
            person,
            storable(detail) if detail else "",
            answer,
        )

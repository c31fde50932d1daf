"""A page of what came back, before it meets a database: which events may be in it, and each row once. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final, NamedTuple

import attrs

from batchkit.errors import IllegalTransition
from batchkit.ids import BatchId, RowId
from batchkit.model import Settled
from batchkit.settledpage import Accepted, SettledPage
from batchkit.states import ROW_TRANSITIONS, RowEvent, RowState
from batchkit.storage import schema

_BY_BATCH: Final = frozenset(
    event for event, (origin, _) in ROW_TRANSITIONS.items() if origin is RowState.SUBMITTED
) - {RowEvent.FREED} | {RowEvent.TWIN_ACCEPTED}
_ALONE: Final = frozenset(
    event for event, (origin, _) in ROW_TRANSITIONS.items() if origin not in {None, RowState.SUBMITTED}
) - {RowEvent.TAKEN, RowEvent.TWIN_ACCEPTED}

_NO_USAGE: Final = (None, None, None, None, None)


class Sorted(NamedTuple):
    """A page in order of row, each row once: what was accepted alike, everything else, and the rows given again."""

    accepted: Sequence[Accepted]
    others: Sequence[Settled]
    again: Sequence[RowId]

    @property
    def total(self) -> int:
        """Count the rows."""
        return sum(len(group.lines) for group in self.accepted) + len(self.others)

    @property
    def cost(self) -> int:
        """Sum the costs."""
        accepted = sum(line[1] for group in self.accepted for line in group.lines)
        return accepted + sum(item.cost for item in self.others)

    @property
    def models(self) -> set[str]:
        """Give the names of the models that answered."""
        return {group.model for group in self.accepted} | set(map(itemgetter(11), self.others))

    @property
    def span(self) -> tuple[RowId, RowId]:
        """Give the lowest and the highest row; there must be one."""
        parts: list[Sequence[Any]] = [*(group.lines for group in self.accepted), self.others]
        return min(part[0][0] for part in parts if part), max(part[-1][0] for part in parts if part)


def in_order(page: Sequence[Settled]) -> Sorted:
    """Put a page in order, for a store that writes accepted answers apart from everything else."""
    if isinstance(page, SettledPage):
        accepted = [
            attrs.evolve(group, lines=sorted(group.lines, key=itemgetter(0))) for group in page.accepted
        ]
        rows = set(map(itemgetter(0), page.others))
        for group in accepted:
            rows.update(map(itemgetter(0), group.lines))
        if len(rows) == len(page):
            return Sorted(accepted, sorted(page.others, key=itemgetter(0)), ())
        page = list(page)
    return Sorted((), *first_of_each(page))


def check_events(page: Iterable[Settled], source: BatchId | None) -> None:
    """Make sure that the source, a batch or a decision without one, can cause all these events.

    Raises:
        IllegalTransition: it cannot.
    """
    legal = _ALONE if source is None else _BY_BATCH
    events: set[RowEvent]
    if isinstance(page, SettledPage):
        events = set(map(itemgetter(1), page.others)) | ({RowEvent.ACCEPTED} if page.accepted else set())
    else:
        events = set(map(itemgetter(1), page))
    for event in events:
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

"""A page of source records on its way into a store, and what may be frozen where. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from batchkit.errors import RowsChanged, UsageError
from batchkit.ids import Digest, RowId, row_id
from batchkit.model import PAGE, Run, Seal, SourceRow
from batchkit.states import RowEvent, RunState, after
from batchkit.storage import schema
from batchkit.storage.pages import encode_keys, join_lines, pack, page_digest


class FrozenPage(NamedTuple):
    """A page as it is stored: ``first`` is the position of its first record, ``marked`` what did not become PENDING."""

    first: int
    records: int
    digest: Digest
    sizes: bytes
    keys: bytes
    lines: bytes
    marked: Sequence[SourceRow]


def frozen_page(page: Sequence[SourceRow]) -> FrozenPage:
    """Make a page of records.

    Raises:
        UsageError: they are not records in order, from a multiple of PAGE on.
    """
    positions, keys, lines, sizes, events, *_ = zip(*page, strict=True)
    first, count = positions[0], len(page)
    if first % PAGE or count > PAGE or positions != tuple(range(first, first + count)):
        raise UsageError(
            f"a page holds up to {PAGE} records in order from a multiple of {PAGE}; this one starts at {first}"
        )
    joined = join_lines(lines)
    alike = events.count(RowEvent.FROZEN) == count
    marked = [] if alike else [row for row in page if row.event is not RowEvent.FROZEN]
    return FrozenPage(first, count, page_digest(joined), pack(sizes), encode_keys(keys), joined, marked)


def check_next(run: Run, first: int) -> None:
    """Make sure that the page that starts at ``first`` is the run's next.

    Raises:
        RowsChanged: the run is sealed.
        UsageError: records are missing before it.
    """
    if run.state is not RunState.FREEZING:
        raise RowsChanged(
            f"the source gives more than the {run.rows} records that run {run.name!r} was sealed with; "
            "nothing was changed. Start another run for the new records."
        )
    if first > run.rows:
        raise UsageError(f"the run holds {run.rows} records; the next page starts there, not at {first}")


def check_end(run: Run, page: Sequence[SourceRow], seal: Seal) -> None:
    """Make sure that the source ends where the run does.

    Raises:
        RowsChanged: it ends early.
    """
    given = page[-1].position + 1 if page else seal.count
    if seal.count is not None:
        given = seal.count
    if given is not None and given != run.rows:
        raise RowsChanged(
            f"the source ends after {given} records, run {run.name!r} froze {run.rows}; nothing was changed. "
            "Give the same source, or start another run."
        )


def changed(run: Run, page: FrozenPage, held: bytes) -> RowsChanged:
    """Give the error that names the first record of a page which differs from what is held."""
    frozen, lines = held.split(b"\n"), page.lines.split(b"\n")
    differs = next(
        (n for n, (a, b) in enumerate(zip(frozen, lines, strict=False)) if a != b),
        min(len(frozen), len(lines)),
    )
    return RowsChanged(
        f"the source gives other records than run {run.name!r} froze, from record {page.first + differs} on "
        "(counted from 0); nothing was changed. Give the same source, or start another run."
    )


def mark_values(run: Run, row: SourceRow) -> tuple[RowId, int, int, int | None]:
    """Give the id of a record and the state, reason and result that its event brings it to."""
    state = schema.state_code(after(None, row.event))
    return row_id(run.id, row.position), state, schema.reason_code(row.reason), row.result

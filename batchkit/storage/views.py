"""Views of rows and results, made of what a database found and of the frozen pages. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any, Final, TypeAlias, cast

from batchkit.alike import AlikeRows, AnsweredRows
from batchkit.errors import StoreError
from batchkit.ids import MAX_ROWS, BatchId, ResultId, RowId, RowKey
from batchkit.model import PAGE, ResultView, RowView, Usage
from batchkit.storage import schema
from batchkit.storage.pages import PackedPage

Packed: TypeAlias = Callable[[int], PackedPage]
"""Gives the frozen page that begins with a row id."""

_POSITION: Final = MAX_ROWS - 1
_NO_RESULT: Final = ("", None, None, "", "")
# What the classes' own constructors do, without their Python frame per row.
_new_view: Final[Callable[[Iterable[Any]], RowView]] = partial(tuple.__new__, RowView)
_new_usage: Final[Callable[[Iterable[Any]], Usage]] = partial(tuple.__new__, Usage)


def views(packed: Packed, found: Sequence[tuple[Any, ...]], *, source: bool) -> list[RowView]:
    """Make views of rows in the order in which they were found, one tuple a row."""
    asked = [row[0] for row in found]
    ids = sorted(asked)
    if ids == asked:
        return _views_in_order(packed, ids, found, source=source)
    order = sorted(range(len(asked)), key=asked.__getitem__)
    ordered: list[Any] = [None] * len(found)
    made = _views_in_order(packed, ids, [found[n] for n in order], source=source)
    for n, view in zip(order, made, strict=True):
        ordered[n] = view
    return ordered


def alike_views(packed: Packed, ids: range, one: Sequence[Any], *, source: bool) -> AlikeRows:
    """Make the views of neighbours that all stand as ``one`` does."""
    _, state, reason, *rest = one
    keys: list[RowKey] = []
    sizes: list[int] = []
    lines: list[bytes] = []
    for page, offsets in _pages(ids):
        held, part = packed(page), slice(offsets.start, offsets.stop)
        keys += cast("list[RowKey]", held.keys[part])
        sizes += held.sizes[part]
        if source:
            lines += held.lines()[part]
    if not len(keys) == len(sizes) == len(ids) or (source and len(lines) != len(ids)):
        raise StoreError(
            f"frozen pages of rows {ids.start} to {ids.stop - 1} are damaged: they are short of records"
        )
    return AlikeRows(
        ids=ids,
        keys=keys,
        sizes=sizes,
        lines=lines if source else None,
        stands=(schema.ROW_STATES[state], schema.REASONS[reason], *rest),
    )


def _pages(ids: range) -> Iterator[tuple[int, range]]:
    """Cut neighbours at the borders of frozen pages; give each page with the offsets in it."""
    low = ids.start
    while low < ids.stop:
        page = low - (low & _POSITION) % PAGE
        high = min(ids.stop, page + PAGE)
        yield page, range(low - page, high - page)
        low = high


def answered_views(packed: Packed, found: Sequence[tuple[Any, ...]]) -> AnsweredRows:
    """Make the views of rows in order of id, each found with the text of its answer behind its own values."""
    if not found:
        return AnsweredRows(ids=(), keys=(), stands=(), texts=(), columns=((),) * 6)
    ids, states, reasons, tiers, tries, resends, batches, results, costs, answers, texts = zip(
        *found, strict=True
    )
    keys: list[str] = []
    sizes: list[int] = []
    low = 0
    while low < len(ids):
        page = ids[low] - (ids[low] & _POSITION) % PAGE
        high = bisect_left(ids, page + PAGE, low)
        held, offsets = packed(page), [id_ - page for id_ in ids[low:high]]
        keys += map(held.keys.__getitem__, offsets)
        sizes += map(held.sizes.__getitem__, offsets)
        low = high
    stands = zip(
        map(schema.ROW_STATES.__getitem__, states),
        map(schema.REASONS.__getitem__, reasons),
        tiers,
        answers,
        strict=True,
    )
    return AnsweredRows(
        ids=ids,
        keys=cast("list[RowKey]", keys),
        stands=list(stands),
        texts=texts,
        columns=(tries, resends, sizes, batches, results, costs),
    )


def _views_in_order(
    packed: Packed, ids: Sequence[int], found: Sequence[tuple[Any, ...]], *, source: bool
) -> list[RowView]:
    """Make views of rows in order of id, one tuple a row."""
    made: list[RowView] = []
    low = 0
    while low < len(ids):
        page = ids[low] - (ids[low] & _POSITION) % PAGE
        high = bisect_left(ids, page + PAGE, low)
        made.extend(_page_views(packed(page), page, found[low:high], source=source))
        low = high
    return made


def _page_views(
    packed: PackedPage, page: int, found: Sequence[tuple[Any, ...]], *, source: bool
) -> Iterator[RowView]:
    """Make the views of rows of one page: column by column, because a call per row would double the cost."""
    ids, states, reasons, tiers, tries, resends, batches, results, costs, answers, *result = zip(
        *found, strict=True
    )
    offsets = [id_ - page for id_ in ids]
    fields = packed.fields(offsets) if source else repeat(None)
    latest: tuple[Iterable[Any], ...] = tuple(map(repeat, _NO_RESULT))
    if len(result) == 1:
        latest = (latest[0], *result, *latest[2:])
    elif result:
        details, texts, *usage, models, people = result
        latest = (details, texts, map(_usage, zip(*usage, strict=True)), models, people)
    return map(
        _new_view,
        zip(
            ids,
            map(packed.keys.__getitem__, offsets),
            map(schema.ROW_STATES.__getitem__, states),
            map(schema.REASONS.__getitem__, reasons),
            tiers,
            tries,
            resends,
            map(packed.sizes.__getitem__, offsets),
            batches,
            results,
            costs,
            answers,
            fields,
            *latest,
            strict=False,  # what is the same for all is given without end
        ),
    )


def _usage(tokens: tuple[Any, ...]) -> Usage | None:
    return None if tokens[0] is None else _new_usage(tokens)


def result_view(
    id_: int,
    row: int,
    batch: int | None,
    event: int,
    tier: int,
    verdict: int,
    detail: str,
    answer: bytes | None,
    *rest: Any,
) -> ResultView:
    """Make the view of a result from its columns."""
    *tokens, cost, model, by = rest
    return ResultView(
        ResultId(id_),
        RowId(row),
        None if batch is None else BatchId(batch),
        schema.ROW_EVENTS[event],
        tier,
        schema.REASONS[verdict],
        detail,
        answer,
        None if tokens[0] is None else Usage(*tokens),
        cost,
        model,
        by,
    )

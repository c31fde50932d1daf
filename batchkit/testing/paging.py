"""The API's lists: newest first, with cursors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from batchkit.testing.http import APIError

__all__ = ["page"]

_T = TypeVar("_T")


def page(items: Sequence[_T], ids: Sequence[str], query: Mapping[str, str]) -> tuple[list[_T], bool]:
    """Cut one page out of a list.

    Args:
        items: The whole list, newest first.
        ids: The id of each item.
        query: ``limit`` (20 unless given), and ``after_id`` or ``before_id``.

    Returns:
        The page, newest first, and whether there is more in the direction of paging.

    Raises:
        APIError: A limit outside of 1 to 1000, an unknown cursor, or both cursors at once.
    """
    limit = _limit(query.get("limit", "20"))
    after, before = query.get("after_id"), query.get("before_id")
    if after and before:
        raise APIError("invalid_request_error", "only one of after_id and before_id may be given")
    if before:
        end = _position(ids, before, "before_id")
        start = max(0, end - limit)
        return list(items[start:end]), start > 0
    start = _position(ids, after, "after_id") + 1 if after else 0
    return list(items[start : start + limit]), start + limit < len(items)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 1000:
        raise APIError("invalid_request_error", "limit: Input should be an integer from 1 to 1000")
    return int(text)


def _position(ids: Sequence[str], cursor: str, name: str) -> int:
    try:
        return ids.index(cursor)
    except ValueError:
        raise APIError("invalid_request_error", f"{name}: {cursor} is not in this list") from None

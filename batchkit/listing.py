"""Readings: one pass over the list of remote batches, as deep as a question needs."""

from __future__ import annotations

from typing import Protocol

from batchkit.doubt import SLACK, Reading
from batchkit.errors import ProviderError
from batchkit.ids import RemoteId
from batchkit.remote import ListPage, RemoteBatch

__all__ = ["Lists", "read_list", "server_time"]

PAGE = 100
MOST_PAGES = 200
"""Pages after which a reading is given up as not deep enough: 20,000 batches."""


class Lists(Protocol):
    """What a reading needs of a gateway."""

    def list(self, limit: int = ..., after_id: RemoteId | None = ...) -> ListPage:
        """Read one page, newest first."""
        ...


def server_time(gateway: Lists) -> float | None:
    """Ask for the server's time; None where it is not told. Where a wrong clock would cost, this one decides."""
    try:
        page = gateway.list(1)
    except ProviderError:
        return None
    return None if page.age > 0 else page.date


def read_list(gateway: Lists, *, back_to: float | None = None, whole: bool = False) -> Reading:
    """Read the list from its newest item until one is older than asked, or to its end.

    Args:
        gateway: One snapshot of a credential, for every page.
        back_to: Server time; the reading goes on until an item is older than this by the slack.
            None with ``whole`` False reads one page.
        whole: Read to the end.

    Raises:
        ProviderError: a page could not be read.
    """
    items: list[RemoteBatch] = []
    seen: set[RemoteId] = set()
    page = gateway.list(PAGE)
    first = page
    coherent, cached, complete = True, page.age > 0, False
    for _ in range(MOST_PAGES):
        coherent = coherent and page.place == first.place
        cached = cached or page.age > 0
        news = [item for item in page.items if item.id not in seen]
        seen.update(item.id for item in news)
        items += news
        if not page.has_more:
            complete = True
            break
        deep = back_to is not None and any(item.created_at < back_to - SLACK for item in page.items)
        # A page without anything new would be read for ever.
        if deep or (back_to is None and not whole) or not news:
            break
        page = gateway.list(PAGE, after_id=page.items[-1].id)
    return Reading(
        date=first.date,
        place=first.place,
        items=tuple(items),
        complete=complete,
        coherent=coherent,
        cached=cached,
    )

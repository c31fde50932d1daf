"""Readings of the list: as deep as asked, and honest about what they are."""

from __future__ import annotations

import attrs
import pytest

from batchkit.ids import RemoteId
from batchkit.listing import read_list
from batchkit.model import Place
from batchkit.remote import ListPage, RemoteBatch

HERE = Place(base_url="https://api.example", organization="org", workspace="ws")


def item(number: int) -> RemoteBatch:
    return RemoteBatch(
        id=RemoteId(f"b{number}"), status="ended", counts={}, created_at=1_000_000.0 - 300 * number
    )


class Pages:
    """A list of batches five minutes apart, ten a page, newest first."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.calls = 0
        self.change: dict[int, dict[str, object]] = {}

    def list(self, limit: int = 10, after_id: RemoteId | None = None) -> ListPage:
        start = 0 if after_id is None else int(after_id[1:]) + 1
        end = min(start + 10, self.total)
        page = ListPage(
            items=tuple(item(n) for n in range(start, end)),
            has_more=end < self.total,
            place=HERE,
            date=2_000_000.0 + self.calls,
        )
        self.calls += 1
        return attrs.evolve(page, **self.change.get(self.calls, {}))  # type: ignore[arg-type]


def test_a_reading_goes_on_until_an_item_is_old_enough() -> None:
    """Ten minutes below the time asked for is deep enough; the date is that of the first page."""
    pages = Pages(100)
    reading = read_list(pages, back_to=item(25).created_at)
    assert pages.calls == 3
    assert len(reading.items) == 30
    assert reading.date == 2_000_000.0
    assert not reading.complete


@pytest.mark.parametrize(("total", "calls"), [(0, 1), (10, 1), (35, 4)])
def test_a_whole_reading_ends_with_the_list(total: int, calls: int) -> None:
    """Where no head is known the list is read to its end."""
    pages = Pages(total)
    reading = read_list(pages, whole=True)
    assert (pages.calls, len(reading.items), reading.complete) == (calls, total, True)


def test_one_page_is_enough_where_nothing_is_asked() -> None:
    """Without a depth one page is read."""
    pages = Pages(100)
    assert len(read_list(pages).items) == 10
    assert pages.calls == 1


def test_any_odd_page_marks_the_reading() -> None:
    """One page of another workspace, or out of a cache, is enough."""
    pages = Pages(35)
    pages.change = {2: {"place": attrs.evolve(HERE, workspace="other")}, 3: {"age": 4.0}}
    reading = read_list(pages, whole=True)
    assert not reading.coherent
    assert reading.cached
    assert reading.place == HERE


def test_a_list_that_moves_between_two_pages_is_read_whole_and_once_an_item() -> None:
    """Two batches are created meanwhile, so the second page begins with the last two of the first: no item is doubled."""
    pages = Pages(35)
    pages.change = {2: {"items": tuple(item(n) for n in range(8, 18)), "has_more": True}}
    reading = read_list(pages, whole=True)
    assert [found.id for found in reading.items] == [item(n).id for n in range(35)]
    assert reading.complete


def test_a_list_that_repeats_itself_is_left() -> None:
    """A page with nothing new ends the reading, unfinished, instead of going round for ever."""
    pages = Pages(35)
    same = tuple(item(n) for n in range(10))
    pages.change = {n: {"items": same, "has_more": True} for n in range(1, 10)}
    reading = read_list(pages, whole=True)
    assert len(reading.items) == 10
    assert not reading.complete
    assert pages.calls == 2

"""What readings of the list allow to conclude about a batch whose create was not answered."""

from __future__ import annotations

import json
import math
from typing import Any

import attrs
import pytest

from batchkit.doubt import (
    ATTEMPTS,
    Absent,
    Finding,
    Held,
    Known,
    Open,
    Proved,
    Reading,
    Resolution,
    Trail,
    Wait,
    look,
    observe,
    owner,
    resolve,
)
from batchkit.ids import BatchId, Nonce, RemoteId, RunId
from batchkit.model import Batch, Head, Place
from batchkit.remote import RemoteBatch
from batchkit.states import BatchState

T0 = 1_000_000.0
PLACE = Place(base_url="https://api.example", organization="org", workspace="ws")
BARE = Place(base_url="https://api.example")
HEAD = Head(remote_id=RemoteId("head"), created_at=T0 - 3_600)
KNOWN = Known(nonces=frozenset({Nonce("aaaaaaaa"), Nonce("bbbbbbbb")}))


def doubtful(**changes: Any) -> Batch:
    base = Batch(
        id=BatchId(1),
        run=RunId(1),
        state=BatchState.DOUBTFUL,
        nonce=Nonce("aaaaaaaa"),
        count=100,
        size=1_000,
        place=PLACE,
        head=HEAD,
        reserved=1,
        deadline=T0,
        created_at=T0,
    )
    return attrs.evolve(base, **changes)


def remote(
    name: str, *, total: int = 7, created_at: float = T0, expires_at: float | None = None
) -> RemoteBatch:
    return RemoteBatch(
        id=RemoteId(name),
        status="in_progress",
        counts={"processing": total},
        created_at=created_at,
        expires_at=expires_at,
    )


DEEP = remote("old", created_at=HEAD.created_at - 601)
SEEN_HEAD = remote("head", created_at=HEAD.created_at)


def reading(date: float | None, *items: RemoteBatch, **changes: Any) -> Reading:
    base = Reading(date=date, place=PLACE, items=(*items, SEEN_HEAD, DEEP), complete=False)
    return attrs.evolve(base, **changes)


def follow(
    readings: list[Reading | None],
    *,
    batch: Batch | None = None,
    known: Known = KNOWN,
    grace: float = 1_800.0,
    trail: Trail | None = None,
) -> tuple[Resolution, Trail]:
    """Take the readings one after the other, a minute of the store's clock apart, and conclude at the end."""
    batch = batch or doubtful()
    trail = trail or Trail(since=T0)
    now = T0
    for one in readings:
        now += 60.0
        trail = Trail.from_json(json.loads(json.dumps(observe(batch, trail, one, known, now=now).to_json())))
    return resolve(batch, trail, known, now=now, grace=grace), trail


def clean(*minutes: float) -> list[Reading | None]:
    return [reading(T0 + 60.0 * minute) for minute in minutes]


def test_absence_takes_the_whole_grace_of_clean_readings() -> None:
    """Three clean readings over the whole grace allow absence; a second less does not."""
    assert follow(clean(0, 15, 30))[0] == Absent()
    assert isinstance(follow([reading(T0), reading(T0 + 900), reading(T0 + 1_799)])[0], Wait)


@pytest.mark.parametrize("minutes", [(0, 30), (0, 29.5, 30), (0, 30, 30.5)])
def test_absence_takes_three_readings_a_minute_apart(minutes: tuple[float, ...]) -> None:
    """Two readings are not three, and readings within a minute of each other count once."""
    assert isinstance(follow(clean(*minutes))[0], Wait)


def test_the_grace_runs_on_the_servers_clock() -> None:
    """A day of the store's clock passes nothing while the server says that a minute went by."""
    batch, trail = doubtful(), Trail(since=T0)
    for n in range(3):
        trail = observe(batch, trail, reading(T0 + 60.0 * n), KNOWN, now=T0 + 86_000.0 * (n + 1))
    assert isinstance(resolve(batch, trail, KNOWN, now=T0 + 300_000.0), Wait)


@pytest.mark.parametrize(
    "void",
    [
        {"cached": True},
        {"date": None},
        {"coherent": False},
        {"items": (remote("x"), SEEN_HEAD)},
        {"place": attrs.evolve(PLACE, workspace="other")},
        {"place": attrs.evolve(PLACE, organization="other")},
        {"place": attrs.evolve(PLACE, base_url="https://else.example")},
        {"place": BARE, "items": (DEEP,)},
    ],
)
def test_a_reading_that_does_not_count_breaks_the_series(void: dict[str, Any]) -> None:
    """Every reading within the grace must count: after one that does not, the grace begins again."""
    odd = attrs.evolve(reading(T0 + 900), **void)
    end, trail = follow([reading(T0), odd, *clean(30, 45)])
    assert isinstance(end, Wait)
    assert (trail.clean, trail.first) == (2, T0 + 1_800)
    assert follow([reading(T0), odd, *clean(30, 45, 60)])[0] == Absent()
    assert isinstance(follow([odd] * 40)[0], Wait)


def test_a_reading_older_than_the_one_before_it_is_void() -> None:
    """A list that goes back in time is a cache or another server's clock, and proves nothing."""
    assert isinstance(follow(clean(0, 15, 10, 30))[0], Wait)


def test_a_failed_attempt_is_no_reading() -> None:
    """An attempt that got no list at all neither counts nor breaks the series."""
    assert follow([reading(T0), None, reading(T0 + 900), None, reading(T0 + 1_800)])[0] == Absent()


def test_depth_is_an_item_older_than_the_head_or_the_end_of_the_list() -> None:
    """A reading is deep enough below the head by ten minutes, or when the list has no more."""
    shallow = reading(T0, items=(SEEN_HEAD, remote("old", created_at=HEAD.created_at - 599)))
    assert follow([shallow])[1].void == "not deep enough"
    assert follow([attrs.evolve(shallow, complete=True)])[1].void == ""


def test_a_list_that_was_empty_must_be_read_to_its_end() -> None:
    """Where no head was seen, only the end of the list proves depth."""
    batch = doubtful(head=None)
    assert follow([reading(T0)], batch=batch)[1].void == "not deep enough"
    assert follow([reading(T0, complete=True, items=())], batch=batch)[1].void == ""


@pytest.mark.parametrize(
    ("items", "known", "proved"),
    [
        ((SEEN_HEAD, DEEP), {}, True),
        ((DEEP,), {}, False),
        ((DEEP, remote("ours")), {"in_place": {"ours"}}, True),
        ((DEEP, remote("ours")), {"claimed": {"ours"}}, False),
        ((DEEP, remote("odd")), {"strangers": {"odd"}}, False),
        ((DEEP, remote("odd")), {"in_place": {"odd"}, "strangers": {"odd"}}, False),
    ],
)
@pytest.mark.parametrize("bare", [BARE, attrs.evolve(BARE, organization="org")])
def test_without_a_workspace_header_only_a_batch_of_the_place_proves_it(
    items: tuple[RemoteBatch, ...], known: dict[str, Any], proved: bool, bare: Place
) -> None:
    """The head or an own batch of that place proves the place; depth, strangers and other places' batches do not."""
    batch = doubtful(place=bare)
    seen = Reading(date=T0, place=bare, items=items, complete=True)
    sets: dict[str, Any] = {name: frozenset(ids) for name, ids in known.items()}
    _, trail = follow([seen], batch=batch, known=attrs.evolve(KNOWN, **sets))
    assert (trail.void == "") is proved


def test_a_place_that_cannot_be_proved_is_held_and_never_absent() -> None:
    """Readings that prove no place for a day end with a person, however many there were."""
    batch = doubtful(place=BARE)
    seen = Reading(date=T0, place=BARE, items=(DEEP,), complete=True)
    trail = Trail(since=T0)
    for n in range(ATTEMPTS):
        trail = observe(batch, trail, attrs.evolve(seen, date=T0 + n), KNOWN, now=T0 + 9_000.0 * n)
    end = resolve(batch, trail, KNOWN, now=T0 + 90_000.0)
    assert isinstance(end, Held)
    assert end.need.code == "doubt.no_reading"


def test_a_jump_of_the_stores_clock_alone_asks_nobody() -> None:
    """One failed attempt a day later is a jumped clock or a bad minute, not a day without readings."""
    batch = doubtful()
    trail = observe(batch, Trail(since=T0), None, KNOWN, now=T0 + 90_000.0)
    assert isinstance(resolve(batch, trail, KNOWN, now=T0 + 90_000.0), Wait)


def suspected(finding: Finding, *, after: float = 0.0, expires_at: float | None = None) -> Trail:
    _, trail = follow([reading(T0, remote("s", total=100, expires_at=expires_at)), *clean(15, 30, 45)])
    trail = look(trail, RemoteId("s"), finding, at=T0)
    return look(trail, RemoteId("s"), finding, at=T0 + after)


@pytest.mark.parametrize("finding", [Finding.RUNNING, Finding.UNREADABLE, Finding.MISSING])
def test_an_unopened_suspect_blocks_absence(finding: Finding) -> None:
    """While a suspect is open nothing is absent, even when the list no longer shows it."""
    end = resolve(doubtful(), suspected(finding), KNOWN, now=T0)
    assert isinstance(end, Open)
    assert end.suspects == (RemoteId("s"),)


@pytest.mark.parametrize("finding", [Finding.STRANGER, Finding.OTHER])
def test_a_suspect_that_is_not_ours_leaves_its_readings_clean(finding: Finding) -> None:
    """Once opened and found to be somebody else's, a suspect no longer stands in the way."""
    assert resolve(doubtful(), suspected(finding), KNOWN, now=T0) == Absent()


def test_our_nonce_proves_the_batch() -> None:
    """The first line of an ended suspect that carries our nonce settles it, whatever else is open."""
    trail = look(suspected(Finding.OURS), RemoteId("t"), Finding.MISSING, at=T0)
    assert resolve(doubtful(), trail, KNOWN, now=T0) == Proved(remote=RemoteId("s"))


@pytest.mark.parametrize(
    ("finding", "after", "expires_at", "code"),
    [
        (Finding.MISSING, 3_600.0, None, "doubt.vanished"),
        (Finding.UNREADABLE, 86_400.0, None, "doubt.unreadable"),
        (Finding.RUNNING, 5_000.0, T0 + 1_400, "doubt.overdue"),
    ],
)
def test_a_suspect_is_not_waited_for_without_end(
    finding: Finding, after: float, expires_at: float | None, code: str
) -> None:
    """Vanished for an hour, unreadable for a day, or an hour past its expiry: a person decides, never absence."""
    end = resolve(doubtful(), suspected(finding, after=after, expires_at=expires_at), KNOWN, now=T0)
    assert isinstance(end, Held)
    assert end.need.code == code
    early = resolve(doubtful(), suspected(finding, after=after - 2_000, expires_at=expires_at), KNOWN, now=T0)
    assert isinstance(early, Open)


def test_which_items_are_suspects() -> None:
    """Our count, unclaimed, not dismissed, and not older than the head: nothing else is suspected."""
    known = attrs.evolve(
        KNOWN, claimed=frozenset({RemoteId("mine")}), strangers=frozenset({RemoteId("theirs")})
    )
    items = [
        remote("other size", total=99),
        remote("mine", total=100),
        remote("theirs", total=100),
        remote("older", total=100, created_at=HEAD.created_at - 601),
        remote("head", total=100, created_at=HEAD.created_at),
        remote("yes", total=100),
    ]
    assert set(follow([reading(T0, *items)], known=known)[1].suspects) == {"yes"}


def test_suspects_of_another_place_are_not_ours() -> None:
    """A list of another workspace cannot show our batch, so nothing in it is suspected."""
    elsewhere = reading(T0, remote("s", total=100), place=attrs.evolve(PLACE, workspace="other"))
    assert follow([elsewhere])[1].suspects == {}


def test_an_infinite_grace_never_concludes_absence() -> None:
    """With an infinite grace a person decides after the usual one."""
    end, _ = follow(clean(*range(600)), grace=math.inf)
    assert isinstance(end, Held)
    assert end.need.code == "doubt.grace"


def test_after_a_late_twin_absence_is_a_persons() -> None:
    """Where a batch declared absent turned up once, the next absence is not automatic."""
    end, _ = follow(clean(0, 15, 30), known=attrs.evolve(KNOWN, late_twin=True))
    assert isinstance(end, Held)
    assert end.need.code == "doubt.twin"


def test_an_endpoint_without_a_list_is_held() -> None:
    """No list, no proof: a person decides."""
    end = resolve(doubtful(), Trail(since=T0, no_list=True), KNOWN, now=T0)
    assert isinstance(end, Held)
    assert end.need.code == "doubt.no_list"


def test_two_days_of_readings_are_enough() -> None:
    """A list that flickers for two days ends with a person."""
    readings: list[Reading | None] = []
    for hour in range(49):
        readings += [reading(T0 + 3_600.0 * hour), reading(T0 + 3_600.0 * hour + 60, cached=True)]
    end, _ = follow(readings)
    assert isinstance(end, Held)
    assert end.need.code == "doubt.long"


@pytest.mark.parametrize(
    ("custom_id", "finding"),
    [
        ("sku_1-aaaaaaaa", Finding.OURS),
        ("sku-with-dashes-aaaaaaaa", Finding.OURS),
        ("sku_1-bbbbbbbb", Finding.OTHER),
        ("sku_1-cccccccc", Finding.STRANGER),
        ("aaaaaaaa-1", Finding.STRANGER),
        ("request-1", Finding.STRANGER),
        (None, Finding.UNREADABLE),
    ],
)
def test_whose_batch_it_is_stands_in_its_first_line(custom_id: str | None, finding: Finding) -> None:
    """The nonce is compared with every nonce of the store, read from the right."""
    assert owner(custom_id, doubtful(), KNOWN) is finding


def test_a_need_names_the_way_out() -> None:
    """What a person reads says which batch, why, and what to type."""
    end = resolve(doubtful(), Trail(since=T0, no_list=True), KNOWN, now=T0, held_fix="type this")
    assert isinstance(end, Held)
    assert end.need.who == "person"
    assert end.need.why.startswith("batch 1 may or may not exist")
    assert end.need.fix == "type this"

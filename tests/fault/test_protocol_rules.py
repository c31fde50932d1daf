"""The rules whose absence pays twice, loses sight of a twin, or waits for ever: each holds, and is missed when it goes.

Every scenario is played twice, with the rule and without it. It gives the violations that were seen: none with
the rule, at least one without.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import attrs
import pytest
from anthropic.lib.credentials import AccessToken
from rig import Rig, held_back

from batchkit import doubt, resolver, suspects
from batchkit.api import Gateway
from batchkit.doubt import Absent, Finding, Known, Reading, Trail
from batchkit.errors import LeaseLost
from batchkit.ids import BatchId, Nonce, RemoteId, RunId
from batchkit.model import Batch, BatchFacts, Head, Place
from batchkit.remote import RemoteBatch
from batchkit.sendguard import SendGuard
from batchkit.states import BatchState, RowState
from batchkit.testing import Answer, Dropped, Handler, Model, Request, Response, simulated_client
from batchkit.trail import Suspect
from batchkit.twins import TwinCollector
from batchkit.watcher import Watcher

Patch = pytest.MonkeyPatch
Scenario = Callable[[], list[str]]


def check(rule: str, scenario: Scenario, without: Callable[[Patch], None]) -> None:
    """Play a scenario with the rule and without it."""
    assert scenario() == [], f"violated with the rule: {rule}"
    with pytest.MonkeyPatch.context() as patch:
        without(patch)
        assert scenario() != [], f"nothing went wrong without the rule: {rule}"


# ---------------------------------------------------------------- a run over the simulator


def creating(request: Request) -> bool:
    return request.method == "POST" and request.path.endswith("/batches")


def listing(request: Request) -> bool:
    return request.method == "GET" and request.path.endswith("/batches")


def whole(request: Request) -> Request:
    body = request.body if isinstance(request.body, bytes) else b"".join(request.body)
    return attrs.evolve(request, body=body)


def lose(rig: Rig, *, arrives: bool) -> list[Request]:
    """Lose the next create's answer; where it does not arrive it is kept for later."""
    kept: list[Request] = []

    def rule(request: Request, api: Handler) -> Response | None:
        if not creating(request) or kept:
            return None
        kept.append(whole(request))
        if arrives:
            api.handle(kept[-1])
        raise Dropped("lost")

    rig.faults.rules.append(rule)
    return kept


def doubtful(rig: Rig) -> Batch:
    batch = rig.send().batch
    assert batch is not None
    assert batch.state is BatchState.DOUBTFUL
    return batch


def paid_twice(rig: Rig) -> list[str]:
    """Move the run to its end; tell of every row that was paid for more than once."""
    rig.finish()
    rig.clock.sleep(600)
    rows = len(rig.rows())
    return [] if rig.billed == rows else [f"{rig.billed} answers paid for {rows} rows"]


# ---------------------------------------------------------------- readings alone

T0 = 1_000_000.0
PLACE = Place(base_url="https://api.example", organization="org", workspace="ws")
BARE = Place(base_url="https://api.example")


def remote(name: str, *, total: int = 7, created_at: float = T0) -> RemoteBatch:
    return RemoteBatch(
        id=RemoteId(name), status="in_progress", counts={"processing": total}, created_at=created_at
    )


HEAD = Head(remote_id=RemoteId("head"), created_at=T0 - 3_600)
DEEP = remote("old", created_at=HEAD.created_at - 601)
BATCH = Batch(
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


def reading(minute: float, **changes: Any) -> Reading:
    base = Reading(
        date=T0 + 60 * minute,
        place=PLACE,
        items=(remote("head", created_at=HEAD.created_at), DEEP),
        complete=False,
    )
    return attrs.evolve(base, **changes)


def not_absent(
    readings: list[Reading], *, batch: Batch = BATCH, known: Known | None = None, apart: float = 60.0
) -> list[str]:
    """Tell if absence was concluded from these readings, which do not allow it."""
    known = known or Known(nonces=frozenset({BATCH.nonce}))
    trail, now = Trail(since=T0), T0
    for one in readings:
        now += apart
        trail = doubt.observe(batch, trail, one, known, now=now)
    concluded = doubt.resolve(batch, trail, known, now=now)
    return ["absent"] if concluded == Absent() else []


def seeing(**changes: Any) -> Callable[[Patch], None]:
    """Take readings for something better than they are."""
    real = doubt._void

    def kinder(batch: Batch, trail: Trail, one: Reading, known: Known) -> str:
        return real(batch, trail, attrs.evolve(one, **changes), known)

    return lambda patch: patch.setattr(doubt, "_void", kinder)


# ---------------------------------------------------------------- before and while sending (4, 5)


def test_head_claim_and_post_use_one_snapshot_of_the_credential() -> None:
    """‡4 However the key rotates, the list that gave the head and the create carry the same one."""

    def scenario() -> list[str]:
        rig = Rig(10)
        tokens: list[str] = []
        rotated: list[int] = []

        def rotating(*, force_refresh: bool = False) -> AccessToken:
            rotated.append(1)
            return AccessToken(token=f"token-{len(rotated)}", expires_at=0)

        rig.faults.rules.append(lambda q, api: tokens.append(q.headers["authorization"]))
        plain = simulated_client(api=rig.faults)
        client = anthropic.Anthropic(
            credentials=rotating, base_url=str(plain.base_url), http_client=plain._client
        )
        rig.gateway = Gateway(client, clock=rig.clock)
        rig.rebuild()
        rig.send()
        return [] if len(set(tokens)) == 1 else [f"{len(set(tokens))} credentials"]

    check("one credential", scenario, lambda p: p.setattr(Gateway, "snapshot", lambda self: self))


def test_the_fence_is_committed_before_the_last_chunk() -> None:
    """‡5 A sender whose lease went to another while it was frozen does not hand over the last chunk."""

    def scenario() -> list[str]:
        rig = Rig(10)
        rig.take()

        def frozen() -> bool:
            rig.clock.sleep(120.0)
            rig.store.acquire(rig.run.id, "other", 60.0)
            return False

        with pytest.raises(LeaseLost):
            rig.submitter.send(rig.lease, rig.run, stop=frozen)
        return ["created by a fenced-off sender" for _ in rig.sim.state()["batches"]]

    def local(guard: SendGuard) -> None:
        assert guard.lease.epoch > 0

    check("the fence", scenario, lambda p: p.setattr(SendGuard, "fence", local))


def test_the_fence_leaves_more_lease_than_the_last_write_takes() -> None:
    """‡5 With less lease than the write timeout the last chunk stays here."""

    def scenario() -> list[str]:
        rig = Rig(10)
        lease = rig.store.acquire(rig.run.id, "mover", 20.0)
        assert lease is not None
        rig.submitter.send(lease, rig.run)
        return ["the last chunk went out on a short lease" for _ in rig.sim.state()["batches"]]

    check("lease left", scenario, lambda p: p.setattr(SendGuard, "fence", lambda self: self._renew()))


# ---------------------------------------------------------------- readings (7, 8)


def test_a_list_requested_before_the_doubt_was_committed_never_counts() -> None:
    """‡7 The list that was read for the intent is no reading of the doubt: the grace begins with the first one after it."""

    def scenario() -> list[str]:
        rig = Rig(10)
        held_back(rig.faults)
        sent = rig.send()
        assert sent.batch is not None
        rig.clock.sleep(3_600.0)  # nobody looks for an hour
        for _ in range(4):
            rig.resolve()
            rig.clock.sleep(61.0)
        state = rig.batch(sent.batch.id).state
        return [] if state is BatchState.DOUBTFUL else [f"{state.value} after four minutes of readings"]

    real = resolver.trail_of

    def begun(batch: Batch, now: float) -> Trail:
        trail = real(batch, now)
        at = trail.since
        return (
            trail
            if trail.dated is not None
            else attrs.evolve(trail, begun=at, dated=at, first=at, last=at, clean=1)
        )

    check("fresh readings", scenario, lambda p: p.setattr(resolver, "trail_of", begun))


def test_an_answer_from_a_cache_is_void() -> None:
    """‡7 An answer with an age proves nothing about now."""
    series = [reading(0), reading(15, cached=True), reading(30)]
    check("no caches", lambda: not_absent(series), seeing(cached=False))


def test_an_answer_older_than_the_one_before_it_is_void() -> None:
    """‡7 Dates only go forward within a series."""
    real = doubt._void
    check(
        "dates in order",
        lambda: not_absent([reading(0), reading(20), reading(10), reading(30)]),
        lambda p: p.setattr(doubt, "_void", lambda b, t, r, k: real(b, attrs.evolve(t, dated=None), r, k)),
    )


def test_the_grace_runs_on_the_servers_clock() -> None:
    """‡7 A store's clock that jumps a day passes no grace."""
    real = doubt.observe
    check(
        "server time",
        lambda: not_absent([reading(0), reading(1), reading(2), reading(3)], apart=30_000.0),
        lambda p: p.setattr(
            doubt,
            "observe",
            lambda b, t, r, k, *, now: real(b, t, attrs.evolve(r, date=now), k, now=now),
        ),
    )


def test_the_grace_runs_from_the_first_clean_reading() -> None:
    """‡7 It is not counted from the claim or the doubt, however long ago they were."""
    real = doubt.resolve

    def from_claim(batch: Batch, trail: Trail, known: Known, *, now: float) -> Any:
        return real(batch, attrs.evolve(trail, first=batch.created_at), known, now=now)

    check(
        "from the first reading",
        lambda: not_absent([reading(40), reading(41), reading(42)]),
        lambda p: p.setattr(doubt, "resolve", from_claim),
    )


@pytest.mark.parametrize("items", [(DEEP,), (DEEP, remote("stranger")), (DEEP, remote("ours elsewhere"))])
def test_place_is_proved_only_by_the_head_or_a_batch_of_that_place(items: tuple[RemoteBatch, ...]) -> None:
    """‡8 Depth, dismissed strangers and own batches of another place prove no place."""
    known = Known(
        nonces=frozenset({BATCH.nonce}),
        claimed=frozenset({RemoteId("ours elsewhere")}),
        strangers=frozenset({RemoteId("stranger")}),
    )
    bare = attrs.evolve(BATCH, place=BARE)
    series = [reading(minute, place=BARE, items=items, complete=True) for minute in (0, 15, 30)]

    def careless(batch: Batch, one: Reading, known: Known) -> bool:
        return bool(one.items)

    check(
        "place",
        lambda: not_absent(series, batch=bare, known=known),
        lambda p: p.setattr(doubt, "_in_place", careless),
    )


# ---------------------------------------------------------------- suspects (9)


def test_a_first_line_is_compared_with_every_nonce_of_the_store() -> None:
    """‡9 A twin that another doubt comes across is not dismissed as a stranger: it is told to its own batch."""

    def scenario() -> list[str]:
        rig = Rig(16, max_rows=8)
        rig.submitter._rng = Same(8)
        kept = lose(rig, arrives=False)
        first = doubtful(rig)
        assert rig.settle_doubt(first.id).state is BatchState.ABSENT
        # Its own watch is blind, so that only the doubt of the second batch can find the twin.
        notes = {name: value for name, value in rig.batch(first.id).notes.items() if name != "watch"}
        facts = BatchFacts(notes=notes)
        rig.store.move_batch(
            rig.take(), first.id, expect=BatchState.ABSENT, to=BatchState.ABSENT, facts=facts
        )
        lose(rig, arrives=False)
        second = doubtful(rig)
        rig.sim.handle(kept[0])
        rig.settle_doubt(second.id)
        rig.resolve()
        late = rig.batch(first.id).state is BatchState.LATE
        return [] if late else ["a paid twin that no receipt will tell of"]

    def own_only(custom_id: str | None, batch: Batch, known: Known) -> Finding:
        found = doubt.owner(custom_id, batch, known)
        return Finding.STRANGER if found is Finding.OTHER else found

    check("every nonce", scenario, lambda p: p.setattr(suspects, "owner", own_only))


class Same:
    """Chance that always gives the same number."""

    def __init__(self, number: int) -> None:
        self._number = number

    def randint(self, low: int, high: int) -> int:
        return self._number

    def random(self) -> float:
        return 0.5


def test_a_batch_is_a_stranger_only_when_its_line_parsed_fully() -> None:
    """‡9 A first line that cannot be read today does not make our own batch a stranger."""

    def scenario() -> list[str]:
        rig = Rig(12)
        lose(rig, arrives=True)
        batch = doubtful(rig)
        bad = [True]

        def garbled(request: Request, api: Handler) -> Response | None:
            return (
                Response(status=200, body=b'{"custom_id"\n') if bad and "/results" in request.path else None
            )

        rig.faults.rules.append(garbled)
        for _ in range(40):
            rig.clock.sleep(60)
            if rig.batch(batch.id).state is BatchState.DOUBTFUL:
                rig.resolve()
        bad.clear()
        return paid_twice(rig)

    def hasty(custom_id: str | None, batch: Batch, known: Known) -> Finding:
        return Finding.STRANGER if custom_id is None else doubt.owner(custom_id, batch, known)

    check("lines parsed fully", scenario, lambda p: p.setattr(suspects, "owner", hasty))


def test_a_suspect_once_seen_stays_open_until_it_is_opened() -> None:
    """‡9 A batch that the list shows once and then hides is looked up by its id."""

    def scenario() -> list[str]:
        rig = Rig(12)
        lose(rig, arrives=True)
        batch = doubtful(rig)
        rig.resolve()

        def hiding(request: Request, api: Handler) -> Response | None:
            empty = b'{"data":[],"has_more":false,"first_id":null,"last_id":null}'
            return attrs.evolve(api.handle(request), body=empty) if listing(request) else None

        rig.faults.rules.append(hiding)
        state = rig.settle_doubt(batch.id).state
        return [] if state is BatchState.ENDED else [f"{state.value}: the rows go out again"]

    real = doubt.observe

    def forgetful(batch: Batch, trail: Trail, one: Reading | None, known: Known, *, now: float) -> Trail:
        seen = real(batch, trail, one, known, now=now)
        listed = {item.id for item in one.items} if one is not None else set()
        return attrs.evolve(seen, suspects={r: s for r, s in seen.suspects.items() if r in listed})

    check("suspects stay", scenario, lambda p: p.setattr(resolver, "observe", forgetful))


def test_a_vanished_suspect_is_held_and_never_clean() -> None:
    """‡9 A suspect that the API no longer knows is a person's; its rows do not go out again."""

    def scenario() -> list[str]:
        rig = Rig(12)
        lose(rig, arrives=True)
        batch = doubtful(rig)
        rig.resolve()
        gone = b'{"type":"error","error":{"type":"not_found_error","message":"?"}}'
        empty = b'{"data":[],"has_more":false,"first_id":null,"last_id":null}'

        def vanishing(request: Request, api: Handler) -> Response | None:
            if listing(request):
                return attrs.evolve(api.handle(request), body=empty)
            return Response(status=404, body=gone) if "/batches/" in request.path else None

        rig.faults.rules.append(vanishing)
        state = rig.settle_doubt(batch.id).state
        return [] if state is BatchState.HELD else [f"{state.value}: the rows go out again"]

    def careless(suspect: Suspect) -> bool:
        return suspect.finding in {Finding.RUNNING, Finding.UNREADABLE}

    check("vanished", scenario, lambda p: p.setattr(Suspect, "open", property(careless)))


# ---------------------------------------------------------------- the grace (10)


@pytest.mark.parametrize(
    "void",
    [{"coherent": False}, {"place": attrs.evolve(PLACE, workspace="other")}, {"items": (remote("new"),)}],
)
def test_every_reading_within_the_grace_is_clean(void: dict[str, Any]) -> None:
    """‡10 One reading that does not count starts the grace anew."""
    real = doubt.observe

    def forgiving(batch: Batch, trail: Trail, one: Reading, known: Known, *, now: float) -> Trail:
        seen = real(batch, trail, one, known, now=now)
        return (
            attrs.evolve(seen, first=trail.first, last=trail.last, clean=trail.clean) if seen.void else seen
        )

    check(
        "every reading",
        lambda: not_absent([reading(0), reading(10), reading(15, **void), reading(20), reading(31)]),
        lambda p: p.setattr(doubt, "observe", forgiving),
    )


def test_absence_takes_three_readings_at_least() -> None:
    """‡10 A first and a last reading leave half an hour in which anything could be seen."""
    real = doubt.resolve

    def two(batch: Batch, trail: Trail, known: Known, *, now: float) -> Any:
        return real(batch, attrs.evolve(trail, clean=trail.clean + 1), known, now=now)

    check(
        "three readings",
        lambda: not_absent([reading(0), reading(31)]),
        lambda p: p.setattr(doubt, "resolve", two),
    )


@pytest.mark.parametrize("minutes", [5, 20])
def test_the_grace_exceeds_the_latest_arrival(minutes: int) -> None:
    """‡10 A create that arrives within the grace is found and paid once; with a shorter grace it is paid twice."""

    def scenario() -> list[str]:
        rig = Rig(12, grace=Grace.seconds)
        kept = lose(rig, arrives=False)
        batch = doubtful(rig)
        until = rig.clock.now() + 60 * minutes
        while rig.clock.now() < until and rig.batch(batch.id).state is BatchState.DOUBTFUL:
            rig.resolve()
            rig.clock.sleep(60)
        rig.send()
        rig.sim.handle(kept[0])
        return paid_twice(rig)

    check("the grace", scenario, lambda p: p.setattr(Grace, "seconds", 30.0 * minutes))


class Grace:
    """How long absence is waited for."""

    seconds = 1_800.0


# ---------------------------------------------------------------- an end to every doubt (11)


def endless(rig: Rig, batch: Batch) -> list[str]:
    until = rig.clock.now() + 30 * 3_600
    while rig.batch(batch.id).state is BatchState.DOUBTFUL and rig.clock.now() < until:
        rig.resolve()
        rig.clock.sleep(1_800)
    state = rig.batch(batch.id).state
    return [] if state is BatchState.HELD else [f"still {state.value} after 30 hours"]


def test_an_unopened_suspect_is_not_waited_for_without_end() -> None:
    """‡11 A suspect that runs past its expiry, or that stays unreadable, is a person's."""

    def scenario() -> list[str]:
        rig = Rig(12)
        lose(rig, arrives=True)
        batch = doubtful(rig)
        rig.faults.rules.append(
            lambda q, api: Response(status=200, body=b"garbage\n") if "/results" in q.path else None
        )
        return endless(rig, batch)

    check("an end", scenario, lambda p: p.setattr(doubt, "stuck", lambda suspect: None))


def test_a_day_without_a_valid_reading_is_a_persons() -> None:
    """‡11 A list that cannot be read does not keep a doubt open for ever."""

    def scenario() -> list[str]:
        rig = Rig(12)
        lose(rig, arrives=True)
        batch = doubtful(rig)
        rig.faults.rules.append(lambda q, api: Response(status=503, body=b"") if listing(q) else None)
        return endless(rig, batch)

    check("a day", scenario, lambda p: p.setattr(doubt, "ATTEMPTS", 10**9))


# ---------------------------------------------------------------- late twins (12)


def late_and_retried(rig: Rig, ill: list[str]) -> Batch:
    """Bring a batch to LATE while its rows are out in a second one, which answers one row badly."""
    kept = lose(rig, arrives=False)
    first = doubtful(rig)
    assert rig.settle_doubt(first.id).state is BatchState.ABSENT
    second = rig.send().batch
    assert second is not None
    ill.append(second.nonce)
    rig.sim.handle(kept[0])
    rig.clock.sleep(26 * 3_600)
    rig.resolve()
    assert rig.batch(first.id).state is BatchState.LATE
    return second


def ill_in(nonces: list[str]) -> Model:
    def model(params: Any, rng: Any) -> Answer:
        text = json.dumps(params["messages"])
        ill = "w0003" in text and any(nonce in text for nonce in nonces)
        return Answer(text="nonsense" if ill else '{"color": "red"}')

    return model


def third_payment(rig: Rig, second: Batch) -> list[str]:
    rig.collector.twins(rig.take(), rig.run)
    rig.end(second.id)
    rig.collect(second.id)
    rig.send()
    rig.clock.sleep(120)
    rig.collector.twins(rig.take(), rig.run)
    rig.send()
    out = rig.tally.in_state(RowState.SUBMITTED)
    return [f"{out} rows are paid for a third time"] if out else []


def test_a_late_twin_is_read_only_when_none_of_its_rows_is_out() -> None:
    """‡12 A twin booked while a retry is open could not serve the row when the retry fails."""

    def scenario() -> list[str]:
        ill: list[str] = []
        rig = Rig(8, model=ill_in(ill))
        return third_payment(rig, late_and_retried(rig, ill))

    real = TwinCollector._members

    class Blind:
        def __init__(self, store: Any) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        def rows(self, ids: Any) -> Any:
            found = self._store.rows(ids)
            return [r._replace(state=RowState.HUMAN) if r.state is RowState.SUBMITTED else r for r in found]

    def hasty(self: Any, *args: Any) -> Any:
        store, self._store = self._store, Blind(self._store)
        try:
            return real(self, *args)
        finally:
            self._store = store

    check("none out", scenario, lambda p: p.setattr(TwinCollector, "_members", hasty))


def test_no_intent_takes_a_row_of_a_late_twin_that_is_not_read() -> None:
    """‡12 Paid answers in hand are used before anything is paid for again."""

    def scenario() -> list[str]:
        ill: list[str] = []
        rig = Rig(8, model=ill_in(ill))
        second = late_and_retried(rig, ill)
        rig.end(second.id)
        rig.collect(second.id)
        rig.send()
        out = rig.tally.in_state(RowState.SUBMITTED)
        return [f"{out} rows are paid for a third time"] if out else []

    check("deferred", scenario, lambda p: p.setattr(Watcher, "deferred", lambda self, run: frozenset()))

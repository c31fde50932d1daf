"""A machine's clock that is set wrong, by a day or a month, either way: nothing is lost, paid twice or waited for.

The server's clock goes on as it should; only what the store calls now jumps.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import attrs
import pytest
from rig import Rig, held_back

from batchkit.clock import LONGEST, to_come
from batchkit.holding import trust_place
from batchkit.ids import BatchId
from batchkit.model import Batch, BatchWhere
from batchkit.polling import HOUR
from batchkit.states import BatchState, RowState
from batchkit.suspects import known_to
from batchkit.testing import Handler, Request, Response, SimulatedClock

DAY = 86_400.0
JUMPS = pytest.mark.parametrize(
    "jump", [DAY, 31 * DAY, -DAY, -31 * DAY], ids=["+day", "+month", "-day", "-month"]
)
NOT_FOUND = json.dumps({"type": "error", "error": {"type": "not_found_error", "message": "?"}}).encode()


class WrongClock(SimulatedClock):
    """A simulator's time, seen by a machine whose own clock is set wrong."""

    wrong = 0.0

    def now(self) -> float:
        return super().now() + self.wrong


def jumping(rig: Rig) -> WrongClock:
    """Give the rig's parts a clock that can be set wrong."""
    clock = WrongClock(rig.sim)
    rig.clock = rig.store._clock = clock
    rig.rebuild()
    return clock


def sent(rig: Rig) -> BatchId:
    batch = rig.send().batch
    assert batch is not None
    return batch.id


def unfound(rig: Rig, tails: tuple[str, ...], while_: Callable[[], bool] = lambda: True) -> None:
    """Answer the reads of these paths as if there were no such thing."""

    def rule(request: Request, api: Handler) -> Response | None:
        wanted = request.method == "GET" and request.path.endswith(tails) and while_()
        return (
            Response(status=404, headers={"content-type": "application/json"}, body=NOT_FOUND)
            if wanted
            else None
        )

    rig.faults.rules.append(rule)


def finished(rig: Rig, within: float) -> None:
    """Move the run on until it ends, by the server's clock within so many seconds."""
    until = rig.sim.now + within
    rig.finish()
    assert rig.sim.now <= until
    assert rig.tally.in_state(RowState.SUCCEEDED) == rig.billed == 6


@JUMPS
def test_a_batch_that_runs_is_asked_after(jump: float) -> None:
    """Whatever was noted as the next look, a running batch is collected within hours of its end."""
    rig = Rig(6)
    clock = jumping(rig)
    sent(rig)
    rig.collector.poll(rig.take(), rig.run)
    clock.wrong = jump
    finished(rig, 3 * HOUR)


@JUMPS
def test_results_that_are_not_found_for_an_hour_are_read_afterwards(jump: float) -> None:
    """Neither the file nor the batch is found for an hour: no row is given up, and nobody waits for the old clock."""
    rig = Rig(6)
    clock = jumping(rig)
    batch = sent(rig)
    rig.end(batch)
    back = rig.sim.now + HOUR
    remote = rig.batch(batch).remote_id
    assert remote is not None
    unfound(rig, ("/results", remote), lambda: rig.sim.now < back)
    rig.collect(batch)
    clock.wrong = jump
    assert rig.collect(batch).batch.state is BatchState.ENDED
    finished(rig, 4 * HOUR)
    assert rig.batch(batch).state is BatchState.COLLECTED


@JUMPS
def test_results_are_gone_after_29_days_of_the_server(jump: float) -> None:
    """Also for a machine whose clock says otherwise, the wait for a file that is gone has an end."""
    rig = Rig(6)
    clock = jumping(rig)
    batch = sent(rig)
    rig.end(batch)
    clock.wrong = jump
    rig.clock.sleep(30 * DAY)
    assert rig.collect(batch).batch.state is BatchState.UNRECOVERABLE


def test_where_nobody_tells_the_time_a_person_decides_what_is_gone() -> None:
    """Without a list or its date, nothing is given up by our own clock: the batch is held, and the file still counts."""
    rig = Rig(6)
    clock = jumping(rig)
    batch = sent(rig)
    rig.end(batch)
    unfound(rig, ("/results", "/batches"))
    assert rig.collect(batch).batch.state is BatchState.ENDED
    clock.wrong = 31 * DAY
    held = rig.collect(batch).batch
    assert (held.state, held.held_from) == (BatchState.HELD, BatchState.ENDED)
    assert held.need is not None
    assert "give-up" in held.need.fix


@JUMPS
def test_an_unknown_batch_is_held_after_a_day_of_the_server(jump: float) -> None:
    """A batch that the API does not know is held after 24 of its hours, not sooner or later for a clock set wrong."""
    rig = Rig(6)
    clock = jumping(rig)
    batch = sent(rig)
    remote = rig.batch(batch).remote_id
    assert remote is not None
    unfound(rig, (remote,))
    start = rig.sim.now
    rig.collector.poll(rig.take(), rig.run)
    clock.wrong = jump
    while rig.batch(batch).state is BatchState.LIVE and rig.sim.now < start + 2 * DAY:
        wake = rig.collector.poll(rig.take(), rig.run)
        rig.clock.sleep(max((wake or 0.0) - rig.clock.now(), 60.0))
    assert rig.batch(batch).state is BatchState.HELD
    assert DAY <= rig.sim.now - start <= DAY + HOUR


@JUMPS
def test_a_full_queue_is_waited_for_no_longer_than_it_asked(jump: float) -> None:
    """A create that was refused for a rate goes out within the hour, whatever the clock says since."""
    rig = Rig(6)
    clock = jumping(rig)
    refusals: list[Request] = []

    def rate(request: Request, api: Handler) -> Response | None:
        if request.method != "POST" or refusals:
            return None
        refusals.append(request)
        body = json.dumps({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}})
        headers = {"content-type": "application/json", "retry-after": "60"}
        return Response(status=429, headers=headers, body=body.encode())

    rig.faults.rules.append(rate)
    assert rig.send().wait_until == pytest.approx(rig.clock.now() + 60.0)
    clock.wrong = jump
    finished(rig, 4 * HOUR)


@JUMPS
def test_a_doubt_passes_its_grace_by_the_servers_clock(jump: float) -> None:
    """A create that never arrived counts as absent after half an hour of the server's, neither sooner nor later."""
    rig = Rig(6)
    clock = jumping(rig)
    kept = held_back(rig.faults)
    batch = sent(rig)
    assert kept
    rig.resolve()
    start = rig.sim.now
    clock.wrong = jump
    while rig.batch(batch).state is BatchState.DOUBTFUL:
        rig.resolve()
        rig.clock.sleep(30.0)
    assert rig.batch(batch).state is BatchState.ABSENT
    assert 0.5 * HOUR <= rig.sim.now - start <= 0.75 * HOUR


@JUMPS
def test_a_doubt_without_a_reading_ends_at_a_person(jump: float) -> None:
    """Where the list cannot be read for a day, somebody is asked: also after the clock was set back a month."""
    rig = Rig(6)
    clock = jumping(rig)
    held_back(rig.faults)
    batch = sent(rig)

    def down(request: Request, api: Handler) -> Response | None:
        return Response(status=500, body=b"{}") if request.path.endswith("/batches") else None

    rig.faults.rules.append(down)
    rig.resolve()
    clock.wrong = jump
    start = rig.sim.now
    while rig.batch(batch).state is BatchState.DOUBTFUL and rig.sim.now < start + 2 * DAY:
        rig.resolve()
        rig.clock.sleep(600.0)
    assert rig.batch(batch).state is BatchState.HELD


@JUMPS
def test_inconsistent_readings_end_at_a_person(jump: float) -> None:
    """Three readings that lack a line are enough also where the clock was set back between them."""
    rig = Rig(6)
    clock = jumping(rig)
    batch = sent(rig)
    rig.end(batch)

    def short(request: Request, api: Handler) -> Response | None:
        if not request.path.endswith("/results"):
            return None
        body = api.handle(request).body
        lines = (body if isinstance(body, bytes) else b"".join(body)).split(b"\n")
        return Response(status=200, body=b"\n".join(lines[:-2]) + b"\n")

    rig.faults.rules.append(short)
    rig.collect(batch)
    clock.wrong = jump
    start = rig.sim.now
    while rig.batch(batch).state is BatchState.ENDED and rig.sim.now < start + DAY:
        wait = rig.collect(batch).wait_until
        rig.clock.sleep(min(max((wait or 0.0) - rig.clock.now(), 60.0), HOUR))
    assert rig.batch(batch).state is BatchState.HELD
    assert rig.sim.now - start < 2 * HOUR


def late_twin(rig: Rig) -> Batch:
    """Let a batch that was declared absent turn up."""
    kept = held_back(rig.faults)
    batch = sent(rig)
    rig.settle_doubt(batch)
    rig.sim.handle(kept[0])
    rig.faults.rules.clear()
    rig.send()
    for _ in range(200):
        rig.resolve()
        if rig.batch(batch).state not in {BatchState.ABSENT, BatchState.DOUBTFUL}:
            return rig.batch(batch)
        rig.clock.sleep(60.0)
    raise AssertionError("the twin was not found")


@pytest.mark.parametrize("jump", [31 * DAY, -31 * DAY], ids=["+month", "-month"])
def test_trust_in_a_place_is_given_for_what_is_known_of_it(jump: float) -> None:
    """A person's word about a place covers the batches that had turned up late by then, whatever the clock said."""
    rig = Rig(40, max_rows=20)
    clock = jumping(rig)
    twin = late_twin(rig)
    clock.wrong = jump
    trust_place(rig.store, twin.place, by="me")
    clock.wrong = 0.0
    assert not known_to(rig.store, twin).late_twin
    others = [b for b in rig.store.batches(BatchWhere()) if b.id != twin.id]
    later = attrs.evolve(others[0], notes={**others[0].notes, "late": rig.sim.now})
    rig.store.batches = lambda where: [twin, later]  # type: ignore[method-assign]
    assert known_to(rig.store, twin).late_twin


@JUMPS
def test_a_late_file_is_gone_after_29_days_of_the_server(jump: float) -> None:
    """A late twin's file that cannot be read for an hour is not given up, whatever our own clock says."""
    rig = Rig(6)
    clock = jumping(rig)
    twin = late_twin(rig)
    unfound(rig, ("/results",))
    clock.wrong = jump
    for _ in range(3):
        rig.collector.twins(rig.take(), rig.run)
        rig.clock.sleep(HOUR)
    assert rig.batch(twin.id).state is BatchState.LATE
    rig.clock.sleep(30 * DAY)
    rig.collector.twins(rig.take(), rig.run)
    assert rig.batch(twin.id).state is BatchState.UNRECOVERABLE


def test_a_look_that_is_further_away_than_any_wait_is_due() -> None:
    """A noted moment counts for an hour at most: beyond that the clock was set back."""
    assert to_come(10.0, 9.0)
    assert not to_come(9.0, 9.0)
    assert to_come(LONGEST, 0.0)
    assert not to_come(LONGEST + 1.0, 0.0)

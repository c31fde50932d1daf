"""What a person may decide about a held batch, and what each decision does to the rows."""

from __future__ import annotations

import math

import attrs
import pytest
from rig import Faulty, Rig, held_back

from batchkit.errors import DoubtHeld, UsageError
from batchkit.holding import accept_missing, adopt, declare_absent, give_up, look_again
from batchkit.ids import BatchId, RemoteId
from batchkit.reasons import Reason
from batchkit.states import BatchState, RowState
from batchkit.testing import Dropped, Handler, Request, Response
from batchkit.testing.faults import JumpyClock
from batchkit.watch import LENGTH, watch_of


def without_list(rig: Rig, *, effect: bool) -> BatchId:
    """Send a batch whose answer is lost to an endpoint without a list; give the batch, held."""

    def rule(request: Request, api: Handler) -> Response | None:
        if request.method == "GET" and request.path.endswith("/batches"):
            return Response(status=404, body=b"{}")
        if request.method == "POST" and request.path.endswith("/batches"):
            if effect:
                api.handle(request)
            else:
                b"".join([request.body] if isinstance(request.body, bytes) else request.body)
            raise Dropped("lost")
        return None

    rig.faults.rules.append(rule)
    sent = rig.send()
    assert sent.batch is not None
    batch = rig.settle_doubt(sent.batch.id)
    assert batch.state is BatchState.HELD
    assert batch.need is not None
    assert batch.need.code == "doubt.no_list"
    return batch.id


def inconsistent(rig: Rig) -> BatchId:
    """Collect a batch whose file always lacks its last line; give the batch, held."""
    faults: Faulty = rig.faults

    def rule(request: Request, api: Handler) -> Response | None:
        if not request.path.endswith("/results"):
            return None
        response = api.handle(request)
        body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        return Response(status=200, body=b"\n".join(body.split(b"\n")[:-2]) + b"\n")

    faults.rules.append(rule)
    batch = rig.send().batch
    assert batch is not None
    rig.end(batch.id)
    while rig.batch(batch.id).state is BatchState.ENDED:
        wait = rig.collect(batch.id).wait_until
        rig.clock.sleep(max((wait or 0.0) - rig.clock.now(), 1.0))
    return batch.id


def test_declared_absent_rows_go_out_again() -> None:
    """A person's word frees the rows; the batch stays reserved and watched for."""
    rig = Rig(10)
    batch = without_list(rig, effect=False)
    reserved = rig.batch(batch).reserved
    with pytest.raises(DoubtHeld, match="grace"):
        declare_absent(rig.store, rig.take(), batch, by="me")
    rig.clock.sleep(3_600)
    moved = declare_absent(rig.store, rig.take(), batch, by="me")
    assert moved.state is BatchState.ABSENT
    assert moved.reserved == reserved
    assert "watch" in moved.notes
    assert rig.tally.in_state(RowState.PENDING) == 10


def test_what_was_declared_absent_without_a_reading_is_watched_after_the_clock_was_set_back() -> None:
    """No reading told the server's time and the clock was set back by two days: the watch still lasts its 25 hours."""
    rig = Rig(10)
    rig.store._clock = clock = JumpyClock(rig.clock)
    batch = without_list(rig, effect=False)
    rig.clock.sleep(3_600)
    clock.jump(-172_800)
    moved = declare_absent(rig.store, rig.take(), batch, by="me", force=True)
    watch = watch_of(moved)
    assert watch is not None
    assert watch.until >= moved.deadline + LENGTH


@pytest.mark.parametrize("answer", ["unavailable", "cached"])
def test_the_watch_begins_with_the_decision_not_with_an_old_reading(answer: str) -> None:
    """Two readings, then a day without one that counts: what is declared absent now is watched for 25 hours from now."""
    rig = Rig(10)
    held_back(rig.faults)
    sent = rig.send()
    assert sent.batch is not None
    for _ in range(2):
        rig.resolve()
        rig.clock.sleep(61.0)

    def rule(request: Request, api: Handler) -> Response | None:
        if request.method != "GET" or not request.path.endswith("/batches"):
            return None
        if answer == "unavailable":
            return Response(status=503, body=b"{}", headers={"x-should-retry": "false"})
        seen = api.handle(request)
        return attrs.evolve(seen, headers={**seen.headers, "age": "60"})

    rig.faults.rules.append(rule)
    rig.clock.sleep(86_400.0)
    assert rig.settle_doubt(sent.batch.id).state is BatchState.HELD
    moved = declare_absent(rig.store, rig.take(), sent.batch.id, by="me")
    watch = watch_of(moved)
    assert watch is not None
    assert watch.until >= rig.clock.now() + LENGTH


def test_an_open_suspect_is_shown_before_absence_is_declared() -> None:
    """Absence against a suspect nobody opened takes force, and the message names it."""
    rig = Rig(10, grace=math.inf)
    batch = without_list(rig, effect=True)
    remote = rig.sim.state()["batches"][0]["id"]
    adopt(rig.store, rig.take(), batch, remote)
    rig.faults.rules.insert(0, lambda q, api: Response(status=404, body=b"{}") if remote in q.path else None)
    assert rig.settle_doubt(batch).state is BatchState.HELD
    rig.clock.sleep(3_600)
    with pytest.raises(DoubtHeld, match=remote):
        declare_absent(rig.store, rig.take(), batch, by="me")
    assert declare_absent(rig.store, rig.take(), batch, by="me", force=True).state is BatchState.ABSENT


def test_an_adopted_batch_is_still_proved_by_its_first_line() -> None:
    """The id a person names is opened; ours is collected, a stranger's is not."""
    rig = Rig(10)
    batch = without_list(rig, effect=True)
    remote = RemoteId(rig.sim.state()["batches"][0]["id"])
    rig.clock.sleep(200.0)
    assert adopt(rig.store, rig.take(), batch, remote).state is BatchState.DOUBTFUL
    rig.faults.rules.pop()
    assert rig.settle_doubt(batch).state is BatchState.ENDED
    assert rig.collect(batch).complete
    assert rig.billed == 10


def test_looking_again_starts_the_patience_anew() -> None:
    """A doubt held for want of a list is settled by the list once there is one."""
    rig = Rig(10)
    batch = without_list(rig, effect=True)
    rig.faults.rules.pop()
    assert look_again(rig.store, rig.take(), batch).state is BatchState.DOUBTFUL
    assert rig.settle_doubt(batch).state is BatchState.ENDED


def test_looking_again_reads_the_file_three_times_more() -> None:
    """A file that was held for its differences is read again, and collected once it agrees."""
    rig = Rig(6)
    batch = inconsistent(rig)
    rig.faults.rules.pop()
    assert look_again(rig.store, rig.take(), batch).state is BatchState.ENDED
    assert rig.collect(batch).complete


def test_accepted_missing_lines_close_their_rows() -> None:
    """The rows without a line become ``batch.missing_result``; the others keep what they have."""
    rig = Rig(6)
    batch = inconsistent(rig)
    moved = accept_missing(rig.store, rig.take(), batch, rig.builder, by="me")
    assert moved.state is BatchState.COLLECTED
    assert moved.notes["declared_missing"] == 1
    assert rig.tally.counts == {
        (RowState.SUCCEEDED, None, 0): 5,
        (RowState.QUARANTINED, Reason.BATCH_MISSING_RESULT, 0): 1,
    }


def test_giving_up_closes_every_row_of_the_batch() -> None:
    """Rows whose results nobody will read become ``batch.unrecoverable``."""
    rig = Rig(6)
    batch = inconsistent(rig)
    assert give_up(rig.store, rig.take(), batch, rig.builder, by="me").state is BatchState.UNRECOVERABLE
    assert rig.tally.in_state(RowState.SUBMITTED) == 0
    assert rig.tally.counts[RowState.QUARANTINED, Reason.BATCH_UNRECOVERABLE, 0] == 1


def test_decisions_are_for_batches_that_are_held_for_them() -> None:
    """A batch that is not held, or held for another reason, refuses the decision and stays as it is."""
    rig = Rig(6)
    batch = inconsistent(rig)
    with pytest.raises(UsageError, match="held from ended"):
        declare_absent(rig.store, rig.take(), batch, by="me")
    with pytest.raises(UsageError, match="no batch 99"):
        look_again(rig.store, rig.take(), BatchId(99))
    look_again(rig.store, rig.take(), batch)
    with pytest.raises(UsageError, match="not held"):
        look_again(rig.store, rig.take(), batch)


def overdue(rig: Rig) -> BatchId:
    """Send a batch that still runs an hour past its expiry; give it, held."""

    def rule(request: Request, api: Handler) -> Response | None:
        if request.method != "GET" or "/batches" not in request.path or request.path.endswith("/results"):
            return None
        response = api.handle(request)
        body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        return Response(status=200, headers=response.headers, body=body.replace(b'"ended"', b'"in_progress"'))

    rig.faults.rules.append(rule)
    batch = rig.send().batch
    assert batch is not None
    rig.clock.sleep(26 * 3_600)
    rig.collector.poll(rig.take(), rig.run)
    assert (rig.batch(batch.id).state, rig.batch(batch.id).held_from) == (BatchState.HELD, BatchState.LIVE)
    return batch.id


def test_a_batch_held_while_it_ran_is_polled_again_when_asked() -> None:
    """Looking again at an overdue batch puts it back among the running ones, and it is collected once it ended."""
    rig = Rig(6)
    batch = overdue(rig)
    assert look_again(rig.store, rig.take(), batch).state is BatchState.LIVE
    rig.faults.rules.clear()
    assert rig.end(batch).state is BatchState.ENDED
    assert rig.collect(batch).complete


def test_a_batch_held_while_it_ran_can_be_given_up() -> None:
    """Giving up an overdue batch closes its rows as unrecoverable."""
    rig = Rig(6)
    batch = overdue(rig)
    assert give_up(rig.store, rig.take(), batch, rig.builder, by="me").state is BatchState.UNRECOVERABLE
    assert rig.tally.counts == {(RowState.QUARANTINED, Reason.BATCH_UNRECOVERABLE, 0): 6}

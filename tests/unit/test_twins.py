"""Late twins: a batch that turns up after it counted as never created is used, booked, and never paid a third time."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest
from rig import Rig, answers

from batchkit.api import Gateway
from batchkit.bill import Bill
from batchkit.equations import Equations, count
from batchkit.holding import accept_missing, declare_absent, give_up, look_again, trust_place
from batchkit.model import Batch, BatchFacts, BatchWhere, Settled
from batchkit.reasons import Reason
from batchkit.receipt import issue_receipt
from batchkit.states import BatchState, RowEvent, RowState
from batchkit.testing import Answer, Dropped, Handler, Model, Request, Response, simulated_client
from batchkit.watch import twins_of, watch_of
from batchkit.watcher import watched_until

JSON = {"content-type": "application/json"}
REFUSED = b'{"type":"error","error":{"type":"invalid_request_error","message":"no"}}'


class Same:
    """Chance that always gives the same number."""

    def __init__(self, number: int) -> None:
        self._number = number

    def randint(self, low: int, high: int) -> int:
        return self._number

    def random(self) -> float:
        return 0.5


def creating(request: Request) -> bool:
    return request.method == "POST" and request.path.endswith("/batches")


def hold_back(rig: Rig, *, answer: Response | None = None, times: int = 1) -> list[Request]:
    """Keep the next creates from arriving, and lose or give their answers; they are kept for later."""
    kept: list[Request] = []

    def rule(request: Request, api: Handler) -> Response | None:
        if not creating(request) or len(kept) >= times:
            return None
        body = request.body if isinstance(request.body, bytes) else b"".join(request.body)
        kept.append(attrs.evolve(request, body=body))
        if answer is None:
            raise Dropped("held back")
        return answer

    rig.faults.rules.append(rule)
    return kept


def arrive(rig: Rig, kept: list[Request]) -> str:
    """Let a create that was held back arrive now; give its remote id."""
    response = rig.sim.handle(kept[-1])
    assert response.status == 200
    return str(response.json()["id"])


def late(rig: Rig, *, again: bool = True) -> tuple[Batch, str]:
    """Send a batch that counts as absent, send its rows again if asked, and let the first one arrive."""
    kept = hold_back(rig)
    sent = rig.send().batch
    assert sent is not None
    assert rig.settle_doubt(sent.id).state is BatchState.ABSENT
    if again:
        second = rig.send().batch
        assert second is not None
        rig.end(second.id)
        rig.collect(second.id)
    return rig.batch(sent.id), arrive(rig, kept)


def after_a_day(rig: Rig) -> None:
    rig.clock.sleep(26 * 3_600)
    rig.resolve()


def equations(rig: Rig) -> Equations:
    run = rig.store.runs(name="run")[0]
    return count(rig.store, run, tally=rig.tally)


def agrees(rig: Rig) -> Equations:
    """Assert that our books and the provider's bill are the same to the nano-dollar, and give the equations."""
    sums = equations(rig)
    assert sums.hold, sums
    batches = rig.store.batches(BatchWhere())
    assert sums.money.usage == sum(batch.spent for batch in batches)
    bill = Bill.of(rig.store, rig.store.runs(name="run")[0])
    assert sum(line.answers for line in bill.lines) == rig.billed
    assert sum(line.cost for line in bill.lines) == sums.money.usage
    assert sum(line.usage.input for line in bill.lines) == sum(
        model["input_tokens"] for model in rig.sim.bill().models.values()
    )
    return sums


def test_a_late_twin_is_found_and_booked_as_duplicate_spend() -> None:
    """The batch that arrived after the grace ends as LATE, then COLLECTED: every line of it is duplicate spend."""
    rig = Rig(20)
    batch, remote = late(rig)
    after_a_day(rig)
    found = rig.batch(batch.id)
    assert (found.state, found.remote_id) == (BatchState.LATE, remote)
    sums = equations(rig)
    assert sums.submissions.holds
    assert sums.submissions.in_flight == 20
    booked, wake = rig.collector.twins(rig.take(), rig.run)
    assert (booked, wake) == (True, None)
    done = rig.batch(batch.id)
    assert (done.state, done.reserved) == (BatchState.COLLECTED, 0)
    assert rig.billed == 40
    assert agrees(rig).money.duplicate == done.spent > 0
    assert rig.tally.in_state(RowState.SUCCEEDED) == 20


def test_rows_that_wait_take_the_late_answer() -> None:
    """A pending row whose twin line is valid is staged by it, is not sent again, and nothing is paid twice."""
    rig = Rig(20)
    batch, _ = late(rig, again=False)
    rig.clock.sleep(200)
    assert rig.send().batch is None  # the list read for the intent shows the suspect: its rows wait
    rig.resolve()
    assert rig.batch(batch.id).state is BatchState.LATE
    assert rig.send().batch is None
    assert rig.collector.twins(rig.take(), rig.run)[0]
    assert rig.tally.in_state(RowState.SUCCEEDED) == 20
    assert all((row.tries, row.answers) == (1, 1) for row in rig.rows())
    assert (rig.faults.posts, rig.billed) == (1, 20)
    assert agrees(rig).money.duplicate == 0


def test_an_invalid_late_line_leaves_its_row_to_be_sent() -> None:
    """What a pending row cannot use is duplicate spend, and the row goes out again."""
    rig = Rig(6, model=answers({"w0002": Answer(text="nonsense")}))
    late(rig, again=False)
    rig.clock.sleep(200)
    rig.send()
    rig.resolve()
    rig.collector.twins(rig.take(), rig.run)
    assert rig.tally.in_state(RowState.SUCCEEDED) == 5
    assert rig.tally.in_state(RowState.PENDING) == 1
    assert rig.send().rows == 1


def test_a_paid_answer_for_a_canceled_row_is_unused_spend() -> None:
    """Rows that were canceled before their twin arrived stay canceled; what it cost is unused, not duplicate."""
    rig = Rig(5)
    batch, _ = late(rig, again=False)
    rows = [
        Settled(row.id, RowEvent.RUN_CANCELED, Reason.RUN_CANCELED, row.tier, row.tries, row.resends)
        for row in rig.rows()
    ]
    rig.store.settle(rig.take(), None, rows)
    after_a_day(rig)
    rig.collector.twins(rig.take(), rig.run)
    sums = agrees(rig)
    assert (sums.money.unused, sums.money.duplicate) == (rig.batch(batch.id).spent, 0)
    assert sums.money.unused > 0
    assert rig.tally.in_state(RowState.CANCELED) == 5


def test_a_twin_is_not_read_while_a_row_of_it_is_out() -> None:
    """While its rows run in another batch the twin waits, so that a failed retry can still take its answer."""
    ill: list[str] = []
    rig = Rig(8, model=ill_in(ill))
    kept = hold_back(rig)
    first = rig.send().batch
    assert first is not None
    rig.settle_doubt(first.id)
    second = rig.send().batch
    assert second is not None
    ill.append(second.nonce)
    arrive(rig, kept)
    rig.clock.sleep(26 * 3_600)
    rig.resolve()
    assert rig.batch(first.id).state is BatchState.LATE
    booked, wake = rig.collector.twins(rig.take(), rig.run)
    assert not booked
    assert wake is not None
    rig.end(second.id)
    rig.collect(second.id)
    assert rig.tally.in_state(RowState.PENDING) == 1
    assert rig.send().batch is None  # its answer is at hand, so it is not paid for a third time
    rig.clock.sleep(wake - rig.clock.now())
    assert rig.collector.twins(rig.take(), rig.run)[0]
    assert rig.tally.in_state(RowState.SUCCEEDED) == 8
    assert agrees(rig).money.duplicate > 0
    assert rig.faults.posts == 2


def ill_in(nonces: list[str]) -> Model:
    """Answer one row badly in the batches of these nonces, which stand in the prompts too."""
    well, ill = answers({}), answers({"w0003": Answer(text="nonsense")})

    def model(params: Mapping[str, Any], rng: random.Random) -> Answer:
        text = json.dumps(params["messages"])
        return (ill if any(nonce in text for nonce in nonces) else well)(params, rng)

    return model


def test_a_refused_create_that_exists_after_all_is_late() -> None:
    """A proxy that sent the body twice leaves a twin beside a refusal: it is found, and its rows take it."""
    rig = Rig(9)
    kept = hold_back(rig, answer=Response(status=400, headers=JSON, body=REFUSED))
    refused = rig.send().batch
    assert refused is not None
    assert refused.state is BatchState.REJECTED
    arrive(rig, kept)
    assert rig.send().batch is None
    rig.clock.sleep(200)
    rig.resolve()
    assert rig.batch(refused.id).state is BatchState.LATE
    rig.collector.twins(rig.take(), rig.run)
    assert rig.batch(refused.id).state is BatchState.COLLECTED
    assert (rig.tally.in_state(RowState.SUCCEEDED), rig.billed) == (9, 9)
    agrees(rig)


def replayed(rig: Rig) -> tuple[Batch, str]:
    """Send a batch through a proxy that sends it twice; give it, live, and the second remote id."""
    twice: list[str] = []

    def rule(request: Request, api: Handler) -> Response | None:
        if not creating(request) or twice:
            return None
        body = request.body if isinstance(request.body, bytes) else b"".join(request.body)
        again = attrs.evolve(request, body=body)
        response = api.handle(again)
        twice.append(str(api.handle(again).json()["id"]))
        return response

    rig.faults.rules.append(rule)
    batch = rig.send().batch
    assert batch is not None
    assert batch.state is BatchState.LIVE
    return batch, twice[0]


def test_a_twin_of_an_acknowledged_batch_is_kept_on_it_and_booked() -> None:
    """A second remote batch of an acknowledged create is read beside it; all of it is duplicate spend."""
    rig = Rig(30, max_rows=12)
    batch, remote = replayed(rig)
    while rig.send().batch is not None:
        pass
    for one in rig.batches:
        rig.end(one.id)
        rig.collect(one.id)
    rig.clock.sleep(200)
    rig.resolve()
    assert [twin.remote_id for twin in twins_of(rig.batch(batch.id))] == [remote]
    assert rig.collector.twins(rig.take(), rig.run)[0]
    (twin,) = twins_of(rig.batch(batch.id))
    assert (twin.lines, twin.applied) == (batch.count, 0)
    assert rig.billed == 30 + batch.count
    assert agrees(rig).money.duplicate == twin.cost > 0
    assert rig.batch(batch.id).state is BatchState.COLLECTED


def test_a_twin_of_an_adopted_batch_is_booked_too() -> None:
    """Of two batches that carry the nonce of a doubt one is adopted, and the other is duplicate spend."""
    rig = Rig(10)
    rig.faults.rules.append(lambda q, api: lose_twice(q, api) if creating(q) else None)
    sent = rig.send().batch
    assert sent is not None
    assert rig.settle_doubt(sent.id).state is BatchState.ENDED
    rig.faults.rules.clear()
    rig.collect(sent.id)
    rig.clock.sleep(200)
    rig.resolve()
    rig.collector.twins(rig.take(), rig.run)
    assert rig.billed == 20
    assert agrees(rig).money.duplicate > 0


def lose_twice(request: Request, api: Handler) -> Response | None:
    body = request.body if isinstance(request.body, bytes) else b"".join(request.body)
    for _ in range(2):
        api.handle(attrs.evolve(request, body=body))
    raise Dropped("both answers are lost")


def cut_results(rig: Rig, remote: str) -> None:
    """Give the result file of one remote batch without its last line."""

    def rule(request: Request, api: Handler) -> Response | None:
        if not request.path.endswith(f"{remote}/results"):
            return None
        response = api.handle(request)
        body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        return Response(status=200, body=b"\n".join(body.split(b"\n")[:-2]) + b"\n")

    rig.faults.rules.append(rule)


def held_late(rig: Rig) -> Batch:
    batch, remote = late(rig)
    after_a_day(rig)
    cut_results(rig, remote)
    for _ in range(20):
        if rig.batch(batch.id).state is BatchState.HELD:
            break
        rig.collector.twins(rig.take(), rig.run)
        rig.clock.sleep(601)
    held = rig.batch(batch.id)
    assert (held.state, held.held_from) == (BatchState.HELD, BatchState.LATE)
    assert held.need is not None
    assert equations(rig).submissions.holds
    return held


def test_a_late_file_that_never_agrees_is_a_persons() -> None:
    """Three complete readings that disagree hold the batch; accepting books what was there, and the sums hold."""
    rig = Rig(7)
    held = held_late(rig)
    assert accept_missing(rig.store, rig.take(), held.id, rig.builder, by="me").state is BatchState.COLLECTED
    sums = equations(rig)
    assert sums.hold
    assert sums.submissions.missing == 1


def test_a_held_late_batch_is_read_again_when_asked() -> None:
    """Looking again gives it three more readings, and a file that agrees by then is booked."""
    rig = Rig(7)
    held = held_late(rig)
    rig.faults.rules.pop()
    assert look_again(rig.store, rig.take(), held.id).state is BatchState.LATE
    rig.clock.sleep(3_600)
    rig.collector.twins(rig.take(), rig.run)
    assert rig.batch(held.id).state is BatchState.COLLECTED
    agrees(rig)


def test_a_late_batch_can_be_given_up() -> None:
    """What it cost stays unknown, its lines are declared missing, and no row is touched."""
    rig = Rig(7)
    held = held_late(rig)
    assert give_up(rig.store, rig.take(), held.id, rig.builder, by="me").state is BatchState.UNRECOVERABLE
    sums = equations(rig)
    assert sums.hold
    assert sums.submissions.missing == 7
    assert rig.tally.in_state(RowState.SUCCEEDED) == 7


def test_a_late_file_that_is_gone_is_unrecoverable() -> None:
    """29 days after it was found a file that cannot be read is given up, and the sums hold."""
    rig = Rig(7)
    batch, remote = late(rig)
    after_a_day(rig)
    gone = b'{"type":"error","error":{"type":"not_found_error","message":"gone"}}'
    rig.faults.rules.append(
        lambda q, api: Response(status=404, body=gone) if q.path.endswith(f"{remote}/results") else None
    )
    assert rig.collector.twins(rig.take(), rig.run)[1] is not None
    rig.clock.sleep(30 * 86_400)
    rig.collector.twins(rig.take(), rig.run)
    assert rig.batch(batch.id).state is BatchState.UNRECOVERABLE
    assert equations(rig).hold


def test_a_broken_reading_of_a_twin_counts_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows settled before the stream broke are not booked as duplicates by the next reading."""
    monkeypatch.setattr("batchkit.reading.PAGE", 4)
    rig = Rig(10)
    batch, remote = late(rig, again=False)
    rig.clock.sleep(200)
    rig.send()
    rig.resolve()
    broken = [True]

    def rule(request: Request, api: Handler) -> Response | None:
        if not broken or not request.path.endswith(f"{remote}/results"):
            return None
        broken.clear()
        response = api.handle(request)
        body = response.body if isinstance(response.body, bytes) else b"".join(response.body)

        def chunks() -> Iterator[bytes]:
            yield from body.splitlines(keepends=True)[:6]
            raise Dropped("cut")

        return attrs.evolve(response, body=chunks())

    rig.faults.rules.append(rule)
    booked, wake = rig.collector.twins(rig.take(), rig.run)
    assert not booked
    assert wake is not None
    assert rig.tally.in_state(RowState.SUCCEEDED) >= 4
    rig.clock.sleep(wake - rig.clock.now())
    assert rig.collector.twins(rig.take(), rig.run)[0]
    assert rig.tally.in_state(RowState.SUCCEEDED) == 10
    assert agrees(rig).money.duplicate == 0
    assert rig.batch(batch.id).lines == 10


def test_after_a_late_twin_absence_is_a_persons_until_trusted_again() -> None:
    """Also once the twin is booked, the next doubt in that place is held; a person's word ends that."""
    rig = Rig(40, max_rows=8)
    batch, _ = late(rig)
    after_a_day(rig)
    rig.collector.twins(rig.take(), rig.run)
    for trusted in (False, True):
        if trusted:
            trust_place(rig.store, batch.place, by="me")
        hold_back(rig)
        sent = rig.send().batch
        assert sent is not None
        settled = rig.settle_doubt(sent.id)
        assert settled.state is (BatchState.ABSENT if trusted else BatchState.HELD)
        if not trusted:
            assert settled.need is not None
            assert settled.need.code == "doubt.twin"
            declare_absent(rig.store, rig.take(), sent.id, by="me", force=True)


def test_an_absence_that_was_never_proved_stays_inconclusive() -> None:
    """Without a clean reading after the day, the receipt says how much the batch may still cost; after it, nothing."""
    rig = Rig(6)
    hold_back(rig)
    sent = rig.send().batch
    assert sent is not None
    absent = rig.settle_doubt(sent.id)
    (watch,) = issue_receipt(rig.store, rig.run).content["watches"]
    assert watch["up_to_nano_usd"] == absent.reserved > 0
    down = [True]
    rig.faults.rules.append(
        lambda q, api: Response(status=503, body=b"") if down and q.method == "GET" else None
    )
    rig.clock.sleep(30 * 3_600)
    rig.resolve()
    assert issue_receipt(rig.store, rig.run).content["watches"] != []
    down.clear()
    rig.clock.sleep(3_600)
    rig.resolve()
    assert issue_receipt(rig.store, rig.run).content["watches"] == []
    assert rig.batch(sent.id).reserved == 0


def test_a_suspect_that_vanished_does_not_keep_a_watch_open_for_ever() -> None:
    """Deleted before anybody could open it, it may have been ours: the watch ends, what it may cost stays reserved."""
    rig = Rig(6)
    hold_back(rig)
    sent = rig.send().batch
    assert sent is not None
    absent = rig.settle_doubt(sent.id)
    key = {"x-api-key": "simulated", "anthropic-version": "2023-06-01"}
    stranger = rig.sim.stranger(6, key)
    assert rig.send().batch is None
    path = f"/v1/messages/batches/{stranger}"
    rig.sim.handle(Request(method="POST", path=f"{path}/cancel", headers=key))
    rig.clock.sleep(600)
    assert rig.sim.handle(Request(method="DELETE", path=path, headers=key)).status == 200
    for _ in range(60):
        rig.clock.sleep(3_600)
        rig.resolve()
    watch = watch_of(rig.batch(sent.id))
    assert watch is not None
    assert not watch.running
    assert watched_until(rig.batches) is None
    (told,) = issue_receipt(rig.store, rig.run).content["watches"]
    assert told["up_to_nano_usd"] == rig.batch(sent.id).reserved == absent.reserved > 0
    assert rig.finish().open == 0


def in_workspace(rig: Rig, key: str) -> None:
    """Go on with another key, as a process does that is started after a rotation."""
    plain = simulated_client(api=rig.faults)
    rig.gateway = Gateway(plain.with_options(api_key=key), clock=rig.clock)
    rig.rebuild()


def test_a_suspect_that_a_key_of_another_workspace_does_not_find_has_not_vanished() -> None:
    """A key that opens another workspace gets a 404 for every suspect: rows go on waiting until one of ours is asked."""
    rig = Rig(6, workspaces={"simulated": "ws_one", "other": "ws_two"})
    hold_back(rig)
    sent = rig.send().batch
    assert sent is not None
    rig.settle_doubt(sent.id)
    rig.sim.stranger(6, {"x-api-key": "simulated", "anthropic-version": "2023-06-01"})
    assert rig.send().batch is None
    in_workspace(rig, "other")
    for _ in range(4):
        rig.clock.sleep(3_600)
        rig.resolve()
    in_workspace(rig, "simulated")
    assert rig.send().batch is None
    rig.clock.sleep(60)
    rig.resolve()
    assert rig.send().rows == 6


def test_a_look_from_another_workspace_leaves_the_watch_to_others() -> None:
    """A process with a key of another workspace looks again in an hour, and keeps nobody else from looking at once."""
    rig = Rig(6, workspaces={"simulated": "ws_one", "other": "ws_two"})
    hold_back(rig)
    sent = rig.send().batch
    assert sent is not None
    rig.settle_doubt(sent.id)
    rig.clock.sleep(30 * 3_600)
    in_workspace(rig, "other")
    wake = rig.resolve()
    assert wake == rig.clock.now() + 3_600
    seen = len(rig.faults.seen)
    assert rig.resolve() == wake
    assert len(rig.faults.seen) == seen
    in_workspace(rig, "simulated")
    rig.resolve()
    watch = watch_of(rig.batch(sent.id))
    assert watch is not None
    assert not watch.running


def test_a_batch_of_ours_that_another_doubt_opens_is_told_to_its_own() -> None:
    """A suspect that carries the nonce of another batch of the store is booked there, and proves nothing here."""
    rig = Rig(16, max_rows=8)
    kept = hold_back(rig)
    first = rig.send().batch
    assert first is not None
    rig.settle_doubt(first.id)
    # The watch of the first is blinded, so that only the doubt of the second can come across its twin.
    notes = {name: value for name, value in rig.batch(first.id).notes.items() if name != "watch"}
    rig.store.move_batch(
        rig.take(), first.id, expect=BatchState.ABSENT, to=BatchState.ABSENT, facts=BatchFacts(notes=notes)
    )
    lost = hold_back(rig)
    rig.submitter._limits = attrs.evolve(rig.submitter._limits, max_rows=first.count)
    rig.submitter._rng = Same(first.count)
    second = rig.send().batch
    assert second is not None
    assert (second.count, len(lost)) == (first.count, 1)
    arrive(rig, kept)
    assert rig.settle_doubt(second.id).state in {BatchState.ABSENT, BatchState.HELD}
    rig.resolve()
    assert rig.batch(first.id).state is BatchState.LATE

"""Sending: an intent, a claim, one POST, and a record that says what is known."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from rig import Rig, answers

from batchkit.api import Gateway
from batchkit.errors import LeaseLost, StoreError, UsageError
from batchkit.ids import BatchId
from batchkit.model import BatchFacts, DocKind
from batchkit.modelcheck import OVERRULED
from batchkit.reasons import Reason
from batchkit.resolver import trail_of
from batchkit.states import BatchState, RowState
from batchkit.testing import Answer, Dropped, Handler, Request, Response, simulated_client


def creating(request: Request) -> bool:
    return request.method == "POST" and request.path.endswith("/batches")


def error(status: int, kind: str, message: str = "no", **more: Any) -> Response:
    body = {"type": "error", "error": {"type": kind, "message": message, **more}}
    headers = {"content-type": "application/json"}
    return Response(status=status, headers=headers, body=json.dumps(body).encode())


def refuse_creates(rig: Rig, *responses: Response) -> None:
    """Answer the next creates so, before the simulator sees them."""
    left = list(responses)

    def rule(request: Request, api: Handler) -> Response | None:
        if not creating(request) or not left:
            return None
        for _ in request.body if not isinstance(request.body, bytes) else ():
            pass
        return left.pop(0)

    rig.faults.rules.append(rule)


def lose_answer(rig: Rig, times: int = 1) -> None:
    """Let the next creates take effect and lose their answers."""
    left = [None] * times

    def rule(request: Request, api: Handler) -> Response | None:
        if creating(request) and left:
            left.pop()
            api.handle(request)
            raise Dropped("the answer is lost")
        return None

    rig.faults.rules.append(rule)


def test_a_batch_goes_out_live() -> None:
    """The intent's size is the body's, the remote id is recorded, and the rows wait in the batch."""
    rig = Rig(10)
    sent = rig.send()
    assert sent.batch is not None
    batch = rig.batch(sent.batch.id)
    assert (batch.state, batch.count, sent.rows) == (BatchState.LIVE, 10, 10)
    assert batch.remote_id == rig.sim.state()["batches"][0]["id"]
    assert batch.expires_at == pytest.approx(rig.clock.now() + 86_400, abs=2)
    assert batch.place.workspace == "wrkspc_01simulated"
    assert rig.tally.in_state(RowState.SUBMITTED) == 10


def test_all_rows_go_out_in_batches_of_the_cap() -> None:
    """Every row is in exactly one batch, no batch is above the cap, and all but the last have 80 % of it."""
    rig = Rig(470, max_rows=100)
    while rig.send().batch is not None:
        pass
    counts = [batch.count for batch in rig.batches]
    assert sum(counts) == 470
    assert all(80 <= count <= 100 for count in counts[:-1])
    assert len(set(counts[:-1])) == len(counts) - 1
    members = [row for batch in rig.batches for row in rig.store.members(batch.id).rows]
    assert sorted(members) == [row.id for row in rig.rows()]


def test_the_intent_carries_the_head_of_the_list() -> None:
    """The newest remote batch and its server time are in the intent; none where the list was empty."""
    rig = Rig(250, max_rows=100)
    first, second = rig.send().batch, rig.send().batch
    assert first is not None
    assert second is not None
    assert first.head is None
    assert second.head is not None
    assert second.head.remote_id == first.remote_id
    assert second.head.created_at == first.notes["remote_created_at"]


def test_the_reservation_is_the_worst_case_and_is_released_by_a_refusal() -> None:
    """A refused create costs nothing, so nothing stays reserved and the rows are free."""
    rig = Rig(10)
    refuse_creates(rig, error(400, "invalid_request_error", "custom_id"))
    sent = rig.send()
    assert sent.batch is not None
    assert (sent.batch.state, sent.batch.reserved) == (BatchState.REJECTED, 0)
    assert rig.tally.in_state(RowState.PENDING) == 10
    again = rig.send().batch
    assert again is not None
    assert again.reserved > 10 * 300 * 2_500


def test_a_cap_is_checked_before_anything_is_sent() -> None:
    """A batch that does not fit under the cap is not sent, and the need says what is missing."""
    rig = Rig(10)
    sent = rig.send(cap=1_000)
    assert sent.batch is None
    assert sent.need is not None
    assert (sent.need.who, sent.need.code) == ("money", "budget")
    assert rig.faults.posts == 0
    assert rig.tally.in_state(RowState.PENDING) == 10


def test_a_cap_that_running_batches_hold_is_waited_for() -> None:
    """Where a running batch's reservation is all that is in the way, nobody is asked for money."""
    rig = Rig(200, max_rows=100)
    first = rig.send().batch
    assert first is not None
    sent = rig.send(cap=first.reserved + 1)
    assert sent.batch is None
    assert sent.need is None
    assert "collected" in sent.why


@pytest.mark.parametrize(
    ("response", "who"),
    [
        (error(401, "authentication_error"), "person"),
        (error(403, "permission_error"), "person"),
        (error(404, "not_found_error"), "person"),
        (error(422, "invalid_request_error"), "person"),
        (error(400, "invalid_request_error", "You have reached your specified API usage limits."), "money"),
        (error(402, "billing_error"), "money"),
        (error(429, "rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}), "money"),
    ],
)
def test_what_only_somebody_can_mend_is_a_need(response: Response, who: str) -> None:
    """A refusal that repeats itself comes back as a need, with the API's words, and no attempt is used."""
    rig = Rig(10)
    refuse_creates(rig, response)
    sent = rig.send()
    assert sent.need is not None
    assert sent.need.who == who
    assert response.json()["error"]["message"] in sent.need.why
    assert all((row.tries, row.resends) == (0, 0) for row in rig.rows(RowState.PENDING))


def test_a_rate_limit_waits_as_long_as_it_says() -> None:
    """Nothing is sent before the server's own wait is over, also by a new process."""
    rig = Rig(10)
    refuse_creates(rig, attrs.evolve(error(429, "rate_limit_error"), headers={"retry-after": "90"}))
    sent = rig.send()
    assert sent.wait_until == rig.clock.now() + 90
    rig.clock.sleep(89)
    assert rig.send().batch is None
    rig.clock.sleep(1)
    assert rig.send().rows == 10


def test_a_full_queue_halves_what_may_wait() -> None:
    """After a refusal for a full queue, only half as many requests may wait for an hour."""
    rig = Rig(400, max_rows=100)
    first = rig.send().batch
    assert first is not None
    refuse_creates(rig, error(429, "rate_limit_error", "too many requests in processing"))
    refused = rig.send()
    assert refused.wait_until is not None
    rig.clock.sleep(refused.wait_until - rig.clock.now())
    assert "wait at the provider" in rig.send().why
    rig.end(first.id)
    again = rig.send()
    assert 0 < again.rows <= (first.count + 100) // 2


def test_repeated_refusals_are_spaced_out() -> None:
    """Each refusal of the last hour doubles the wait, up to a quarter of an hour."""
    rig = Rig(10)
    refuse_creates(rig, *[error(429, "rate_limit_error", "full")] * 6)
    waits: list[float] = []
    for _ in range(6):
        until = rig.send().wait_until
        assert until is not None
        waits.append(until - rig.clock.now())
        rig.clock.sleep(waits[-1])
    assert waits == [60, 120, 240, 480, 900, 900]


def test_a_ceiling_on_waiting_requests_is_kept() -> None:
    """No more requests wait at the provider than allowed, and no sliver of a batch is sent meanwhile."""
    rig = Rig(500, max_rows=100, max_in_queue=250)
    while rig.send().batch is not None:
        assert sum(batch.count for batch in rig.batches) <= 250
    assert sum(batch.count for batch in rig.batches) >= 160
    assert all(batch.count >= 80 for batch in rig.batches)


def test_a_413_halves_the_bytes_and_the_same_rows_go() -> None:
    """After 413 the rows go out again in batches of at most half the bytes, with no attempt used."""
    rig = Rig(100)
    refuse_creates(rig, Response(status=413, body=b"<html>too large</html>"))
    first = rig.send().batch
    assert first is not None
    assert first.state is BatchState.REJECTED
    while rig.send().batch is not None:
        pass
    sizes = [batch.size for batch in rig.batches[1:]]
    assert all(size <= first.size // 2 for size in sizes)
    assert rig.tally.in_state(RowState.SUBMITTED) == 100
    assert all((row.tries, row.resends) == (0, 0) for row in rig.rows())


def test_a_row_that_is_too_large_alone_is_quarantined() -> None:
    """The split ends at a batch of one: that row is ``input.too_large`` and the others succeed."""
    rows = [{"sku": f"S{n}", "word": "x" * (20_000 if n == 5 else 10)} for n in range(12)]
    rig = Rig(rows, max_bytes=15_000_000)
    limit = 10_000

    def rule(request: Request, api: Handler) -> Response | None:
        if not creating(request):
            return None
        body = request.body if isinstance(request.body, bytes) else b"".join(request.body)
        if len(body) > limit:
            return Response(status=413, body=b"<html>")
        return api.handle(attrs.evolve(request, body=body))

    rig.faults.rules.append(rule)
    tally = rig.finish()
    assert tally.counts == {
        (RowState.SUCCEEDED, None, 0): 11,
        (RowState.QUARANTINED, Reason.INPUT_TOO_LARGE, 0): 1,
    }
    assert rig.billed == 11


def test_a_row_that_no_batch_can_hold_is_quarantined_unsent() -> None:
    """A row beyond the byte limit is refused before any intent, and the rest goes."""
    rows = [{"sku": f"S{n}", "word": "x" * (20_000 if n == 0 else 10)} for n in range(5)]
    rig = Rig(rows, max_bytes=10_000)
    sent = rig.send()
    assert (sent.quarantined, sent.rows) == (1, 4)
    assert [row.reason for row in rig.rows(RowState.QUARANTINED)] == [Reason.INPUT_TOO_LARGE]


def test_an_unreachable_api_is_tried_later() -> None:
    """Where the list cannot be had nothing is recorded or sent, and the wait is short."""
    rig = Rig(10)
    rig.faults.rules.append(lambda request, api: Response(status=503, body=b"down"))
    sent = rig.send()
    assert sent.batch is None
    assert sent.wait_until == pytest.approx(rig.clock.now(), abs=61)
    assert rig.batches == []


def test_another_workspace_than_the_one_named_is_refused() -> None:
    """A credential of another workspace sends nothing and asks a person."""
    rig = Rig(10, workspace="wrkspc_other")
    sent = rig.send()
    assert sent.need is not None
    assert sent.need.code == "api.workspace"
    assert rig.faults.posts == 0


def test_stopping_in_mid_body_is_definite() -> None:
    """A stop before the last chunk leaves nothing at the provider and the rows free at once."""
    rig = Rig(2_000, max_rows=2_000)
    asked = iter([False, True])
    sent = rig.send(stop=lambda: next(asked, True))
    assert sent.batch is not None
    assert sent.batch.state is BatchState.REJECTED
    assert sent.wait_until is None
    assert rig.sim.state()["batches"] == []
    assert rig.send().rows == 2_000


def test_the_deadline_in_mid_body_is_definite() -> None:
    """A body that takes longer than its deadline stops itself, and nothing was created."""
    rig = Rig(2_000, max_rows=2_000, send_deadline=5.0)
    asked: list[int] = []

    def slow() -> bool:
        asked.append(1)
        rig.clock.sleep(6.0 if len(asked) == 2 else 0.0)
        return False

    sent = rig.send(stop=slow)
    assert sent.batch is not None
    assert sent.batch.state is BatchState.REJECTED
    assert rig.sim.state()["batches"] == []


def test_losing_the_lease_in_mid_body_creates_nothing() -> None:
    """A thawed sender whose lease went to another is stopped by the fence, not by its own clock."""
    rig = Rig(10)
    rig.take()

    def taken_over() -> bool:
        rig.clock.sleep(120.0)
        assert rig.store.acquire(rig.run.id, "other", 60.0) is not None
        return False

    with pytest.raises(LeaseLost):
        rig.submitter.send(rig.lease, rig.run, stop=taken_over)
    assert rig.sim.state()["batches"] == []
    assert rig.batches[0].state is BatchState.SENDING


def test_a_lease_shorter_than_the_last_write_is_not_enough() -> None:
    """The fence leaves more lease than the last write may take, or the last chunk stays here."""
    rig = Rig(10)
    lease = rig.store.acquire(rig.run.id, "mover", 20.0)
    assert lease is not None
    sent = rig.submitter.send(lease, rig.run)
    assert sent.batch is not None
    assert sent.batch.state is BatchState.REJECTED
    assert rig.sim.state()["batches"] == []


def test_a_fenced_off_sender_leaves_its_id_behind() -> None:
    """An acknowledgement that comes after the lease was lost is found by the next mover and opened first."""
    rig = Rig(10)

    def rule(request: Request, api: Handler) -> Response | None:
        if not creating(request):
            return None
        response = api.handle(request)
        rig.clock.sleep(120.0)
        rig.store.acquire(rig.run.id, "other", 60.0)
        return response

    rig.faults.rules.append(rule)
    with pytest.raises(LeaseLost):
        rig.send()
    rig.faults.rules.clear()
    remote = rig.sim.state()["batches"][0]["id"]
    (batch,) = rig.batches
    left = rig.store.docs(DocKind.READING, scope=f"suspect/{batch.id}")
    assert [json.loads(body)["remote_id"] for _, body in left] == [remote]
    rig.clock.sleep(200.0)
    rig.take()
    rig.submitter.recover(rig.lease, rig.run)
    assert rig.settle_doubt(batch.id).remote_id == remote


def test_an_interrupted_send_records_what_it_knows() -> None:
    """Ctrl-C while waiting for the answer leaves a doubt, not a batch that is sending for ever."""
    rig = Rig(10)

    def rule(request: Request, api: Handler) -> Response | None:
        if creating(request):
            api.handle(request)
            raise KeyboardInterrupt
        return None

    rig.faults.rules.append(rule)
    with pytest.raises(KeyboardInterrupt):
        rig.send()
    assert rig.batches[0].state is BatchState.DOUBTFUL


def test_a_lost_answer_is_adopted_and_paid_once() -> None:
    """The batch whose answer was lost is found by size, proved by its first line, and collected."""
    rig = Rig(40)
    lose_answer(rig)
    sent = rig.send()
    assert sent.batch is not None
    assert sent.batch.state is BatchState.DOUBTFUL
    assert rig.send().batch is None
    batch = rig.settle_doubt(sent.batch.id)
    assert (batch.state, batch.remote_id) == (BatchState.ENDED, rig.sim.state()["batches"][0]["id"])
    rig.finish()
    assert (rig.faults.posts, rig.billed) == (1, 40)


def test_a_create_that_never_arrived_is_absent_after_the_grace() -> None:
    """Without a sign of it for the grace, the rows are free and go out once more."""
    rig = Rig(40)
    refuse_creates(rig, Response(status=500, body=b"oops"))
    sent = rig.send()
    assert sent.batch is not None
    began = rig.clock.now()
    batch = rig.settle_doubt(sent.batch.id)
    assert batch.state is BatchState.ABSENT
    assert rig.clock.now() - began >= 1_800
    assert batch.reserved > 0
    assert rig.tally.in_state(RowState.PENDING) == 40
    rig.finish()
    assert rig.billed == 40


def strangers(rig: Rig, count: int) -> None:
    """Create somebody else's batch of so many requests in the same workspace."""
    params = {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    requests: Any = [{"custom_id": f"theirs-{n}", "params": params} for n in range(count)]
    rig.gateway.client.messages.batches.create(requests=requests)


def test_sizes_seen_in_the_list_are_avoided() -> None:
    """Of the sizes that may be drawn, those of other remote batches of the last two days are left out."""
    for seed in range(5):
        rig = Rig(50, max_rows=10, seed=seed)
        strangers(rig, 8)
        strangers(rig, 9)
        assert rig.send().rows == 10
        rig.clock.sleep(200_000)
        assert {rig.send().rows for _ in range(2)} <= {8, 9}


def test_a_suspect_that_vanishes_is_held() -> None:
    """A batch of our size that was seen and is gone before it could be opened is a person's, never absence."""
    rig = Rig(30)
    lose_answer(rig)
    sent = rig.send()
    assert sent.batch is not None
    rig.resolve()
    remote = rig.sim.state()["batches"][0]["id"]
    not_found = b'{"type":"error","error":{"type":"not_found_error","message":"?"}}'
    empty = b'{"data":[],"has_more":false,"first_id":null,"last_id":null}'

    def gone(request: Request, api: Handler) -> Response | None:
        if remote in request.path:
            return Response(status=404, body=not_found)
        if request.method == "GET" and request.path.endswith("/batches"):
            return attrs.evolve(api.handle(request), body=empty)
        return None

    rig.faults.rules.append(gone)
    batch = rig.settle_doubt(sent.batch.id)
    assert batch.state is BatchState.HELD
    assert batch.need is not None
    assert batch.need.code == "doubt.vanished"
    assert rig.tally.in_state(RowState.SUBMITTED) == 30


def test_a_batch_held_elsewhere_blocks_only_its_own_place() -> None:
    """A doubt in one workspace does not keep rows from going out in another."""
    rig = Rig(300, max_rows=100, workspaces={"one": "ws_one", "two": "ws_two"})
    plain = simulated_client(api=rig.faults)
    rig.gateway = Gateway(plain.with_options(api_key="one"), clock=rig.clock)
    rig.rebuild()
    lose_answer(rig)
    rig.send()
    assert rig.send().batch is None
    rig.gateway = Gateway(plain.with_options(api_key="two"), clock=rig.clock)
    rig.rebuild()
    again = rig.send().batch
    assert again is not None
    assert again.place.workspace == "ws_two"


def test_an_absent_batch_is_watched_for_a_day() -> None:
    """What it reserved is released by a clean reading 25 hours later, not before."""
    rig = Rig(40)
    refuse_creates(rig, Response(status=500, body=b"oops"))
    sent = rig.send()
    assert sent.batch is not None
    reserved = rig.settle_doubt(sent.batch.id).reserved
    for _ in range(24):
        rig.clock.sleep(3_600)
        rig.resolve()
        assert rig.batch(sent.batch.id).reserved == reserved
    rig.clock.sleep(2 * 3_600)
    rig.resolve()
    assert rig.batch(sent.batch.id).reserved == 0
    assert rig.batch(sent.batch.id).state is BatchState.ABSENT


def test_a_batch_that_may_be_a_late_twin_keeps_the_reservation() -> None:
    """While the list shows an unopened batch of its size, an absent batch stays reserved; once opened, it does not."""
    rig = Rig(2)
    refuse_creates(rig, Response(status=500, body=b"oops"))
    sent = rig.send()
    assert sent.batch is not None
    reserved = rig.settle_doubt(sent.batch.id).reserved
    rig.clock.sleep(30 * 3_600)
    strangers(rig, 2)
    rig.resolve()
    assert rig.batch(sent.batch.id).reserved == reserved
    rig.clock.sleep(3_600)
    rig.resolve()
    assert rig.batch(sent.batch.id).reserved == 0


def test_a_stranger_of_the_same_size_is_opened_and_left_alone() -> None:
    """A batch of our size that is not ours is looked into once, never cancelled, and does not become ours."""
    rig = Rig(3)
    refuse_creates(rig, Response(status=500))
    sent = rig.send()
    assert sent.batch is not None
    stranger = rig.gateway.client.messages.batches.create(
        requests=[
            {
                "custom_id": f"theirs-{n}",
                "params": {
                    "model": "claude-haiku-4-5",
                    "max_tokens": 5,
                    "messages": [{"role": "user", "content": "x"}],
                },
            }
            for n in range(3)
        ]
    )
    batch = rig.settle_doubt(sent.batch.id)
    assert batch.state is BatchState.ABSENT
    assert rig.store.strangers(batch.place.workspace, [stranger.id]) == {stranger.id}  # type: ignore[list-item]
    assert rig.faults.count("POST", "/cancel") == 0
    assert rig.faults.count("GET", f"{stranger.id}/results") == 1


def test_a_doubtful_batch_blocks_its_place_until_it_is_settled() -> None:
    """Nothing more is sent to a place while one of its batches is in doubt."""
    rig = Rig(300, max_rows=100)
    lose_answer(rig)
    rig.send()
    blocked = rig.send()
    assert blocked.batch is None
    assert "doubtful" in blocked.why
    assert blocked.wait_until is not None


def test_readings_are_a_minute_apart() -> None:
    """A mover that comes by every second still reads the list once a minute."""
    rig = Rig(10)
    refuse_creates(rig, Response(status=500))
    rig.send()
    before = rig.faults.count("GET", "/batches")
    for _ in range(60):
        rig.resolve()
        rig.clock.sleep(1.0)
    assert rig.faults.count("GET", "/batches") - before == 1


def test_a_clock_that_is_set_back_delays_no_reading() -> None:
    """Where the last reading seems to lie in the future, another one is taken now."""
    rig = Rig(10)
    refuse_creates(rig, Response(status=500))
    sent = rig.send().batch
    assert sent is not None
    rig.resolve()
    batch = rig.batch(sent.id)
    ahead = attrs.evolve(trail_of(batch, 0.0), asked_at=rig.clock.now() + 86_400.0)
    rig.store.move_batch(
        rig.take(),
        batch.id,
        expect=BatchState.DOUBTFUL,
        to=BatchState.DOUBTFUL,
        facts=BatchFacts(notes={**batch.notes, "doubt": ahead.to_json()}),
    )
    assert rig.resolve() == rig.clock.now() + 60.0
    assert rig.faults.count("GET", "/batches") == 3


def test_recover_withdraws_an_intent_that_nobody_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An intent left by a dead mover was never sent: its rows are free at once."""
    rig = Rig(10)
    intent = rig.store.intend

    def die(*args: Any) -> Any:
        intent(*args)
        raise StoreError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "intend", die)
        with pytest.raises(StoreError, match="killed"):
            rig.send()
    assert [batch.state for batch in rig.batches] == [BatchState.INTENT]
    rig.submitter.recover(rig.take(), rig.run)
    assert [batch.state for batch in rig.batches] == [BatchState.REJECTED]
    assert rig.send().rows == 10


def test_recover_doubts_a_batch_that_was_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch in SENDING under an earlier lease may exist: it is doubted, never sent again."""
    rig = Rig(10)
    move = rig.store.move_batch

    def die(lease: Any, batch: BatchId, *, to: BatchState, **more: Any) -> Any:
        if to is BatchState.LIVE:
            raise KeyboardInterrupt
        return move(lease, batch, to=to, **more)

    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "move_batch", die)
        with pytest.raises(KeyboardInterrupt):
            rig.send()
    rig.submitter.recover(rig.take(), rig.run)
    (batch,) = rig.batches
    assert batch.state is BatchState.DOUBTFUL
    assert rig.settle_doubt(batch.id).state is BatchState.ENDED
    rig.finish()
    assert rig.billed == 10


def test_a_claim_that_is_not_ours_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds anything but INTENT does not POST."""
    rig = Rig(10)
    intend = rig.store.intend

    def claimed_by_another(*args: Any) -> Any:
        batch = intend(*args)
        rig.store.move_batch(
            args[0], batch.id, expect=BatchState.INTENT, to=BatchState.SENDING, facts=BatchFacts(claim="else")
        )
        return batch

    monkeypatch.setattr(rig.store, "intend", claimed_by_another)
    with pytest.raises(StoreError):
        rig.send()
    assert rig.faults.posts == 0


def test_retries_show_the_model_what_was_wrong() -> None:
    """A row that is asked again with its error shown is sized and sent with exactly that text."""
    from batchkit.policy import Policy, quarantine, retry

    policy = Policy.default().on("output.schema", retry(times=2, show_error=True), quarantine())
    rig = Rig(5, model=answers({"w0003": Answer(text='{"color": "blue"}')}), policy=policy)
    tally = rig.finish()
    assert tally.counts == {
        (RowState.SUCCEEDED, None, 0): 4,
        (RowState.QUARANTINED, Reason.OUTPUT_SCHEMA, 0): 1,
    }
    assert [batch.count for batch in rig.batches] == [5, 1, 1]


def test_nonces_are_eight_letters_and_never_repeat() -> None:
    """Every batch has a nonce of its own out of ``a-z2-7``, and its requests carry it."""
    rig = Rig(300, max_rows=20)
    while rig.send().batch is not None:
        pass
    nonces = [batch.nonce for batch in rig.batches]
    assert len(set(nonces)) == len(nonces)
    assert all(len(nonce) == 8 and set(nonce) <= set("abcdefghijklmnopqrstuvwxyz234567") for nonce in nonces)


def test_an_unknown_price_is_refused_under_a_cap_only() -> None:
    """A model without a price cannot be sent under a cap: an unknown price is not zero."""
    from batchkit.tier import Tier

    rig = Rig(3)
    odd = rig.spec.evolve(tiers=[Tier("some-other-model", max_tokens=300)])
    from batchkit.builder import RequestBuilder
    from batchkit.submitter import ChunkedSubmitter

    submitter = ChunkedSubmitter(rig.store, rig.gateway, builder=RequestBuilder(odd), clock=rig.clock)
    with pytest.raises(UsageError, match="some-other-model"):
        submitter.send(rig.take(), attrs.evolve(rig.run, options={OVERRULED: True}), cap=10**12)
    assert rig.batches == []


def test_head_and_post_carry_one_credential() -> None:
    """However often the key rotates, list and create of one send are signed with the same one."""
    import anthropic
    from anthropic.lib.credentials import AccessToken

    rig = Rig(10)
    tokens: list[str] = []
    rotated: list[int] = []

    def rotating(*, force_refresh: bool = False) -> AccessToken:
        rotated.append(1)
        return AccessToken(token=f"token-{len(rotated)}", expires_at=0)

    def rule(request: Request, api: Handler) -> None:
        tokens.append(request.headers["authorization"])

    rig.faults.rules.append(rule)
    plain = simulated_client(api=rig.faults)
    client = anthropic.Anthropic(
        credentials=rotating, base_url=str(plain.base_url), http_client=plain._client
    )
    rig.gateway = Gateway(client, clock=rig.clock)
    rig.rebuild()
    assert rig.send().rows == 10
    assert len(tokens) == 4  # the list, both models, the create
    assert len(set(tokens)) == 1


def ours_elsewhere(rig: Rig, key: str, nonce: str = "zzzzzzzz") -> str:
    """Create a remote batch as a copy of the store would: our prefix and a key under a nonce of its own."""
    params = {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    requests: Any = [{"custom_id": f"t_{key}-{nonce}", "params": params}]
    return rig.gateway.client.messages.batches.create(requests=requests).id


@pytest.mark.parametrize("key", ["S0003", "odd key/3"])
def test_a_store_that_was_set_back_sends_nothing_before_a_person_says_so(key: str) -> None:
    """Keys of ours under a nonce that the store never drew hold the run; once disowned, it goes on."""
    from batchkit.holding import disown
    from batchkit.ids import RemoteId, RowKey

    rig = Rig([{"sku": "S0003", "word": "a"}, {"sku": "odd key/3", "word": "b"}])
    remote = RemoteId(ours_elsewhere(rig, rig.builder.key_part(RowKey(key))))
    rig.clock.sleep(200)
    for _ in range(2):
        sent = rig.send()
        assert sent.need is not None
        assert sent.need.code == "store.copied"
        assert remote in sent.need.why
        rig.rebuild()
    assert rig.faults.posts == 1
    disown(rig.store, rig.gateway.list(1).place, [remote], by="me")
    assert rig.send().rows == 2


def test_strangers_are_opened_once_before_the_first_create() -> None:
    """Ended batches of others are looked into once, also by later processes, and keep nothing from being sent."""
    rig = Rig(200, max_rows=100)
    strangers(rig, 7)
    ours_elsewhere(rig, "no-such-key")
    rig.clock.sleep(200)
    assert rig.send().rows > 0
    opened = rig.faults.count("GET", "/results")
    assert opened == 2
    rig.rebuild()
    assert rig.send().rows > 0
    assert rig.faults.count("GET", "/results") == opened


def test_an_ordinary_send_asks_for_one_list_and_nothing_else() -> None:
    """A send makes one GET and one POST, with the watches of all batches before it open; the first asks after models."""
    rig = Rig(500, max_rows=100)
    while rig.send().batch is not None:
        pass
    models = [("GET", f"/v1/models/{tier.model}") for tier in rig.spec.tiers]
    assert rig.faults.seen[1:3] == models
    ordinary = [call for call in rig.faults.seen if call not in models]
    assert len(ordinary) == len(rig.faults.seen) - 2
    assert ordinary == [("GET", "/v1/messages/batches"), ("POST", "/v1/messages/batches")] * len(rig.batches)


def test_a_cheap_batch_need_not_wait_out_the_grace() -> None:
    """Who would rather risk five cents than wait gets absence after three clean readings; dear batches wait."""
    for rows, quick in ((10, True), (100, False)):
        rig = Rig(rows, max_rows=rows, cheap_grace=0.0)
        refuse_creates(rig, Response(status=500, body=b"oops"))
        sent = rig.send().batch
        assert sent is not None
        assert (sent.reserved <= 50_000_000) is quick
        began = rig.clock.now()
        assert rig.settle_doubt(sent.id).state is BatchState.ABSENT
        assert (rig.clock.now() - began < 600) is quick


def test_an_intent_of_a_copied_store_is_doubted_and_its_rows_go_out_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the other copy may have sent is looked up for the whole grace before the rows go out again."""
    rig = Rig(10)
    intend = rig.store.intend

    def die(*args: Any) -> Any:
        intend(*args)
        raise StoreError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(rig.store, "intend", die)
        with pytest.raises(StoreError, match="killed"):
            rig.send()
    (batch,) = rig.batches
    rig.store.move_batch(rig.take(), batch.id, expect=BatchState.INTENT, to=BatchState.DOUBTFUL)
    began = rig.clock.now()
    assert rig.settle_doubt(batch.id).state is BatchState.ABSENT
    assert rig.clock.now() - began >= 1_800
    rig.finish()
    assert (rig.faults.posts, rig.billed) == (1, 10)

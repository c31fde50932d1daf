"""Collecting: every line to its row once, and nothing called missing before it is proved."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from rig import Label, Rig, answers

from batchkit.contract import Contract
from batchkit.errors import LeaseLost, ProviderError
from batchkit.model import Batch, BatchWhere
from batchkit.policy import Policy, human, quarantine
from batchkit.reasons import Reason
from batchkit.rules import rule as contract_rule
from batchkit.states import BatchState, RowState
from batchkit.testing import Answer, Dropped, Handler, Latency, Request, Response
from batchkit.testing.http import read_all


def results_of(request: Request) -> bool:
    return request.method == "GET" and request.path.endswith("/results")


def rewrite(
    rig: Rig, change: Callable[[list[bytes]], Iterator[bytes] | list[bytes]], times: int = 10**6
) -> list[int]:
    """Give the result file with its lines changed, as often as said; returns the list of readings given."""
    given: list[int] = []

    def rule(request: Request, api: Handler) -> Response | None:
        if not results_of(request) or len(given) >= times:
            return None
        response = api.handle(request)
        if response.status != 200:
            return None
        given.append(1)
        body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        return attrs.evolve(response, body=iter(change(body.splitlines(keepends=True))))

    rig.faults.rules.append(rule)
    return given


def sent(rig: Rig) -> Batch:
    batch = rig.send().batch
    assert batch is not None
    return rig.end(batch.id)


def events(rig: Rig) -> list[str]:
    from batchkit.model import DocKind

    return [json.loads(body)["kind"] for _, body in rig.store.docs(DocKind.EVENT)]


def test_a_whole_file_is_collected() -> None:
    """Lines = counts = members: every row settled, the cost summed, the file's digest kept, nothing reserved."""
    rig = Rig(50)
    batch = sent(rig)
    assert batch.state is BatchState.ENDED
    body = rig.gateway.client.messages.batches.with_raw_response.results(
        batch.remote_id or ""
    ).http_response.read()
    done = rig.collect(batch.id)
    assert done.complete
    assert done.lines == 50
    batch = rig.batch(batch.id)
    assert (batch.state, batch.lines, batch.reserved) == (BatchState.COLLECTED, 50, 0)
    assert batch.notes["sha256"] == hashlib.sha256(body).hexdigest()
    assert rig.tally.counts == {(RowState.SUCCEEDED, None, 0): 50}
    tokens = [entry["usage"] for entry in rig.sim.bill().entries()]
    # Haiku 4.5 in a batch: 0.50 and 2.50 dollars a million tokens.
    assert batch.spent == sum(t["input_tokens"] * 500 + t["output_tokens"] * 2_500 for t in tokens)
    row = rig.rows()[0]
    assert json.loads(row.answer or b"") == {"color": "red"}
    assert row.model == "claude-haiku-4-5"
    assert "batch.collected" in events(rig)


@pytest.mark.parametrize("silent", [True, False])
def test_a_file_cut_at_any_byte_loses_nothing(silent: bool) -> None:
    """Wherever the stream ends, with an error or silently, what is missing is read again and nothing is lost."""
    rows, per_rig, offset, size = 2, 60, 0, 1 << 20
    while offset <= size:
        rig = Rig(rows * per_rig, max_rows=rows)
        while rig.send().batch is not None:
            pass
        rig.clock.sleep(200.0)
        rig.collector.poll(rig.take(), rig.run)
        assert {batch.state for batch in rig.batches} == {BatchState.ENDED}
        for batch in rig.batches:
            size = cut_once(rig, batch, offset, silent)
            offset += 1
        assert rig.tally.counts == {(RowState.SUCCEEDED, None, 0): rows * per_rig}
        assert all(row.answers == 1 for row in rig.rows())
    assert size > 500


def cut_once(rig: Rig, batch: Batch, offset: int, silent: bool) -> int:
    """Read a batch's file once cut at the offset and once whole; give the file's size."""
    sizes: list[int] = []

    def cut(lines: list[bytes]) -> Iterator[bytes]:
        whole = b"".join(lines)
        sizes.append(len(whole))
        yield whole[:offset]
        if not silent:
            raise Dropped("cut")

    rig.faults.rules.clear()
    rewrite(rig, cut, times=1)
    before = rig.tally
    first = rig.collect(batch.id)
    settled = rig.tally.in_state(RowState.SUCCEEDED) - before.in_state(RowState.SUCCEEDED)
    assert settled == first.lines <= batch.count
    # A file that lacks only its final line end is whole.
    assert first.complete is (silent and offset >= sizes[0] - 1)
    if not first.complete:
        assert rig.batch(batch.id).state is BatchState.ENDED
        assert first.wait_until is not None
        rig.clock.sleep(first.wait_until - rig.clock.now())
        assert rig.collect(batch.id).complete
    assert rig.batch(batch.id).lines == batch.count
    return sizes[0]


def test_what_was_settled_stays_settled() -> None:
    """A second reading settles the rest only: no row and no cost is counted twice."""
    rig = Rig(20)
    rewrite(rig, lambda lines: lines[:12], times=1)
    batch = sent(rig)
    first = rig.collect(batch.id)
    assert (first.complete, first.lines) == (False, 12)
    spent = rig.batch(batch.id).spent
    rig.clock.sleep(60)
    second = rig.collect(batch.id)
    assert (second.complete, second.lines) == (True, 8)
    assert rig.batch(batch.id).lines == 20
    assert rig.batch(batch.id).spent > spent
    assert all(row.answers == 1 for row in rig.rows())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines[:-1], {"missing": 1}),
        (lambda lines: [*lines, lines[0]], {"duplicates": 1}),
        (lambda lines: [*lines[1:], lines[1]], {"missing": 1, "duplicates": 1}),
        (
            lambda lines: [*lines, b'{"custom_id":"t_x-aaaaaaaa","result":{"type":"expired"}}\n'],
            {"foreign": 1},
        ),
        (lambda lines: [*lines, b"\xff\xfe not json\n"], {"unreadable": 1}),
        (lambda lines: [*lines[1:], b"[]\n"], {"missing": 1, "unreadable": 1}),
        (lambda lines: [*lines[1:], b"null\n"], {"missing": 1, "unreadable": 1}),
        (lambda lines: [*lines[1:], b'{"custom_id":7,"result":{"type":"expired"}}\n'], {"missing": 1}),
        (
            lambda lines: [lines[0].replace(b'"succeeded"', b'"expired"', 1), *lines[1:]],
            {"counts": "provider"},
        ),
    ],
)
def test_three_readings_that_disagree_are_held(
    change: Callable[[list[bytes]], list[bytes]], told: dict[str, Any]
) -> None:
    """A file that never agrees is read three times, ten minutes apart, and then held with the difference named."""
    rig = Rig(6, policy=Policy.default().on("batch.expired", human()))
    given = rewrite(rig, change)
    batch = sent(rig)
    began = rig.clock.now()
    while rig.batch(batch.id).state is BatchState.ENDED:
        done = rig.collect(batch.id)
        rig.clock.sleep(max((done.wait_until or 0.0) - rig.clock.now(), 1.0))
    batch = rig.batch(batch.id)
    assert batch.state is BatchState.HELD
    assert batch.need is not None
    assert batch.need.code == "batch.inconsistent"
    assert all(name in batch.need.why for name in told)
    assert len(given) >= 3
    assert rig.clock.now() - began >= 1_200
    assert rig.tally.total == 6
    assert rig.tally.in_state(RowState.PENDING) == 0
    assert rig.billed == 6


def test_counts_of_another_size_are_never_collected() -> None:
    """A provider that counts one request more than was sent keeps the batch from being collected."""
    rig = Rig(6)

    def one_more(request: Request, api: Handler) -> Response | None:
        if request.method != "GET" or results_of(request):
            return None
        response = api.handle(request)
        body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        changed = body.replace(b'"succeeded":6', b'"succeeded":7')
        return attrs.evolve(response, body=changed)

    rig.faults.rules.append(one_more)
    batch = sent(rig)
    for _ in range(3):
        done = rig.collect(batch.id)
        assert not done.complete
        rig.clock.sleep(1_200)
    held = rig.batch(batch.id)
    assert held.state is BatchState.HELD
    assert held.need is not None
    assert "7 for 6 members" in held.need.why


def test_blank_lines_and_line_ends_do_not_matter() -> None:
    """CRLF, blank lines, a byte order mark and no final newline: the same rows."""
    rig = Rig(6)
    rewrite(
        rig,
        lambda lines: [
            b"\xef\xbb\xbf",
            *(line.replace(b"\n", b"\r\n\r\n") for line in lines[:-1]),
            lines[-1].strip(),
        ],
    )
    assert rig.collect(sent(rig).id).complete


def test_separators_inside_an_answer_split_nothing() -> None:
    """U+2028 and its kin inside an answer leave lines and rows as they are."""
    ugly = json.dumps({"color": "red", "note": "\u2028\u2029\u0085\x1c"}, ensure_ascii=False)
    rig = Rig(3, model=answers({}, default=ugly))
    rig.collect(sent(rig).id)
    assert rig.tally.in_state(RowState.SUBMITTED) == 0


def test_a_line_beyond_the_cap_is_parked_with_its_row() -> None:
    """A line of 200 MB costs no memory and puts its own row aside, once the rest of the file agrees."""
    rig = Rig(4)

    def swell(lines: list[bytes]) -> Iterator[bytes]:
        head, _, tail = lines[0].rstrip(b"\n").rpartition(b"}")
        yield head + b',"pad":"'
        for _ in range(3_100):
            yield b"x" * 65_536
        yield b'"}' + tail + b"\n"
        yield from lines[1:]

    rewrite(rig, swell)
    batch = sent(rig)
    tracemalloc.start()
    try:
        done = rig.collect(batch.id)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000
    assert done.complete
    assert rig.tally.counts == {
        (RowState.SUCCEEDED, None, 0): 3,
        (RowState.QUARANTINED, Reason.BATCH_UNREADABLE_LINE, 0): 1,
    }


@pytest.mark.parametrize("tokens", [10**9, 2**63, 10**30])
def test_tokens_beyond_any_model_stop_nothing(tokens: int) -> None:
    """An answer that names more tokens than a store can count stands without a cost, and the rest is settled."""
    rig = Rig(4)

    def absurd(lines: list[bytes]) -> list[bytes]:
        line = json.loads(lines[0])
        line["result"]["message"]["usage"]["output_tokens"] = tokens
        return [json.dumps(line).encode() + b"\n", *lines[1:]]

    rewrite(rig, absurd)
    batch = sent(rig)
    assert rig.collect(batch.id).complete
    assert rig.tally.counts == {(RowState.SUCCEEDED, None, 0): 4}
    assert 0 < rig.batch(batch.id).spent < 10**9


def test_a_last_line_cut_inside_is_never_taken_for_an_answer() -> None:
    """A file that ends inside its last line is short, however readable the beginning of that line is."""
    rig = Rig(4)
    rewrite(rig, lambda lines: [*lines[:-1], lines[-1][:60]], times=1)
    batch = sent(rig)
    assert not rig.collect(batch.id).complete
    rig.clock.sleep(60)
    assert rig.collect(batch.id).complete
    assert rig.tally.counts == {(RowState.SUCCEEDED, None, 0): 4}


def test_expired_lines_keep_the_paid_ones() -> None:
    """A batch that expired half way keeps what was paid, and only the rest goes again."""
    rig = Rig(
        30, latency=Latency(min=80_000.0, max=90_000.0), model=answers({"w000": Answer(kind="expired")})
    )
    batch = sent(rig)
    done = rig.collect(batch.id)
    assert done.complete
    again = rig.rows(RowState.PENDING)
    assert all((row.resends, row.tries) == (1, 0) for row in again)
    assert len(again) + rig.tally.in_state(RowState.SUCCEEDED) == 30
    assert rig.billed == rig.tally.in_state(RowState.SUCCEEDED)


def test_a_404_after_the_end_is_read_again() -> None:
    """Results that are not found although the batch ended are tried later; nothing is sent again."""
    rig = Rig(5)
    left = [1, 1]
    error = json.dumps({"type": "error", "error": {"type": "not_found_error", "message": "no"}}).encode()

    def rule(request: Request, api: Handler) -> Response | None:
        if results_of(request) and left:
            left.pop()
            return Response(status=404, headers={"content-type": "application/json"}, body=error)
        return None

    batch = sent(rig)
    rig.faults.rules.append(rule)
    first = rig.collect(batch.id)
    assert not first.complete
    assert first.wait_until is not None
    rig.finish()
    assert (rig.batch(batch.id).state, rig.faults.posts) == (BatchState.COLLECTED, 1)


def hide(rig: Rig, hidden: list[bool]) -> None:
    def rule(request: Request, api: Handler) -> Response | None:
        if hidden[0] and "/batches/" in request.path:
            return Response(
                status=404, body=b'{"type":"error","error":{"type":"not_found_error","message":"?"}}'
            )
        return None

    rig.faults.rules.append(rule)


def test_a_status_that_nobody_knows_is_waited_out() -> None:
    """A batch in a state of which the documentation says nothing runs on for us: asked again, never sent again."""
    rig = Rig(5)
    batch = rig.send().batch
    assert batch is not None
    odd = [True]

    def hibernating(request: Request, api: Handler) -> Response | None:
        if request.method != "GET" or not odd:
            return None
        response = api.handle(request)
        text = read_all(response.body).replace(b'"in_progress"', b'"hibernating"')
        return attrs.evolve(response, body=text.replace(b'"ended"', b'"hibernating"'))

    rig.faults.rules.append(hibernating)
    assert rig.end(batch.id, most=7_200).state is BatchState.LIVE
    odd.clear()
    rig.finish()
    assert (rig.batch(batch.id).state, rig.faults.posts) == (BatchState.COLLECTED, 1)


def test_a_404_on_a_running_batch_is_transient() -> None:
    """A known batch that the API does not know for hours is asked for again and never sent again."""
    rig = Rig(5)
    batch = rig.send().batch
    assert batch is not None
    hidden = [True]
    hide(rig, hidden)
    rig.end(batch.id, most=7_200)
    assert rig.batch(batch.id).state is BatchState.LIVE
    hidden[0] = False
    rig.finish()
    assert rig.faults.posts == 1


def test_a_404_for_a_day_is_held() -> None:
    """After 24 hours of not being known, a person decides, who is told whose key it takes; no row leaves its batch."""
    rig = Rig(5)
    batch = rig.send().batch
    assert batch is not None
    hide(rig, [True])
    rig.end(batch.id)
    held = rig.batch(batch.id)
    assert held.state is BatchState.HELD
    assert held.need is not None
    assert held.need.code == "batch.missing"
    assert f"the key opens another workspace than {held.place.workspace}" in held.need.why
    assert held.place.workspace.startswith("wrkspc_")
    assert rig.tally.in_state(RowState.SUBMITTED) == 5


def test_a_batch_past_its_expiry_is_held() -> None:
    """A batch still running an hour after its expiry, by the server's clock, is a person's."""
    rig = Rig(5)
    batch = rig.send().batch
    assert batch is not None

    def stuck(request: Request, api: Handler) -> Response | None:
        response = api.handle(request)
        if request.method == "GET" and "/batches/" in request.path and isinstance(response.body, bytes):
            body = {**json.loads(response.body), "processing_status": "in_progress", "ended_at": None}
            return attrs.evolve(response, body=json.dumps(body).encode())
        return None

    rig.faults.rules.append(stuck)
    rig.end(batch.id, most=100_000.0)
    held = rig.batch(batch.id)
    assert held.need is not None
    assert held.need.code == "batch.overdue"
    assert rig.clock.now() >= (batch.expires_at or 0.0) + 3_600


def test_many_running_batches_are_polled_by_one_list() -> None:
    """With many batches running, one page of the list answers for all of them."""
    rig = Rig(100, max_rows=10)
    while rig.send().batch is not None:
        pass
    lists, asked = rig.faults.count("GET", "/batches"), len(rig.faults.seen)
    rig.collector.poll(rig.take(), rig.run)
    assert rig.faults.count("GET", "/batches") == lists + 1
    assert len(rig.faults.seen) == asked + 1


def test_polls_are_spread_and_not_repeated_too_soon() -> None:
    """A mover that comes by at once again asks nothing, and the next look is in the future."""
    rig = Rig(10)
    rig.send()
    wake = rig.collector.poll(rig.take(), rig.run)
    assert wake is not None
    assert wake > rig.clock.now()
    asked = len(rig.faults.seen)
    assert rig.collector.poll(rig.take(), rig.run) == wake
    assert len(rig.faults.seen) == asked


def test_a_refused_credential_is_an_error_of_the_provider() -> None:
    """401 on a poll is raised, for the run to pause on, and changes nothing."""
    rig = Rig(10)
    rig.send()
    body = b'{"type":"error","error":{"type":"authentication_error","message":"no"}}'
    rig.faults.rules.append(lambda request, api: Response(status=401, body=body))
    with pytest.raises(ProviderError) as caught:
        rig.collector.poll(rig.take(), rig.run)
    assert caught.value.status == 401
    assert rig.batches[0].state is BatchState.LIVE


def test_money_lines_pause_and_touch_no_row() -> None:
    """A line that speaks of credit leaves its row pending as it was, and the report asks for money."""
    broke = Answer(
        kind="errored",
        error_type="invalid_request_error",
        error_message="Your credit balance is too low to go on.",
    )
    rig = Rig(5, model=answers({"w0002": broke}))
    done = rig.collect(sent(rig).id)
    assert done.complete
    assert done.need is not None
    assert done.need.who == "money"
    (row,) = rig.rows(RowState.PENDING)
    assert (row.tries, row.resends, row.reason) == (0, 0, None)


def test_rules_that_look_at_the_record_get_the_right_one() -> None:
    """Whatever the order of the lines, a rule over output and record sees the row's own fields."""
    seen: dict[str, int] = {}

    @contract_rule(version=1)
    def odd_words(out: Label, row: Any) -> bool:
        assert isinstance(row, dict)
        seen[row["word"]] = seen.get(row["word"], 0) + 1
        return int(row["word"][1:]) % 2 == 1

    policy = Policy.default().on("output.rule", quarantine())
    rig = Rig(30, contract=Contract(Label, rules=[odd_words]), policy=policy)
    assert rig.collect(sent(rig).id).complete
    assert seen == {f"w{n:04}": 1 for n in range(30)}
    assert {row.key for row in rig.rows(RowState.SUCCEEDED)} == {f"S{n:04}" for n in range(1, 30, 2)}


def test_canceled_lines_follow_the_run() -> None:
    """While the run is being canceled a canceled line closes its row; a cancel from elsewhere sends it again."""
    for canceling in (True, False):
        rig = Rig(20, latency=Latency(min=5_000.0, max=9_000.0))
        batch = rig.send().batch
        assert batch is not None
        rig.collector.cancel(rig.take(), rig.run)
        assert rig.collector.cancel(rig.take(), rig.run) is None
        assert rig.faults.count("POST", "/cancel") == 1
        rig.end(batch.id)
        assert rig.collect(batch.id, canceling=canceling).complete
        tally = rig.tally
        left = RowState.CANCELED if canceling else RowState.PENDING
        assert tally.in_state(left) > 0
        assert tally.in_state(left) + tally.in_state(RowState.SUCCEEDED) == 20
        assert tally.in_state(RowState.SUCCEEDED) == rig.billed


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_cancel_refused_for_the_credential_asks_for_a_person(status: int) -> None:
    """Waiting mends no credential, so the refusal is raised; the batch is asked to end again after that."""
    rig = Rig(20, latency=Latency(min=5_000.0, max=9_000.0))
    rig.send()
    body = json.dumps({"type": "error", "error": {"type": "authentication_error", "message": "no"}}).encode()
    left = [Response(status=status, headers={"content-type": "application/json"}, body=body)]
    rig.faults.rules.append(
        lambda request, _: left.pop() if left and request.path.endswith("/cancel") else None
    )
    with pytest.raises(ProviderError) as refused:
        rig.collector.cancel(rig.take(), rig.run)
    assert refused.value.status == status
    assert rig.collector.cancel(rig.take(), rig.run) is None
    assert rig.faults.count("POST", "/cancel") == 2


@pytest.mark.parametrize("status", [404, 408, 429, 500])
def test_a_cancel_that_was_not_taken_is_asked_again(status: int) -> None:
    """Only an answer that the batch is ending, or has ended, counts: until then it runs on and is paid for."""
    rig = Rig(20, latency=Latency(min=5_000.0, max=9_000.0))
    batch = rig.send().batch
    assert batch is not None
    kind = "not_found_error" if status == 404 else "api_error"
    body = json.dumps({"type": "error", "error": {"type": kind, "message": "no"}}).encode()
    left = [Response(status=status, headers={"content-type": "application/json"}, body=body)]
    rig.faults.rules.append(
        lambda request, _: left.pop() if left and request.path.endswith("/cancel") else None
    )
    assert rig.collector.cancel(rig.take(), rig.run) == rig.clock.now() + 60.0
    rig.clock.sleep(60.0)
    assert rig.collector.cancel(rig.take(), rig.run) is None
    assert rig.faults.count("POST", "/cancel") == 2
    rig.end(batch.id)
    assert rig.billed < 20


def test_stopping_between_chunks_keeps_what_was_read() -> None:
    """A stop ends the reading at the next chunk; the next one starts over and finishes."""
    rig = Rig(400, max_rows=400)
    rewrite(rig, lambda lines: lines)
    batch = sent(rig)
    asked = iter([False] * 150)
    done = rig.collect(batch.id, stop=lambda: next(asked, True))
    assert (done.complete, done.lines) == (False, 150)
    assert rig.collect(batch.id).complete
    assert rig.batch(batch.id).lines == 400


def test_a_lost_lease_settles_nothing_more() -> None:
    """A reader whose lease went to another stops at its next page, and the new one reads it all."""
    rig = Rig(20)
    batch = sent(rig)
    lease = rig.take()
    rig.clock.sleep(120)
    rig.take("other")
    with pytest.raises(LeaseLost):
        rig.collector.collect(lease, rig.run, batch)
    assert rig.tally.in_state(RowState.SUBMITTED) == 20
    assert rig.collector.collect(rig.take("other"), rig.run, rig.batch(batch.id)).complete


def test_results_are_read_for_29_days_and_then_given_up() -> None:
    """From day 20 a warning stands in the events, once; when results are gone the rows say so and the sum holds."""
    rig = Rig(5)
    batch = sent(rig)
    gone = b'{"type":"error","error":{"type":"not_found_error","message":"gone"}}'
    rig.faults.rules.append(lambda q, api: Response(status=404, body=gone) if results_of(q) else None)
    rig.clock.sleep(21 * 86_400)
    for _ in range(2):
        done = rig.collect(batch.id)
        assert done.wait_until is not None
        rig.clock.sleep(done.wait_until - rig.clock.now())
    assert events(rig).count("results.expiring") == 1
    assert rig.batch(batch.id).state is BatchState.ENDED
    rig.clock.sleep(9 * 86_400)
    rig.collect(batch.id)
    assert rig.batch(batch.id).state is BatchState.UNRECOVERABLE
    assert rig.tally.counts == {(RowState.QUARANTINED, Reason.BATCH_UNRECOVERABLE, 0): 5}


def test_the_stores_clock_alone_gives_nothing_up() -> None:
    """A wall clock that jumps a month does not make results unrecoverable while the server says otherwise."""
    rig = Rig(5)
    batch = sent(rig)
    gone = b'{"type":"error","error":{"type":"not_found_error","message":"?"}}'
    rig.faults.rules.append(lambda q, api: Response(status=404, body=gone) if results_of(q) else None)
    now = rig.store.now
    rig.store.now = lambda: now() + 40 * 86_400  # type: ignore[method-assign]
    rig.collect(batch.id)
    assert rig.batch(batch.id).state is BatchState.ENDED


def test_a_whole_run_ends_with_the_provider_and_us_agreeing() -> None:
    """Tail and all: every row in one bucket, paid answers = settled answers, nothing reserved, spent = the bill."""
    tail = {
        "w0001": Answer(text="not json"),
        "w0002": Answer(kind="errored", error_type="overloaded_error"),
        "w0003": Answer(text='{"color": "blue"}'),
        "w0004": Answer(text="", stop_reason="refusal"),
        "w0005": Answer(text="{", stop_reason="max_tokens"),
    }
    rig = Rig(60, model=answers(tail), max_rows=25)
    tally = rig.finish()
    assert tally.total == 60
    assert tally.open == 0
    batches = rig.store.batches(BatchWhere())
    assert all(batch.state is BatchState.COLLECTED for batch in batches)
    assert sum(batch.reserved for batch in batches) == 0
    assert sum(row.answers for row in rig.rows()) == rig.billed
    assert sum(batch.lines for batch in batches) == sum(batch.count for batch in batches)

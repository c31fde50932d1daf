"""The real SDK's typed client on the simulator, through both of its doors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import anthropic
import attrs
import httpx2
import pytest
from anthropic.types.messages import MessageBatch

from batchkit.testing import (
    Answer,
    Dropped,
    Handler,
    Latency,
    Request,
    Response,
    SimulatedAPI,
    SimulatedClock,
    echo_model,
    serve,
    simulated_client,
)

HOUR = 3_600.0
DAY = 24 * HOUR
MODEL = "claude-haiku-4-5"


@attrs.define
class Door:
    """A client, and the simulator behind it."""

    client: anthropic.Anthropic
    api: SimulatedAPI
    address: str

    def create(self, *texts: str, **params: Any) -> MessageBatch:
        rows: list[Any] = [request(f"row-{number}", text, **params) for number, text in enumerate(texts)]
        return self.client.messages.batches.create(requests=rows)

    def post(self, body: Any, **headers: str) -> MessageBatch:
        """Create with raw bytes, as the library does."""
        return self.client.post(
            "/v1/messages/batches",
            content=body,
            cast_to=MessageBatch,
            options={"headers": {"content-type": "application/json", **headers}, "max_retries": 0},
        )


def request(custom_id: str, text: str, **params: Any) -> dict[str, Any]:
    base = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": text}]}
    return {"custom_id": custom_id, "params": {**base, **params}}


def open_door(kind: str, api: SimulatedAPI, handler: Handler | None = None) -> Iterator[Door]:
    if kind == "transport":
        with simulated_client(api=handler or api) as client:
            yield Door(client, api, str(client.base_url).rstrip("/"))
    else:
        with (
            serve(handler or api) as server,
            anthropic.Anthropic(api_key="simulated", base_url=server.url) as client,
        ):
            yield Door(client, api, server.url)


@pytest.fixture(params=["transport", "http"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def door(kind: str) -> Iterator[Door]:
    settings: dict[str, Any] = {
        "seed": 5,
        "latency": Latency(HOUR, HOUR + 1),
        "queue_limit": 50,
        "max_bytes": 100_000,
    }
    yield from open_door(kind, SimulatedAPI(echo_model, **settings))


# -- the six batch endpoints


def test_a_batch_goes_from_create_to_results(door: Door) -> None:
    """Every request of a batch comes back once, with the answer to its own text, whatever the order."""
    batch = door.create("one", "two", "three")
    assert batch.type == "message_batch"
    assert batch.processing_status == "in_progress"
    assert batch.results_url is None
    assert batch.expires_at - batch.created_at == timedelta(days=1)
    door.api.advance(2 * HOUR)
    ended = door.client.messages.batches.retrieve(batch.id)
    assert ended.processing_status == "ended"
    assert ended.results_url == f"{door.address}/v1/messages/batches/{batch.id}/results"
    answers = {}
    for line in door.client.messages.batches.results(batch.id):
        assert line.result.type == "succeeded"
        message = line.result.message
        assert message.content[0].type == "text"
        answers[line.custom_id] = message.content[0].text
        assert (message.model, message.stop_reason, message.usage.service_tier) == (
            MODEL,
            "end_turn",
            "batch",
        )
    assert answers == {"row-0": "one", "row-1": "two", "row-2": "three"}


def test_a_batch_has_the_ten_fields_of_the_api(door: Door) -> None:
    """The raw object holds the ten documented fields, the optional ones as null."""
    batch = door.create("one")
    raw = json.loads(door.client.messages.batches.with_raw_response.retrieve(batch.id).text())
    assert set(raw) == set(MessageBatch.model_fields)
    assert [name for name, value in raw.items() if value is None] == [
        "ended_at",
        "cancel_initiated_at",
        "archived_at",
        "results_url",
    ]


def test_counts_show_processing_only_until_the_end(door: Door) -> None:
    """Before the end everything but `processing` is zero, and the sum is the batch's size at any time."""
    batch = door.create(*"abcdefg")
    door.api.advance(0.99 * HOUR)
    running = door.client.messages.batches.retrieve(batch.id).request_counts
    assert (running.processing, running.succeeded) == (7, 0)
    door.api.advance(HOUR)
    ended = door.client.messages.batches.retrieve(batch.id).request_counts
    assert (ended.processing, ended.succeeded) == (0, 7)


def test_results_are_refused_before_the_end(door: Door) -> None:
    """The results of a running batch do not exist yet: 404."""
    batch = door.create("one")
    with pytest.raises(anthropic.NotFoundError):
        door.client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=str)


def test_results_come_as_shuffled_jsonl(door: Door) -> None:
    """Results are one JSON object a line under their own content type, not in the order of the requests."""
    batch = door.create(*(f"text {number}" for number in range(30)))
    door.api.advance(2 * HOUR)
    response = door.client.messages.batches.with_raw_response.results(batch.id)
    assert response.headers["content-type"] == "application/x-jsonl"
    ids = [line.custom_id for line in response.parse()]
    assert ids != sorted(ids, key=lambda name: int(name[4:]))
    assert sorted(ids) == sorted(f"row-{number}" for number in range(30))


def test_listing_pages_through_all_batches_newest_first(door: Door) -> None:
    """The SDK's own paging sees every batch once, newest first, whatever the page's size."""
    ids = [door.create("x").id for _ in range(7)]
    for limit in (1, 2, 3, 7, 1000):
        assert [batch.id for batch in door.client.messages.batches.list(limit=limit)] == ids[::-1]
    assert [door.client.messages.batches.list(limit=limit).has_more for limit in (6, 7)] == [True, False]


def test_listing_backwards_gives_the_batches_just_before_the_cursor(door: Door) -> None:
    """`before_id` returns the nearest newer batches, and says whether there are newer ones still."""
    ids = [door.create("x").id for _ in range(5)]
    page = door.client.messages.batches.list(before_id=ids[1], limit=2)
    assert [batch.id for batch in page.data] == [ids[3], ids[2]]
    assert (page.has_more, page.first_id, page.last_id) == (True, ids[3], ids[2])
    assert [batch.id for batch in page.get_next_page().data] == [ids[4]]
    assert page.get_next_page().has_more is False


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 1001}, {"after_id": "msgbatch_no"}, {"after_id": "a", "before_id": "b"}]
)
def test_a_wrong_page_is_refused(door: Door, query: dict[str, Any]) -> None:
    """A limit outside of 1 to 1000 or an unknown cursor is the caller's mistake."""
    with pytest.raises(anthropic.BadRequestError):
        door.client.messages.batches.list(**query)


def test_a_canceled_batch_keeps_what_was_finished(door: Door) -> None:
    """A batch canceled half way drains, then holds finished rows as succeeded and the others as canceled."""
    batch = door.create(*(f"text {number}" for number in range(40)))
    door.api.advance(HOUR / 2)
    canceling = door.client.messages.batches.cancel(batch.id)
    assert canceling.processing_status == "canceling"
    assert canceling.cancel_initiated_at == datetime.fromtimestamp(door.api.now, timezone.utc)
    assert canceling.request_counts.processing == 40
    door.api.advance(5)
    assert door.client.messages.batches.cancel(batch.id) == canceling
    door.api.advance(120)
    ended = door.client.messages.batches.retrieve(batch.id)
    assert ended.processing_status == "ended"
    counts = ended.request_counts
    assert counts.succeeded + counts.canceled == 40
    assert 8 < counts.succeeded < 32
    kinds = [line.result.type for line in door.client.messages.batches.results(batch.id)]
    assert (kinds.count("succeeded"), kinds.count("canceled")) == (counts.succeeded, counts.canceled)
    assert door.api.bill().lines == counts.succeeded
    with pytest.raises(anthropic.BadRequestError):
        door.client.messages.batches.cancel(batch.id)


def test_only_an_ended_batch_can_be_deleted(door: Door) -> None:
    """A running batch is not deleted; a deleted one is gone from every endpoint, but not from the bill."""
    batch = door.create("one")
    with pytest.raises(anthropic.BadRequestError, match="still processing"):
        door.client.messages.batches.delete(batch.id)
    door.api.advance(2 * HOUR)
    deleted = door.client.messages.batches.delete(batch.id)
    assert (deleted.id, deleted.type) == (batch.id, "message_batch_deleted")
    with pytest.raises(anthropic.NotFoundError):
        door.client.messages.batches.retrieve(batch.id)
    assert list(door.client.messages.batches.list()) == []
    assert door.api.bill().times_paid() == {"row-0": 1}


def test_results_are_gone_29_days_after_creation(door: Door) -> None:
    """Results stay readable for 29 days from `created_at`; then they are archived and answer 404."""
    batch = door.create("one")
    door.api.advance(29 * DAY - 1)
    assert len(list(door.client.messages.batches.results(batch.id))) == 1
    door.api.advance(1)
    archived = door.client.messages.batches.retrieve(batch.id)
    assert archived.results_url is None
    assert archived.archived_at == batch.created_at + timedelta(days=29)
    with pytest.raises(anthropic.NotFoundError):
        door.client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=str)


def test_what_is_unfinished_after_a_day_expires(kind: str) -> None:
    """A batch that would take two days ends after one; its unfinished rows expire, unpaid."""
    api = SimulatedAPI(echo_model, latency=Latency(2 * DAY, 2 * DAY))
    for door in open_door(kind, api):
        batch = door.create(*(f"text {number}" for number in range(40)))
        api.advance(DAY)
        ended = door.client.messages.batches.retrieve(batch.id)
        assert ended.ended_at == ended.expires_at
        counts = ended.request_counts
        assert counts.succeeded + counts.expired == 40
        assert 8 < counts.expired < 32
        assert api.bill().lines == counts.succeeded


# -- refusals


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [request("same", "x"), request("same", "y")],
        [request("", "x")],
        [request("a b", "x")],
        [request("line\n", "x")],
        [request("x" * 65, "x")],
        [request("naïve", "x")],
        ["no object"],
        [{"custom_id": "no-params"}],
        [{**request("a", "x"), "label": "nightly"}],
    ],
)
def test_a_wrong_list_of_requests_is_refused_whole(door: Door, rows: list[Any]) -> None:
    """Bad or repeated ids and empty lists are refused at once, and nothing is created."""
    with pytest.raises(anthropic.BadRequestError) as caught:
        door.client.messages.batches.create(requests=rows)
    error = caught.value
    assert isinstance(error.body, dict)
    assert error.body["error"]["type"] == "invalid_request_error"
    assert error.body["request_id"] == error.request_id == error.response.headers["request-id"]
    assert door.api.state()["batches"] == []


def test_a_body_over_the_limit_meets_the_edge(door: Door) -> None:
    """Too many bytes: 413 in HTML and without a request id, from before the API."""
    with pytest.raises(anthropic.APIStatusError) as caught:
        door.create("x" * 100_001)
    assert caught.value.status_code == 413
    assert caught.value.request_id is None
    assert caught.value.response.text.startswith("<html>")
    assert door.api.state()["batches"] == []


def test_a_refusal_arrives_although_the_body_is_still_being_sent(door: Door) -> None:
    """A client that sends far more than fits into any buffer still gets the 413, not a broken connection."""
    with pytest.raises(anthropic.APIStatusError) as caught:
        door.post(b" " * 30_000_000)
    assert caught.value.status_code == 413


def test_a_streamed_body_over_the_limit_meets_the_edge(door: Door) -> None:
    """The limit also holds for a body that declares no length."""
    whole = json.dumps({"requests": [request(f"row-{n}", "x" * 1000) for n in range(200)]}).encode()
    with pytest.raises(anthropic.APIStatusError) as caught:
        door.post(whole[start : start + 5_000] for start in range(0, len(whole), 5_000))
    assert caught.value.status_code == 413


def test_more_requests_than_a_batch_may_have_are_refused(kind: str) -> None:
    """A batch with one request more than the limit is refused."""
    for door in open_door(kind, SimulatedAPI(echo_model, max_requests=3)):
        door.create("a", "b", "c")
        with pytest.raises(anthropic.BadRequestError, match="at most 3"):
            door.create("a", "b", "c", "d")


def test_a_full_queue_is_429_until_batches_end(door: Door) -> None:
    """Requests that wait count toward the queue's limit; ended ones do not."""
    client = door.client.with_options(max_retries=0)
    door.create(*map(str, range(40)))
    rows: list[Any] = [request(f"row-{number}", "x") for number in range(11)]
    with pytest.raises(anthropic.RateLimitError) as caught:
        client.messages.batches.create(requests=rows)
    assert caught.value.body["error"]["type"] == "rate_limit_error"  # type: ignore[index]
    door.api.advance(2 * HOUR)
    client.messages.batches.create(requests=rows)


def test_a_request_without_a_key_is_401(door: Door) -> None:
    """No key, no answer, and no word about whose account it is."""
    with pytest.raises(anthropic.AuthenticationError) as caught:
        door.client.get(
            "/v1/messages/batches", cast_to=str, options={"headers": {"authorization": anthropic.Omit()}}
        )
    assert caught.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]
    assert "anthropic-workspace-id" not in caught.value.response.headers


def test_an_unknown_batch_is_404(door: Door) -> None:
    """An id that was never given out is not found, for every verb."""
    batches = door.client.messages.batches
    for call in (batches.retrieve, batches.cancel, batches.delete):
        with pytest.raises(anthropic.NotFoundError):
            call("msgbatch_nobody")


def test_a_path_the_api_does_not_have_is_404(door: Door) -> None:
    """Unknown paths and methods answer in the API's own error shape."""
    with pytest.raises(anthropic.NotFoundError) as caught:
        door.client.get("/v1/organizations", cast_to=str)
    assert caught.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]


def test_a_body_that_is_not_declared_as_json_is_refused(door: Door) -> None:
    """Raw bytes without their content type are refused."""
    with pytest.raises(anthropic.BadRequestError, match="content-type"):
        door.post(b"{}", **{"content-type": "text/plain"})


def test_wrong_params_fail_row_by_row_and_unpaid(door: Door) -> None:
    """A create with wrong params succeeds; hours later each wrong row is errored in the nested shape."""
    rows: list[Any] = [
        request("bad", "x", temperature=0.5),
        request("good", "x"),
        request("zero", "x", max_tokens=0),
    ]
    batch = door.client.messages.batches.create(requests=rows)
    door.api.advance(2 * HOUR)
    kinds = {}
    for line in door.client.messages.batches.results(batch.id):
        kinds[line.custom_id] = line.result.type
        if line.result.type == "errored":
            assert line.result.error.type == "error"
            assert line.result.error.error.type == "invalid_request_error"
            assert str(line.result.error.request_id).startswith("req_")
    assert kinds == {"bad": "errored", "good": "succeeded", "zero": "errored"}
    assert door.api.bill().times_paid() == {"good": 1}


def test_a_foreign_workspace_header_is_refused(door: Door) -> None:
    """A key acts in its own workspace only, whatever the header asks for."""
    assert door.client.messages.batches.list(workspace_id=door.api.settings.workspace).data == []
    with pytest.raises(anthropic.PermissionDeniedError):
        door.client.messages.batches.list(workspace_id="wrkspc_other")


def test_a_request_without_an_api_version_is_refused(door: Door) -> None:
    """The version header is required, as it decides which parameters exist."""
    with pytest.raises(anthropic.BadRequestError, match="anthropic-version"):
        door.client.get(
            "/v1/models", cast_to=str, options={"headers": {"anthropic-version": anthropic.Omit()}}
        )


# -- bodies and connections


def test_text_with_every_line_separator_survives(door: Door) -> None:
    """U+2028 and its like inside a body come back unchanged, and do not break lines."""
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei\r\nj\U0001f600\x00"
    batch = door.create(text)
    door.api.advance(2 * HOUR)
    raw = door.client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=httpx2.Response).content
    assert raw.count(b"\n") == 1
    assert "\u2028".encode() in raw
    (line,) = door.client.messages.batches.results(batch.id)
    assert line.result.type == "succeeded"
    assert line.result.message.content[0].type == "text"
    assert line.result.message.content[0].text == text


def test_a_body_that_raises_half_way_creates_nothing(door: Door) -> None:
    """A body whose iterator raises was never sent whole: no batch exists, and the server goes on."""
    whole = json.dumps({"requests": [request("row", "x" * 500)]}).encode()

    def half() -> Iterator[bytes]:
        yield whole[: len(whole) // 2]
        raise RuntimeError("stopped by us")

    for headers in ({}, {"content-length": str(len(whole))}):
        with pytest.raises((anthropic.APIConnectionError, RuntimeError)):
            door.post(half(), **headers)
    assert door.api.state()["batches"] == []
    assert door.post(iter([whole[:100], whole[100:]])).request_counts.processing == 1


def test_an_answer_that_is_lost_leaves_a_batch_behind(kind: str) -> None:
    """A wrapper around `handle` can lose an answer: the client sees a broken connection, the batch exists."""

    class LosesAnswers:
        def __init__(self, api: SimulatedAPI) -> None:
            self.api = api

        def handle(self, request: Request) -> Response:
            response = self.api.handle(request)
            if request.method == "POST":
                raise Dropped("lost on the way back")
            return response

    api = SimulatedAPI(echo_model)
    for door in open_door(kind, api, LosesAnswers(api)):
        with pytest.raises(anthropic.APIConnectionError):
            door.post(json.dumps({"requests": [request("row", "x")]}).encode())
        assert len(list(door.client.messages.batches.list())) == 1


def test_a_body_can_be_cut_on_its_way_back(kind: str) -> None:
    """A response body that raises `Dropped` reaches the client as a broken download, never as a short one."""

    class CutsResults:
        def __init__(self, api: SimulatedAPI) -> None:
            self.api = api

        def handle(self, request: Request) -> Response:
            response = self.api.handle(request)
            if not request.path.endswith("/results"):
                return response

            def cut() -> Iterator[bytes]:
                assert not isinstance(response.body, bytes)
                yield next(response.body)[:50]
                raise Dropped("cut")

            return attrs.evolve(response, body=cut())

    api = SimulatedAPI(echo_model, latency=Latency(1, 2))
    for door in open_door(kind, api, CutsResults(api)):
        batch = door.create("one", "two")
        api.advance(5)
        with pytest.raises(Exception, match="closed connection without sending complete"):
            list(door.client.messages.batches.results(batch.id))


# -- messages and models


def test_a_direct_message_is_answered_and_paid(door: Door) -> None:
    """`messages.create` answers at once, at the standard tier, and is on the bill without a custom_id."""
    message = door.client.messages.create(
        model="claude-sonnet-4-6", max_tokens=50, messages=[{"role": "user", "content": "hello"}]
    )
    assert message.content[0].type == "text"
    assert (message.content[0].text, message.usage.service_tier) == ("hello", "standard")
    (entry,) = door.api.bill().entries()
    assert (entry["batch_id"], entry["custom_id"], entry["model"]) == (None, None, "claude-sonnet-4-6")
    assert entry["usage"]["output_tokens"] == message.usage.output_tokens


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"model": NaN}'])
def test_a_direct_message_that_is_no_json_object_is_refused(door: Door, body: bytes) -> None:
    """A body that is not one JSON object is the caller's mistake."""
    with pytest.raises(anthropic.BadRequestError):
        door.client.post(
            "/v1/messages",
            content=body,
            cast_to=str,
            options={"headers": {"content-type": "application/json"}},
        )


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"stream": True}, anthropic.BadRequestError),
        ({"model": "claude-9"}, anthropic.NotFoundError),
        ({"max_tokens": 0}, anthropic.BadRequestError),
        ({"messages": []}, anthropic.BadRequestError),
    ],
)
def test_a_wrong_direct_message_is_refused_at_once(
    door: Door, params: dict[str, Any], error: type[Exception]
) -> None:
    """What a batch refuses row by row, a direct call refuses with a status."""
    with pytest.raises(error):
        door.client.messages.create(**request("", "x", **params)["params"])
    assert door.api.bill().lines == 0


def test_tokens_are_counted_as_they_are_billed(door: Door) -> None:
    """`count_tokens` gives the input tokens that the same request is charged for."""
    messages: Any = [{"role": "user", "content": "a text of some length " * 20}]
    counted = door.client.messages.count_tokens(model=MODEL, messages=messages, system="Be brief.")
    message = door.client.messages.create(model=MODEL, max_tokens=500, messages=messages, system="Be brief.")
    assert counted.input_tokens == message.usage.input_tokens
    for model, error in (
        ("claude-9", anthropic.NotFoundError),
        ("claude-opus-5-5", anthropic.BadRequestError),
    ):
        with pytest.raises(error):
            door.client.messages.count_tokens(model=model, messages=messages, thinking={"type": "disabled"})


def test_models_are_listed_with_their_capabilities(door: Door) -> None:
    """The list names every model, and one model says what it can do and how much it takes."""
    ids = [model.id for model in door.client.models.list(limit=5)]
    assert "claude-haiku-5-5" in ids
    assert len(ids) == len(set(ids)) > 20
    card = door.client.models.retrieve("claude-opus-5-5")
    assert card.capabilities is not None
    assert card.capabilities.batch.supported
    assert card.capabilities.structured_outputs.supported
    assert not card.capabilities.thinking.types.disabled.supported
    assert (card.lifecycle, card.max_tokens, card.max_input_tokens) == ("active", 128_000, 1_000_000)
    with pytest.raises(anthropic.NotFoundError):
        door.client.models.retrieve("claude-9")


# -- the simulator's own habits


def test_answers_name_time_and_place(door: Door) -> None:
    """`Date` is virtual time; organization and workspace stand in every answer, errors included."""
    door.api.advance(1_800_000_000 - door.api.now)
    headers = door.client.messages.batches.with_raw_response.list().headers
    assert headers.get_list("date") == ["Fri, 15 Jan 2027 08:00:00 GMT"]
    assert headers["anthropic-organization-id"] == door.api.settings.organization
    assert headers["anthropic-workspace-id"] == door.api.settings.workspace
    assert headers["request-id"].startswith("req_")
    with pytest.raises(anthropic.NotFoundError) as caught:
        door.client.messages.batches.retrieve("msgbatch_nobody")
    assert caught.value.response.headers["anthropic-workspace-id"] == door.api.settings.workspace


def test_a_key_sees_its_own_workspace_only(kind: str) -> None:
    """Each key sees the batches of its workspace; a key of none is refused."""
    api = SimulatedAPI(echo_model, workspaces={"simulated": "wrkspc_a", "other": "wrkspc_b"})
    for door in open_door(kind, api):
        batch = door.create("one")
        other = door.client.with_options(api_key="other")
        assert list(other.messages.batches.list()) == []
        with pytest.raises(anthropic.NotFoundError):
            other.messages.batches.retrieve(batch.id)
        with pytest.raises(anthropic.AuthenticationError):
            door.client.with_options(api_key="stranger").messages.batches.list()


def test_both_doors_tell_the_same_story() -> None:
    """One seed, one history: ids, times, answers and their order are the same through either door."""
    stories = []
    for kind in ("transport", "http"):
        for door in open_door(kind, SimulatedAPI(echo_model, seed=11)):
            batch = door.create(*(f"text {number}" for number in range(20)))
            door.api.advance(2 * DAY)
            ended = door.client.messages.batches.retrieve(batch.id)
            lines = [line.model_dump() for line in door.client.messages.batches.results(batch.id)]
            stories.append((ended.model_dump(exclude={"results_url"}), lines))
    assert stories[0] == stories[1]


def test_a_clock_over_http_moves_the_servers_time() -> None:
    """Sleeping on a server's clock passes virtual hours at once; both sides agree on the time."""
    api = SimulatedAPI(echo_model)
    with serve(api) as server:
        clock = SimulatedClock(server.url)
        started = clock.now()
        clock.sleep(5 * HOUR)
        assert clock.now() == clock.monotonic() == api.now == started + 5 * HOUR
        api.advance(60)
        assert clock.now() == started + 5 * HOUR
        assert clock.refresh() == started + 5 * HOUR + 60


def test_the_bill_and_the_state_can_be_read_over_http(door: Door) -> None:
    """The control endpoints tell totals, entries and state without a key."""
    door.create("one", "two")
    door.api.advance(2 * HOUR)
    state = json.loads(door.client.get("/_sim/state", cast_to=httpx2.Response).content)
    totals = json.loads(door.client.get("/_sim/bill", cast_to=httpx2.Response).content)
    detail = door.client.get(
        "/_sim/bill", cast_to=httpx2.Response, options={"params": {"detail": "1"}}
    ).content
    (batch,) = state["batches"]
    assert (state["now"], state["waiting"]) == (door.api.now, 0)
    assert (batch["processing_status"], batch["request_counts"]["succeeded"]) == ("ended", 2)
    assert (totals["lines"], totals["batches"], totals["models"][MODEL]["lines"]) == (2, 1, 2)
    entries = [json.loads(line) for line in detail.splitlines()]
    assert entries == list(door.api.bill().entries())
    assert sorted(entry["custom_id"] for entry in entries) == ["row-0", "row-1"]


def test_a_model_can_overload_a_direct_call() -> None:
    """What a model answers as errored becomes a status for a direct call, and the next try asks it anew."""

    def moody(params: Any, rng: Any) -> Answer:
        if rng.random() < 0.5:
            return Answer(kind="errored", error_type="overloaded_error", error_message="Overloaded")
        return Answer(text="fine")

    api = SimulatedAPI(moody, seed=3)
    with simulated_client(api=api) as client:
        seen = []
        for _ in range(20):
            try:
                client.with_options(max_retries=0).messages.create(**request("", "same")["params"])
                seen.append(200)
            except anthropic.OverloadedError as error:
                seen.append(error.status_code)
    assert set(seen) == {200, 529}
    assert api.bill().lines == seen.count(200)


def test_the_shipped_model_answers_unless_told_otherwise() -> None:
    """Without a model of one's own the client talks to the shipped one; its settings are one's own."""
    asked: Any = request("", "Title: USB cable\nDescription: A cable of two metres.")["params"]
    with simulated_client(seed=1, queue_limit=7) as client:
        message = client.messages.create(**asked)
        assert message.usage.output_tokens > 0
        rows: list[Any] = [request(f"row-{number}", "x") for number in range(8)]
        with pytest.raises(anthropic.RateLimitError, match="limit of 7"):
            client.with_options(max_retries=0).messages.batches.create(requests=rows)
    with pytest.raises(TypeError, match="its own settings"):
        simulated_client(api=SimulatedAPI(echo_model), seed=2)

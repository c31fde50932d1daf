"""The gateway: plain values in and out of the real SDK, one credential per snapshot, reads retried briefly."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Annotated, Any

import anthropic
import httpx2
import pytest
from pydantic import BaseModel, Field

from batchkit.api import Gateway, wire_schema
from batchkit.body import GuardedBody
from batchkit.errors import ProviderError, UsageError
from batchkit.ids import RemoteId
from batchkit.testing import FakeClock

BATCH = {
    "id": "msgbatch_1",
    "type": "message_batch",
    "processing_status": "in_progress",
    "request_counts": {"processing": 3, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
    "created_at": "2026-11-22T10:00:00Z",
    "expires_at": "2026-11-23T10:00:00Z",
    "ended_at": None,
}
HEADERS = {
    "date": "Sun, 22 Nov 2026 10:00:00 GMT",
    "anthropic-organization-id": "org",
    "anthropic-workspace-id": "ws",
}
ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}

Handler = Callable[[httpx2.Request], httpx2.Response]


class Wire:
    """An HTTP transport that answers from a function and keeps the requests."""

    def __init__(self, *answers: Handler | httpx2.Response) -> None:
        self.requests: list[httpx2.Request] = []
        self._answers = list(answers)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, httpx2.Response):
            return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)
        return answer(request)


def gateway_on(wire: Wire, clock: FakeClock | None = None, **options: Any) -> Gateway:
    http = httpx2.Client(transport=httpx2.MockTransport(wire))
    options.setdefault("api_key", "secret-key")
    client = anthropic.Anthropic(base_url="http://api.test/prefix", http_client=http, **options)
    return Gateway(client, clock=clock or FakeClock())


def ok(value: Any, **headers: str) -> httpx2.Response:
    return httpx2.Response(200, json=value, headers={**HEADERS, **headers})


def test_a_page_of_the_list_says_where_and_when_it_was_taken() -> None:
    """Items, place, server time and age come as plain values, and paging passes its arguments."""
    wire = Wire(ok({"data": [BATCH], "has_more": True}, age="5"))
    page = gateway_on(wire).list(7, after_id=RemoteId("msgbatch_0"))
    assert [item.id for item in page.items] == ["msgbatch_1"]
    assert page.items[0].total == 3
    assert page.items[0].seen_at == page.date == page.items[0].created_at
    assert (page.has_more, page.age) == (True, 5.0)
    assert (page.place.organization, page.place.workspace) == ("org", "ws")
    assert page.place.base_url == "http://api.test/prefix"
    assert dict(wire.requests[0].url.params) == {"limit": "7", "after_id": "msgbatch_0"}


@pytest.mark.parametrize("body", [[], {}, {"data": None}, {"data": [{"id": "x"}]}, {"data": [None]}])
def test_a_list_that_is_none_is_an_error(body: Any) -> None:
    """A list answer of another shape is never taken for an empty list."""
    with pytest.raises(ProviderError, match="list"):
        gateway_on(Wire(ok(body))).list()


def test_a_404_is_none_and_other_errors_are_raised() -> None:
    """404 on a batch gives None; a refusal is raised with its status and the API's words, at the first try."""
    error = {"type": "error", "error": {"type": "permission_error", "message": "not yours"}}
    assert gateway_on(Wire(httpx2.Response(404, json=ERROR))).retrieve(RemoteId("x")) is None
    wire = Wire(httpx2.Response(403, json=error))
    with pytest.raises(ProviderError, match="permission_error: not yours") as caught:
        gateway_on(wire).retrieve(RemoteId("x"))
    assert caught.value.status == 403
    assert len(wire.requests) == 1


def test_another_batch_than_asked_for_is_an_error() -> None:
    """An answer about another id is not taken."""
    with pytest.raises(ProviderError):
        gateway_on(Wire(ok(BATCH))).retrieve(RemoteId("msgbatch_2"))


@pytest.mark.parametrize("status", [429, 500, 502, 529])
def test_reads_are_tried_again_within_about_two_seconds(status: int) -> None:
    """A read that fails is tried up to four times, in about two seconds at most."""
    clock = FakeClock()
    wire = Wire(httpx2.Response(status, json=ERROR), httpx2.Response(status, json=ERROR), ok(BATCH))
    assert gateway_on(wire, clock).retrieve(RemoteId("msgbatch_1")) is not None
    assert len(wire.requests) == 3
    wire = Wire(httpx2.Response(status, json=ERROR))
    with pytest.raises(ProviderError) as caught:
        gateway_on(wire, clock).retrieve(RemoteId("msgbatch_1"))
    assert (caught.value.status, len(wire.requests)) == (status, 4)
    assert clock.monotonic() < 5


def test_a_long_wait_asked_for_is_handed_on() -> None:
    """When the server asks for a longer wait than a read is worth, the caller gets it instead of a retry."""
    wire = Wire(httpx2.Response(429, json=ERROR, headers={"retry-after": "40"}))
    with pytest.raises(ProviderError) as caught:
        gateway_on(wire).list()
    assert caught.value.retry_after == 40
    assert len(wire.requests) == 1


def test_a_redirect_is_not_followed() -> None:
    """A redirect of a read is an error: the key goes to the client's own host only."""
    wire = Wire(httpx2.Response(302, headers={"location": "http://evil.test/"}))
    with pytest.raises(ProviderError) as caught:
        gateway_on(wire).list()
    assert caught.value.status == 302
    assert {request.url.host for request in wire.requests} == {"api.test"}


def test_results_come_from_our_own_path() -> None:
    """The server's results_url is not looked at: path and host are ours, and the bytes come as they are."""
    wire = Wire(httpx2.Response(200, content=b'{"a":1}\n{"b":2}\n'))
    with gateway_on(wire).results(RemoteId("msgbatch_1")) as chunks:
        assert b"".join(chunks) == b'{"a":1}\n{"b":2}\n'
    assert [str(request.url) for request in wire.requests] == [
        "http://api.test/prefix/v1/messages/batches/msgbatch_1/results"
    ]


@pytest.mark.parametrize("remote", ["..", "", "a b", "x\n", "é"])
def test_an_id_that_is_none_never_becomes_a_path(remote: str) -> None:
    """An id is printable ASCII and no path step, or it is refused before any request."""
    wire = Wire(ok(BATCH))
    with pytest.raises(UsageError):
        gateway_on(wire).retrieve(RemoteId(remote))
    assert wire.requests == []


def test_an_id_is_quoted_in_the_path() -> None:
    """Ids are opaque: a slash or question mark in one stays inside its path segment."""
    wire = Wire(httpx2.Response(404, json=ERROR))
    gateway_on(wire).retrieve(RemoteId("a/../b?c"))
    assert wire.requests[0].url.raw_path == b"/prefix/v1/messages/batches/a%2F..%2Fb%3Fc"


def test_the_first_line_is_read_without_the_rest() -> None:
    """The first line is given as soon as it is whole; an empty file has none."""
    wire = Wire(httpx2.Response(200, content=b"\n" + b'{"a":1}\n' * 10))
    assert gateway_on(wire).first_line(RemoteId("x")) == b'{"a":1}'
    assert gateway_on(Wire(httpx2.Response(200, content=b""))).first_line(RemoteId("x")) is None


def test_cancel_asks_once() -> None:
    """A cancel is one POST without a body, never repeated; 404 gives None."""
    wire = Wire(ok({**BATCH, "processing_status": "canceling"}))
    found = gateway_on(wire).cancel(RemoteId("msgbatch_1"))
    assert found is not None
    assert (found.status, found.ended) == ("canceling", False)
    assert wire.requests[0].url.path == "/prefix/v1/messages/batches/msgbatch_1/cancel"
    assert gateway_on(Wire(httpx2.Response(404, json=ERROR))).cancel(RemoteId("x")) is None
    wire = Wire(httpx2.Response(500, json=ERROR))
    with pytest.raises(ProviderError):
        gateway_on(wire).cancel(RemoteId("x"))
    assert len(wire.requests) == 1


def test_live_calls_give_plain_answers() -> None:
    """A message, a token count and a model come as the API sent them."""
    assert gateway_on(Wire(ok({"id": "msg_1"}))).message({"model": "m"}) == {"id": "msg_1"}
    assert gateway_on(Wire(ok({"id": "m"}))).model("a/b") == {"id": "m"}
    wire = Wire(ok({"input_tokens": 9}))
    assert gateway_on(wire).count_tokens({"model": "m", "messages": [], "max_tokens": 5}) == 9
    assert json.loads(wire.requests[0].content) == {"model": "m", "messages": []}
    with pytest.raises(ProviderError):
        gateway_on(Wire(ok({}))).count_tokens({})
    with pytest.raises(ProviderError):
        gateway_on(Wire(ok([]))).message({})


def create(gateway: Gateway) -> Any:
    items = [b'{"x":1}'] * 3
    body = GuardedBody(
        lambda: items, GuardedBody.length_of(map(len, items)), check=lambda: None, fence=lambda: None
    )
    return gateway.create(body)


def reading(answer: httpx2.Response) -> Handler:
    def handle(request: httpx2.Request) -> httpx2.Response:
        request.read()
        return answer

    return handle


def test_a_create_declares_its_length_and_tells_the_facts() -> None:
    """The body goes out with its length and as JSON; the answer comes back as facts, not as an object."""
    wire = Wire(reading(ok(BATCH, **{"request-id": "req_1"})))
    answer = create(gateway_on(wire))
    request = wire.requests[0]
    assert request.headers["content-length"] == str(len(request.content))
    assert "transfer-encoding" not in request.headers
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.content) == {"requests": [{"x": 1}] * 3}
    assert (answer.status, answer.handed_over, answer.request_id) == (200, True, "req_1")
    assert answer.body["id"] == "msgbatch_1"
    assert answer.place.workspace == "ws"
    assert answer.date is not None


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 529])
def test_a_create_is_tried_once_whatever_the_client_was_told(status: int) -> None:
    """Retries of the client, and headers that ask for them, do not repeat a create."""
    headers = {"x-should-retry": "true", "retry-after": "0"}
    wire = Wire(reading(httpx2.Response(status, json=ERROR, headers=headers)))
    answer = create(gateway_on(wire, max_retries=5))
    assert len(wire.requests) == 1
    assert (answer.status, answer.error_type, answer.error_message) == (status, "overloaded_error", "busy")


def test_the_code_of_a_spend_limit_is_read() -> None:
    """The error's own code, in its details, is one of the facts."""
    details = {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "m", "details": {"error_code": "c"}},
    }
    answer = create(gateway_on(Wire(reading(httpx2.Response(429, json=details)))))
    assert answer.error_code == "c"


class Rotating:
    """A provider of tokens that gives another one at each call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *, force_refresh: bool = False) -> Any:
        from anthropic.lib.credentials import AccessToken

        self.calls += 1
        return AccessToken(token=f"token-{self.calls}", expires_at=0)


def test_a_snapshot_keeps_one_credential() -> None:
    """Head, claim and POST of one snapshot carry the same token, however often the provider rotates it."""
    wire = Wire(reading(ok({"data": [], "has_more": False})))
    gateway = gateway_on(wire, api_key=None, credentials=Rotating())
    snapshot = gateway.snapshot()
    snapshot.list()
    create(snapshot)
    snapshot.list()
    assert snapshot.snapshot() is snapshot
    gateway.snapshot().list()
    tokens = [request.headers["authorization"] for request in wire.requests]
    assert len(set(tokens[:3])) == 1
    assert tokens[3] != tokens[0]
    assert {request.url.host for request in wire.requests} == {"api.test"}


def test_a_snapshot_outlives_a_changed_key() -> None:
    """Whoever sets another key on the client meanwhile changes no snapshot."""
    wire = Wire(ok({"data": [], "has_more": False}))
    gateway = gateway_on(wire)
    snapshot = gateway.snapshot()
    gateway.client.api_key = "other"
    snapshot.list()
    assert wire.requests[0].headers["authorization"] == "Bearer secret-key"


def test_without_a_key_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A gateway without a client and without a key in the environment fails at the first call, by name."""
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path))
    gateway = Gateway()
    with pytest.raises((ProviderError, UsageError), match=re.compile("key|auth|credential", re.IGNORECASE)):
        gateway.list()


class Shape(BaseModel):
    summary: Annotated[str, Field(max_length=120)]
    tags: list[str] = []


def test_the_wire_schema_is_the_sdks() -> None:
    """A contract's schema, as class or as dict, becomes what structured outputs take."""
    made = wire_schema(Shape)
    assert made == wire_schema(Shape.model_json_schema())
    assert made["additionalProperties"] is False
    assert "maxLength" not in made["properties"]["summary"]


def test_a_schema_the_sdk_cannot_express_is_refused() -> None:
    """A schema without a type is the caller's to change."""
    with pytest.raises(UsageError, match="schema"):
        wire_schema({"type": "object", "properties": {"a": {"description": "of any type"}}})

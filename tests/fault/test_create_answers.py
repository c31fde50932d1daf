"""Every bad answer to a create, over a real connection with the real SDK: one POST, and the right conclusion."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import anthropic
import pytest
from hostile import HostileServer, Reply, hang_up, http, refused_port, reset, say, silence
from rig import Rig

from batchkit.api import Gateway
from batchkit.body import GuardedBody
from batchkit.clock import SystemClock
from batchkit.doubt import Acknowledged, Cause, Doubtful, Refused, classify
from batchkit.states import BatchState, RowState


def message_batch(total: int, **changes: Any) -> bytes:
    counts = {"processing": total, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    whole = {
        "id": "msgbatch_1",
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": counts,
        "created_at": "2026-11-22T10:00:00Z",
        "expires_at": "2026-11-23T10:00:00Z",
        "ended_at": None,
        "cancel_initiated_at": None,
        "archived_at": None,
        "results_url": None,
        **changes,
    }
    return json.dumps(whole).encode()


def error(kind: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": "no"}}).encode()


HTML = b"<html><body>Gateway</body></html>"
GOOD = http(200, message_batch(5))

DOUBTFUL: dict[str, Reply] = {
    "the connection ends without an answer": hang_up,
    "the connection is reset": reset,
    "500": say(http(500, error("api_error"))),
    "502 page": say(http(502, HTML, kind="text/html")),
    "503 that asks to retry": say(http(503, error("api_error"), "retry-after: 0")),
    "504 page": say(http(504, HTML, kind="text/html")),
    "529 that asks to retry": say(
        http(529, error("overloaded_error"), "x-should-retry: true", "retry-after-ms: 1")
    ),
    "408": say(http(408, error("timeout_error"), "x-should-retry: true")),
    "409": say(http(409, error("invalid_request_error"))),
    "200 page": say(http(200, HTML, kind="text/html")),
    "200 {}": say(http(200, b"{}")),
    "200 null": say(http(200, b"null")),
    "200 of another size": say(http(200, message_batch(6))),
    "200 without an id": say(http(200, message_batch(5, id=None))),
    "200 with half a body": say(GOOD[:-200]),
    "half a header": say(GOOD[:40]),
    "no HTTP at all": say(b"SSH-2.0-OpenSSH\r\n"),
    "a redirect that keeps the method": say(http(307, b"", "location: /v1/messages/batches")),
    "a redirect": say(http(302, b"", "location: /v1/messages/batches")),
    "401 page": say(http(401, HTML, kind="text/html")),
    "429 page": say(http(429, HTML, "retry-after: 0", kind="text/html")),
}

REFUSED: dict[str, tuple[Reply, Cause]] = {
    "400": (say(http(400, error("invalid_request_error"))), Cause.PERSON),
    "401": (say(http(401, error("authentication_error"))), Cause.PERSON),
    "413": (say(http(413, error("request_too_large"))), Cause.TOO_LARGE),
    "413 page": (say(http(413, HTML, kind="text/html")), Cause.TOO_LARGE),
    "429 with a wait": (say(http(429, error("rate_limit_error"), "retry-after: 30")), Cause.RATE),
    "429 that asks to retry": (
        say(http(429, error("rate_limit_error"), "x-should-retry: true")),
        Cause.QUEUE,
    ),
}


def client_of(url: str, **options: Any) -> anthropic.Anthropic:
    # Retries stay at the SDK's default: switching them off is batchkit's business.
    return anthropic.Anthropic(api_key="secret-key", base_url=url, **options)


def rig_on(server: HostileServer) -> Rig:
    return Rig(5, client=client_of(server.url))


@pytest.mark.parametrize("name", DOUBTFUL)
def test_an_answer_that_proves_nothing_leaves_one_post_and_a_doubt(name: str) -> None:
    """Whatever comes back that is neither proof nor refusal: one POST on the wire, and the rows wait."""
    with HostileServer(DOUBTFUL[name]) as server:
        rig = rig_on(server)
        sent = rig.send()
        assert sent.batch is not None
        assert sent.batch.state is BatchState.DOUBTFUL
        assert (server.posts, server.partial) == (1, 0)
        assert len(json.loads(server.bodies[0])["requests"]) == 5
        assert rig.tally.in_state(RowState.SUBMITTED) == 5
        assert rig.send().batch is None
        assert server.posts == 1


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_leaves_one_post_and_free_rows(name: str) -> None:
    """A refusal in the API's own words, or a 413 of the edge, is definite."""
    reply, cause = REFUSED[name]
    with HostileServer(reply) as server:
        rig = rig_on(server)
        sent = rig.send()
        assert sent.batch is not None
        assert sent.batch.state is BatchState.REJECTED
        assert sent.batch.notes["refused"]["cause"] == cause.value  # type: ignore[index]
        assert server.posts == 1
        assert rig.tally.in_state(RowState.PENDING) == 5


def test_an_acknowledgement_is_one() -> None:
    """The good answer over the same connection is taken for what it is."""
    with HostileServer(say(GOOD)) as server:
        sent = rig_on(server).send()
        assert sent.batch is not None
        assert (sent.batch.state, sent.batch.remote_id) == (BatchState.LIVE, "msgbatch_1")
        assert server.posts == 1


def test_an_answer_with_an_odd_size_names_the_first_suspect() -> None:
    """The id in an acknowledgement of another size is looked at before the list is."""
    with HostileServer(DOUBTFUL["200 of another size"]) as server:
        rig = rig_on(server)
        rig.send()
        rig.resolve()
        assert any(path.endswith("/msgbatch_1") for path in server.paths)


def body_of(size: int, *, chunk: int = 65_536, slow: float = 0.0) -> GuardedBody:
    items = [b'{"x":"' + b"y" * 1_000 + b'"}'] * size

    def check() -> None:
        time.sleep(slow)

    return GuardedBody(
        lambda: items, GuardedBody.length_of(map(len, items)), check=check, fence=lambda: None, chunk=chunk
    )


def create(url: str, body: GuardedBody, *, timeout: float = 120.0, **options: Any) -> Any:
    return classify(Gateway(client_of(url, **options)).create(body, timeout=timeout), 5)


def test_a_read_timeout_is_doubt() -> None:
    """No answer within the time to wait, after the whole body left: doubt, and no second POST."""
    with HostileServer(silence(1.5)) as server:
        assert isinstance(create(server.url, body_of(5), timeout=0.3), Doubtful)
        assert server.posts == 1


def test_an_answer_that_trickles_ends_at_its_time() -> None:
    """An answer that arrives a byte at a time for ever is given up, and is a doubt."""

    def trickle(connection: Any) -> None:
        connection.sendall(http(200, b"", length=10_000))
        for _ in range(30):
            connection.sendall(b"{")
            time.sleep(0.1)

    with HostileServer(trickle) as server:
        began = time.monotonic()
        assert isinstance(create(server.url, body_of(5), timeout=0.5), Doubtful)
        assert time.monotonic() - began < 2.5


def test_a_connection_that_was_never_made_is_definite() -> None:
    """Refused connections leave no doubt: nothing was sent."""
    verdict = create(f"http://127.0.0.1:{refused_port()}", body_of(5))
    assert isinstance(verdict, Refused)
    assert verdict.cause is Cause.UNSENT
    assert "ConnectError" in verdict.message


def test_a_server_that_leaves_in_mid_body_leaves_no_doubt() -> None:
    """A connection that breaks before our last chunk left never carried a whole request."""
    with HostileServer(reset, read_up_to=100_000) as server:
        verdict = create(server.url, body_of(20_000))
    assert isinstance(verdict, Refused)
    assert (server.posts, server.partial) == (0, 1)


def test_a_body_that_stops_itself_creates_nothing() -> None:
    """Our own error in mid-body is definite although the SDK calls it a connection error."""
    body = body_of(2_000)
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("stop")

    body._check = check
    with HostileServer(say(GOOD)) as server:
        verdict = create(server.url, body)
    assert isinstance(verdict, Refused)
    assert (server.posts, server.partial) == (0, 1)


def test_an_http_client_of_the_users_is_used_and_still_sends_once() -> None:
    """With the user's own HTTP client, which follows redirects, a redirect is still not followed."""
    import httpx2

    with HostileServer(DOUBTFUL["a redirect that keeps the method"]) as server:
        http_client = httpx2.Client(follow_redirects=True)
        assert isinstance(create(server.url, body_of(5), http_client=http_client), Doubtful)
        assert server.posts == 1
        http_client.close()


def test_a_middleware_that_retries_cannot_send_the_body_twice() -> None:
    """A middleware of the user's that repeats the call gets an error from the body, not a second batch."""
    calls: list[int] = []

    def again(request: Any, call_next: Any) -> Any:
        for _ in range(3):
            calls.append(1)
            try:
                response = call_next(request)
            except Exception:
                continue
            if response.http_response.is_success:
                return response
        raise RuntimeError("gave up")

    with HostileServer(DOUBTFUL["500"]) as server:
        assert isinstance(create(server.url, body_of(5), middleware=[again]), Doubtful)
        assert len(calls) == 3
        assert server.posts == 1


def test_debug_logs_of_the_sdk_do_not_consume_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the SDK's debug log on, the body is still sent whole, and only over the wire."""
    import logging

    logger = logging.getLogger("anthropic")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        with HostileServer(say(GOOD)) as server:
            assert isinstance(create(server.url, body_of(5)), Acknowledged)
            assert len(json.loads(server.bodies[0])["requests"]) == 5
    finally:
        logger.setLevel(before)


def test_no_error_carries_the_key_or_the_body() -> None:
    """What a failed read raises names path and status; neither key nor request hang on it."""
    from batchkit.errors import ProviderError

    gateway = Gateway(client_of(f"http://127.0.0.1:{refused_port()}"), clock=SystemClock())
    with pytest.raises(ProviderError) as caught:
        gateway.model("nope")
    seen: BaseException | None = caught.value
    while seen is not None:
        assert "secret-key" not in repr(vars(seen)) + repr(seen)
        assert not hasattr(seen, "request")
        seen = seen.__cause__
    assert caught.value.__suppress_context__


KILLED = """
    import sys, time
    import anthropic
    from batchkit.api import Gateway
    from batchkit.body import GuardedBody

    items = [b'{"x":"' + b"y" * 1_000 + b'"}'] * 20_000
    def check():
        print("chunk", flush=True)
        time.sleep(0.02)
    body = GuardedBody(lambda: items, GuardedBody.length_of(map(len, items)), check=check, fence=lambda: None)
    Gateway(anthropic.Anthropic(api_key="k", base_url=sys.argv[1])).create(body)
"""


def test_a_process_killed_in_mid_body_created_nothing() -> None:
    """SIGKILL while the body is on its way: the request never completes at the server."""
    with HostileServer(say(GOOD)) as server:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), server.url],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        ) as child:
            assert child.stdout is not None
            try:
                told = [child.stdout.readline() for _ in range(20)]
            finally:
                child.send_signal(signal.SIGKILL)
        assert told == [b"chunk\n"] * 20
        until = time.monotonic() + 10
        while not server.partial and time.monotonic() < until:
            time.sleep(0.02)
        assert (server.posts, server.partial) == (0, 1)

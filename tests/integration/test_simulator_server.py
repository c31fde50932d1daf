"""The simulator as a server: raw connections, and a process that is killed and started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anthropic
import pytest

from batchkit.testing import Answer, Latency, SimulatedAPI, SimulatedClock, echo_model, serve
from batchkit.testing.server import main


def exchange(address: str, text: str) -> tuple[str, str]:
    """Send raw bytes, close our side, and return the answer's head and body."""
    parts = urlsplit(address)
    with socket.create_connection(("127.0.0.1", parts.port or 80), timeout=5) as connection:
        connection.sendall(text.encode())
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.decode().partition("\r\n\r\n")
    return head, body


ROW = {
    "custom_id": "row",
    "params": {
        "model": "claude-haiku-4-5",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "text"}],
    },
}
CREATE = (
    "POST /v1/messages/batches HTTP/1.1\r\nhost: simulator\r\nx-api-key: key\r\n"
    "anthropic-version: 2026-10-21\r\ncontent-type: application/json\r\n"
)
BODY = json.dumps({"requests": [ROW]})


@pytest.mark.parametrize(
    "rest",
    [
        f"content-length: {len(BODY)}\r\n\r\n{BODY[:-1]}",
        f"content-length: {len(BODY)}\r\n\r\n",
        f"transfer-encoding: chunked\r\n\r\n{len(BODY):x}\r\n{BODY}\r\n",
        f"transfer-encoding: chunked\r\n\r\n{len(BODY):x}\r\n{BODY}\r\n0\r\n",
        f"transfer-encoding: chunked\r\n\r\n{len(BODY):x}\r\n{BODY[:-5]}",
        f"transfer-encoding: chunked\r\n\r\n{len(BODY) - 5:x}\r\n{BODY}\r\n0\r\n\r\n",
        f"transfer-encoding: chunked\r\n\r\n{BODY}",
    ],
)
def test_a_body_cut_short_creates_nothing(rest: str) -> None:
    """A body that ends before its length or its last chunk never was a request: no answer, no batch."""
    api = SimulatedAPI(echo_model)
    with serve(api) as server:
        assert exchange(server.url, CREATE + rest) == ("", "")
        assert api.state()["batches"] == []


@pytest.mark.parametrize(
    "rest",
    [
        f"content-length: {len(BODY)}\r\n\r\n{BODY}",
        f"transfer-encoding: chunked\r\n\r\n{len(BODY):X};ext=1\r\n{BODY}\r\n0\r\ntrailer: x\r\n\r\n",
    ],
)
def test_a_whole_body_creates_one_batch(rest: str) -> None:
    """A body with its length or its last chunk creates one batch, and the connection takes a second request."""
    api = SimulatedAPI(echo_model)
    again = "GET /v1/messages/batches HTTP/1.1\r\nhost: simulator\r\nx-api-key: key\r\nanthropic-version: 1\r\n\r\n"
    with serve(api) as server:
        head, body = exchange(server.url, CREATE + rest + again)
        assert head.startswith("HTTP/1.1 200 OK")
        assert body.count('"type":"message_batch"') == 2
        assert len(api.state()["batches"]) == 1


# -- the process


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the server as users do, and return it with the address it prints."""
    command = [
        sys.executable,
        "-m",
        "batchkit.testing.server",
        "--model",
        "batchkit.testing:echo_model",
        *arguments,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield running, running.stdout.readline().strip()
        finally:
            running.kill()


def test_a_killed_server_continues_where_it_was(tmp_path: Path) -> None:
    """A server killed without warning and started again has the same batches, ids, time, answers and bill."""
    arguments = (
        "--seed",
        "9",
        "--state",
        str(tmp_path / "sim.state"),
        "--latency-min",
        "60",
        "--latency-max",
        "90",
    )
    rows: list[Any] = [{**ROW, "custom_id": f"row-{number}"} for number in range(5)]

    def story(client: anthropic.Anthropic) -> Any:
        results = [
            list(client.messages.batches.results(batch.id)) for batch in client.messages.batches.list()
        ]
        return results, client.get("/_sim/bill", cast_to=object)

    with process("--port", "0", *arguments) as (running, address):
        with anthropic.Anthropic(api_key="key", base_url=address) as client:
            client.messages.batches.create(requests=rows)
            SimulatedClock(address).sleep(100)
            second = client.messages.batches.create(requests=rows)
            SimulatedClock(address).sleep(100)
            before = story(client)
            last = client.messages.batches.create(requests=rows)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    with (
        process("--port", str(urlsplit(address).port), *arguments) as (_, again),
        anthropic.Anthropic(api_key="key", base_url=again) as client,
    ):
        assert again == address
        assert client.messages.batches.retrieve(last.id) == last
        client.messages.batches.cancel(last.id)
        SimulatedClock(address).sleep(100)
        after = story(client)
        assert after[0][1:] == before[0]
        newest = client.messages.batches.retrieve(last.id)
        assert newest.created_at > second.created_at
        assert newest.processing_status == "ended"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_asked_to_stop_stops(number: signal.Signals) -> None:
    """Interrupted or terminated, the process ends without an error and without a word."""
    with process("--port", "0") as (running, address):
        assert address.startswith("http://127.0.0.1:")
        running.send_signal(number)
        _, complaints = running.communicate(timeout=60)
        assert (running.returncode, complaints) == (0, "")


def test_a_model_that_fails_is_reported_and_breaks_the_connection(capfd: pytest.CaptureFixture[str]) -> None:
    """A bug in a user's model shows its traceback where the server runs, and the server goes on."""

    def broken(params: Any, rng: Any) -> Answer:
        raise ZeroDivisionError("a bug in the model")

    api = SimulatedAPI(broken, latency=Latency(1, 2))
    with (
        serve(api) as server,
        anthropic.Anthropic(api_key="key", base_url=server.url, max_retries=0) as client,
    ):
        message = ROW["params"]
        with pytest.raises(anthropic.APIConnectionError):
            client.post("/v1/messages", body=message, cast_to=object)
        assert client.messages.batches.list().data == []
    assert "a bug in the model" in capfd.readouterr().err


def test_the_process_never_loads_the_sdk() -> None:
    """The server and its command line start without the SDK, so that a client's process is the only user of it."""
    code = "import sys, batchkit.testing.server; sys.exit('anthropic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_state_of_another_seed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Starting on a state that was written under another seed ends with a message, not with a mixed history."""
    state = tmp_path / "sim.state"
    SimulatedAPI(echo_model, seed=1, state=state).close()
    assert main(["--seed", "2", "--state", str(state)]) == 2
    assert "written with seed 1" in capsys.readouterr().err


def test_two_servers_never_share_a_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A state that is in use is refused to a second simulator."""
    api = SimulatedAPI(echo_model, state=tmp_path / "sim.state")
    assert main(["--state", str(tmp_path / "sim.state")]) == 2
    assert "in use by another simulator" in capsys.readouterr().err
    api.close()

"""A loopback server for benchmarks: ``python server.py`` prints its address and serves until it is ended.

It does as little as it can: a batch is ended as soon as it is created, and the result lines are joined
from bytes made beforehand, in shuffled order. It runs in a process of its own, so none of its work counts.
"""

from __future__ import annotations

import json
import random
import re
import socket
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import workload

# In every program's body the custom id is the first thing of a request, and no text of the workload looks like it.
_ID = re.compile(rb'"custom_id": ?"([A-Za-z0-9_-]{1,64})"')
_NUMBER = re.compile(rb"SKU-(\d+)")
_LINES = 200


class Batches:
    """What was created, by id."""

    def __init__(self) -> None:
        self._ids: dict[str, list[bytes]] = {}
        self._tails = workload.result_tails()
        self._created: dict[str, str] = {}

    def create(self, body: bytearray) -> dict[str, object]:
        """Take a batch."""
        name = f"msgbatch_{len(self._ids):024d}"
        # In this order: who lists meanwhile must find all of what it finds.
        self._created[name] = _stamp(0)
        self._ids[name] = _ID.findall(body)
        return self.batch(name)

    def batch(self, name: str) -> dict[str, object]:
        """Describe a batch: ended."""
        count = len(self._ids[name])
        return {
            "id": name,
            "type": "message_batch",
            "processing_status": "ended",
            "request_counts": {
                "processing": 0,
                "succeeded": count,
                "errored": 0,
                "canceled": 0,
                "expired": 0,
            },
            "created_at": self._created[name],
            "expires_at": _stamp(24),
            "ended_at": _stamp(0),
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{URL[0]}/v1/messages/batches/{name}/results",
        }

    def listed(self) -> dict[str, object]:
        """Describe all batches, newest first."""
        data = [self.batch(name) for name in reversed(list(self._ids))]
        return {"data": data[:20], "has_more": False, "first_id": None, "last_id": None}

    def paid(self) -> dict[str, int]:
        """Say how many requests were taken, and how many of them for a row that had been asked already."""
        numbers = [number_of(custom_id) for ids in list(self._ids.values()) for custom_id in ids]
        return {"lines": len(numbers), "twice": len(numbers) - len(set(numbers))}

    def results(self, name: str) -> Iterator[bytes]:
        """Give the result lines, some at a time."""
        ids, tails = self._ids[name], self._tails
        order = list(range(len(ids)))
        random.Random(7).shuffle(order)
        for start in range(0, len(order), _LINES):
            yield b"".join(
                b'{"custom_id":"%b"%b' % (ids[n], tails[number_of(ids[n]) % workload.VARIANTS])
                for n in order[start : start + _LINES]
            )


def number_of(custom_id: bytes) -> int:
    """Give the number of the row that a custom id is of."""
    found = _NUMBER.search(custom_id)
    assert found is not None
    return int(found[1])


URL = [""]
BATCHES = Batches()


def _stamp(hours: int) -> str:
    return (datetime.now(timezone.utc) + timedelta(hours=hours)).isoformat()


def _serve(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, connection.makefile("rb", buffering=1 << 16) as stream:
        while _exchange(connection, stream):
            pass


def _exchange(connection: socket.socket, stream: object) -> bool:
    read = stream.readline  # type: ignore[attr-defined]
    first = read(8192).split()
    if len(first) != 3:
        return False
    headers = {}
    while (line := read(8192).strip()) != b"":
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    body = bytearray(int(headers.get(b"content-length", b"0")))
    view, got = memoryview(body), 0
    while got < len(body):
        n = stream.readinto(view[got:])  # type: ignore[attr-defined]
        if not n:
            return False
        got += n
    method, path = first[0].decode(), first[1].decode().partition("?")[0]
    parts = path.strip("/").split("/")[3:]
    if path == "/paid":
        _answer(connection, dict(BATCHES.paid()))
    elif method == "POST" and not parts:
        _answer(connection, BATCHES.create(body))
    elif not parts:
        _answer(connection, BATCHES.listed())
    elif len(parts) == 1:
        _answer(connection, BATCHES.batch(parts[0]))
    else:
        _stream(connection, BATCHES.results(parts[0]))
    return True


def _head(rest: str) -> bytes:
    date = datetime.now(timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    return (
        f"HTTP/1.1 200 OK\r\ndate: {date}\r\nrequest-id: req_1\r\n"
        f"anthropic-organization-id: org\r\nanthropic-workspace-id: wrkspc_1\r\n{rest}\r\n\r\n"
    ).encode()


def _answer(connection: socket.socket, value: dict[str, object]) -> None:
    body = json.dumps(value).encode()
    connection.sendall(_head(f"content-type: application/json\r\ncontent-length: {len(body)}") + body)


def _stream(connection: socket.socket, pieces: Iterator[bytes]) -> None:
    connection.sendall(_head("content-type: application/x-jsonl\r\ntransfer-encoding: chunked"))
    for piece in pieces:
        connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
    connection.sendall(b"0\r\n\r\n")


def main() -> None:
    """Serve, a thread a connection."""
    listening = socket.create_server(("127.0.0.1", 0))
    URL[0] = f"http://127.0.0.1:{listening.getsockname()[1]}"
    print(URL[0], flush=True)
    while True:
        connection, _ = listening.accept()
        threading.Thread(target=_quietly, args=(connection,), daemon=True).start()


def _quietly(connection: socket.socket) -> None:
    try:
        _serve(connection)
    except (ConnectionError, BrokenPipeError):
        pass
    except Exception as error:
        print(f"server: {error!r}", file=sys.stderr)


if __name__ == "__main__":
    main()

"""What the work costs at least: each step alone and in C, everything held in memory, nothing durable.

orjson over dicts that are there already, one ``sendall``, ``recv_into``, orjson per line, msgspec's typed
decode of each text, and an insert of two columns with the journal off.
"""

from __future__ import annotations

import re
import socket
import sqlite3
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import meter
import msgspec
import orjson
import workload
from plain_request import parameters, request


class Answer(msgspec.Struct):
    """The contract, for msgspec."""

    category: Literal[workload.CATEGORIES] | None  # type: ignore[valid-type]
    features: Annotated[list[Annotated[str, msgspec.Meta(max_length=60)]], msgspec.Meta(max_length=5)]
    summary: Annotated[str, msgspec.Meta(max_length=120)]


def main(url: str, rows: int, folder: Path, schema: bool) -> None:
    """Run each step once."""
    shared = parameters(schema=schema)
    address = urlsplit(url)
    steps: dict[str, float] = {}
    valid: list[tuple[str, bytes]] = []
    wall = time.perf_counter()
    db = sqlite3.connect(folder / "limit.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("CREATE TABLE answer (sku TEXT, answer BLOB)")
    decode = msgspec.json.Decoder(Answer).decode

    def step(name: str, before: float) -> None:
        steps[name] = steps.get(name, 0.0) + meter.cpu() - before

    for first in range(0, rows, 100_000):
        ready = [request(row, shared) for row in workload.rows(min(100_000, rows - first), first)]
        before = meter.cpu()
        body = b'{"requests":[' + b",".join([orjson.dumps(item) for item in ready]) + b"]}"
        step("encode", before)
        del ready
        with socket.create_connection((address.hostname, address.port)) as connection:  # type: ignore[arg-type]
            before = meter.cpu()
            head = f"POST /v1/messages/batches HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode())
            connection.sendall(body)
            answer = connection.recv(65536)
            step("send", before)
            del body
            found = re.search(rb'"id": "(\w+)"', answer)
            assert found is not None
            before = meter.cpu()
            connection.sendall(b"GET /v1/messages/batches/%b/results HTTP/1.1\r\nhost: x\r\n\r\n" % found[1])
            raw = received(connection)
            step("receive", before)
        text = unchunked(raw)
        del raw
        before = meter.cpu()
        lines = text.split(b"\n")
        lines.pop()
        del text
        for line in lines:
            orjson.loads(line)
        step("parse", before)
        texts = [texts_of(orjson.loads(line)) for line in lines]
        del lines
        before = meter.cpu()
        good = []
        for key, answer in texts:
            try:
                decode(answer)
            except msgspec.ValidationError:
                continue
            good.append((key, answer))
        step("decode", before)
        del texts
        before = meter.cpu()
        db.execute("BEGIN")
        db.executemany("INSERT INTO answer VALUES (?, ?)", good)
        db.execute("COMMIT")
        step("insert", before)
        valid += good
    meter.tell(
        {
            "cpu": sum(steps.values()),
            "wall": time.perf_counter() - wall,
            "peak_mib": meter.peak_mib(),
            "steps": {name: round(spent, 3) for name, spent in steps.items()},
            "valid": workload.digest(valid),
        }
    )


def texts_of(line: dict[str, Any]) -> tuple[str, bytes]:
    """Give key and answer of a line; not part of what is measured."""
    return line["custom_id"], line["result"]["message"]["content"][0]["text"].encode()


def received(connection: socket.socket) -> bytearray:
    """Read a chunked answer to its end, into one buffer."""
    buffer = bytearray(1 << 20)
    got = 0
    while not (got > 5 and buffer[got - 5 : got] == b"0\r\n\r\n"):
        if len(buffer) - got < 1 << 18:
            buffer += bytes(len(buffer))
        n = connection.recv_into(memoryview(buffer)[got:])
        if not n:
            raise SystemExit("the server hung up")
        got += n
    del buffer[got:]
    return buffer


def unchunked(raw: bytearray) -> bytes:
    """Take the chunks out of their frames; not part of what is measured."""
    parts = []
    at = raw.index(b"\r\n\r\n") + 4
    while True:
        end = raw.index(b"\r\n", at)
        size = int(raw[at:end], 16)
        if not size:
            return b"".join(parts)
        parts.append(bytes(raw[end + 2 : end + 2 + size]))
        at = end + 4 + size


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "schema")

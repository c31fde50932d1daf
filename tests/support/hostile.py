"""A loopback server that answers creates badly, byte by byte as told, and counts what reached it."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate

Reply = Callable[[socket.socket], None]

EMPTY_LIST = json.dumps({"data": [], "has_more": False, "first_id": None, "last_id": None}).encode()


def http(
    status: int, body: bytes, *headers: str, kind: str = "application/json", length: int | None = None
) -> bytes:
    lines = [
        f"HTTP/1.1 {status} X",
        f"content-type: {kind}",
        f"content-length: {len(body) if length is None else length}",
        f"date: {formatdate(usegmt=True)}",
        "connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def say(answer: bytes) -> Reply:
    """Send these bytes and close."""
    return lambda connection: connection.sendall(answer)


def reset(connection: socket.socket) -> None:
    """End the connection with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(connection: socket.socket) -> None:
    """Say nothing and close."""


def silence(seconds: float) -> Reply:
    """Say nothing for a while."""
    return lambda connection: time.sleep(seconds)


class HostileServer:
    """Reads whole requests; answers a create with ``reply`` and a list with an empty one.

    Attributes:
        posts: Creates whose whole body arrived.
        partial: Creates whose body did not.
        bodies: The whole bodies.
        files: What a GET of a path that ends in a key is answered with, to the byte.
    """

    def __init__(self, reply: Reply, *, read_up_to: int | None = None) -> None:
        self._reply = reply
        self._read_up_to = read_up_to
        self.posts = 0
        self.partial = 0
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.files: dict[str, bytes] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self._serving.start()

    def __enter__(self) -> HostileServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake accept
        self._listener.close()
        self._serving.join(5)
        for thread in self._threads:
            thread.join(5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._answer, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65_536)
            if not more:
                return
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        method, path, _ = head.decode().split("\r\n")[0].split(" ")
        self.paths.append(f"{method} {path}")
        if method != "POST" or not path.endswith("/batches"):
            found = [answer for tail, answer in self.files.items() if path.endswith(tail)]
            connection.sendall(found[0] if found else http(200, EMPTY_LIST))
            return
        headers = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
        length = int(headers["content-length"])
        wanted = length if self._read_up_to is None else min(length, self._read_up_to)
        while len(body) < wanted:
            try:
                more = connection.recv(65_536)
            except OSError:
                more = b""
            if not more:
                self.partial += 1
                return
            body += more
        if len(body) < length:
            self.partial += 1
        else:
            self.posts += 1
            self.bodies.append(body)
        self._reply(connection)


def refused_port() -> int:
    """Give a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port

"""The door over HTTP: a server on loopback in front of a simulator. Standard library only."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from typing_extensions import override

from batchkit.testing.http import Dropped, Request, Response
from batchkit.testing.simulator import Handler

__all__ = ["SimulatorServer", "serve"]

_PIECE = 1 << 18
_LINE = 1 << 12


class _CutShort(Exception):
    """The client went away in the middle of its request."""


class _Exchange(BaseHTTPRequestHandler):
    """One connection: any number of requests, one after the other."""

    protocol_version = "HTTP/1.1"
    server_version = "batchkit-simulator"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def do_GET(self) -> None:
        self._exchange()

    do_POST = do_DELETE = do_PUT = do_PATCH = do_GET  # noqa: N815 - the names that the standard library calls

    def _exchange(self) -> None:
        assert isinstance(self.server, SimulatorServer)
        url = urlsplit(self.path)
        body = self._body()
        request = Request(
            method=self.command,
            path=url.path,
            query=dict(parse_qsl(url.query)),
            headers=dict(self.headers.items()),
            body=body,
        )
        try:
            response = self.server.api.handle(request)
            # What a refused request still has to say is read, or the refusal is lost in a connection reset.
            for _ in body:
                pass
            self._send(response)
        except (_CutShort, Dropped, ConnectionError, TimeoutError):
            self.close_connection = True

    def _send(self, response: Response) -> None:
        # Not send_response(): it would add the machine's Date beside the virtual one.
        self.send_response_only(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if isinstance(response.body, bytes):
            self.send_header("content-length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)
        else:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for piece in response.body:
                if piece:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _body(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            return self._chunks()
        length = self.headers.get("content-length", "0")
        return self._counted(int(length) if length.isdigit() else 0)

    def _counted(self, left: int) -> Iterator[bytes]:
        while left:
            piece = self.rfile.read(min(left, _PIECE))
            if not piece:
                raise _CutShort
            left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while size := self._chunk_size():
            yield from self._counted(size)
            if self.rfile.readline(_LINE).strip():
                raise _CutShort
        # Trailers, then an empty line.
        while line := self.rfile.readline(_LINE):
            if not line.strip():
                return
        raise _CutShort

    def _chunk_size(self) -> int:
        line = self.rfile.readline(_LINE)
        try:
            return int(line.split(b";")[0], 16)
        except ValueError:
            raise _CutShort from None

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: requests are not news."""


class SimulatorServer(ThreadingHTTPServer):
    """An HTTP server on loopback in front of a simulator.

    Args:
        api: A `SimulatedAPI`, or a wrapper around one.
        port: The port; 0 takes a free one.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, api: Handler, port: int = 0) -> None:
        self.api = api
        super().__init__(("127.0.0.1", port), _Exchange)

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://127.0.0.1:{self.server_port}"

    @override
    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:
        """Report bugs; a client that hangs up is none."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serve(api: Handler, *, port: int = 0) -> Iterator[SimulatorServer]:
    """Serve ``api`` from a thread; the context's value has the address as ``url``.

    Args:
        api: A `SimulatedAPI`, or a wrapper around one.
        port: The port; 0 takes a free one.
    """
    server = SimulatorServer(api, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""The door in process: an HTTP transport for the real SDK client that never opens a socket."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
from typing_extensions import override

from batchkit.testing.http import Dropped, Request
from batchkit.testing.simulator import Handler

__all__ = ["SimulatedTransport"]


class SimulatedTransport(httpx2.BaseTransport):
    """Hands each request of an HTTP client to a simulator.

    The request's body is read piece by piece, as a server would: if its iterator
    raises, the error passes to the caller and the simulator has done nothing.

    Args:
        api: A `SimulatedAPI`, or a wrapper around one.
    """

    def __init__(self, api: Handler) -> None:
        self._api = api

    @override
    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        assert isinstance(request.stream, httpx2.SyncByteStream)
        try:
            response = self._api.handle(
                Request(
                    method=request.method,
                    path=request.url.path,
                    query=dict(request.url.params),
                    headers=dict(request.headers),
                    body=request.stream,
                )
            )
        except Dropped as error:
            raise httpx2.RemoteProtocolError(
                f"Server disconnected without sending a response: {error}"
            ) from error
        headers = dict(response.headers)
        if isinstance(response.body, bytes):
            headers["content-length"] = str(len(response.body))
            return httpx2.Response(response.status, headers=headers, stream=_Stream(iter([response.body])))
        headers["transfer-encoding"] = "chunked"
        return httpx2.Response(response.status, headers=headers, stream=_Stream(response.body))


class _Stream(httpx2.SyncByteStream):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    @override
    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces
        except Dropped as error:
            raise httpx2.RemoteProtocolError(
                "peer closed connection without sending complete message body (incomplete chunked read)"
            ) from error

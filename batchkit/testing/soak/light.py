"""A client of the SDK's shape without its cost: what `batchkit.api.Gateway` calls, and no more.

The real client spends three quarters of a simulated request on itself. The gateway above it is the real one; the real
client is used with ``sdk=True``, and by the rest of the tests.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from batchkit.testing.http import Dropped, Headers, Request, Response, json_bytes, read_all
from batchkit.testing.simulator import Handler

__all__ = ["LightClient"]


class LightClient:
    """Hands the gateway's requests straight to a simulator.

    Args:
        api: A `SimulatedAPI`, or a wrapper around one.
        key: The key it signs with.
    """

    base_url = "http://simulator.invalid"

    def __init__(self, api: Handler, key: str = "simulated") -> None:
        self._api = api
        self._headers = {**_HEADERS, "x-api-key": key}

    def with_options(self, **_: object) -> LightClient:
        """Give this client: it has nothing that could be set otherwise."""
        return self

    def get(self, path: str, *, cast_to: object, options: Mapping[str, Any]) -> _Wrapped:
        """Send a GET."""
        query = {name: str(value) for name, value in (options.get("params") or {}).items()}
        return self._send(Request(method="GET", path=path, query=query, headers=self._headers))

    def post(
        self,
        path: str,
        *,
        cast_to: object,
        options: Mapping[str, Any],
        body: Mapping[str, object] | None = None,
        content: Any = None,
    ) -> _Wrapped:
        """Send a POST whose body is JSON, or a stream."""
        sent = content if content is not None else json_bytes(body) if body is not None else b""
        headers = {**self._headers, **(options.get("headers") or {})}
        return self._send(Request(method="POST", path=path, headers=headers, body=sent))

    def _send(self, request: Request) -> _Wrapped:
        import anthropic

        try:
            answer = _Answer(self._api.handle(request))
        except Dropped as error:
            raise anthropic.APIConnectionError(request=_dummy()) from error
        if answer.status_code >= 400:
            raise anthropic.APIStatusError("refused", response=answer, body=None)  # type: ignore[arg-type]
        return _Wrapped(answer)


class _Answer:
    """What is used of an HTTP response."""

    def __init__(self, response: Response) -> None:
        self.status_code: int = response.status
        self.headers: Headers = response.headers
        self._body = response.body

    @property
    def request(self) -> Any:
        return _dummy()

    @property
    def content(self) -> bytes:
        self._body = read_all(self._body)
        return self._body

    def iter_bytes(self) -> Iterator[bytes]:
        import httpx2

        try:
            yield from (self._body,) if isinstance(self._body, bytes) else self._body
        except Dropped as error:
            raise httpx2.RemoteProtocolError(
                "peer closed connection without sending complete message body"
            ) from error

    def close(self) -> None:
        """Nothing is open."""


class _Wrapped:
    def __init__(self, response: _Answer) -> None:
        self.http_response: _Answer = response


_HEADERS = {"anthropic-version": "2023-06-01", "content-type": "application/json"}


@functools.cache
def _dummy() -> Any:
    import httpx2

    return httpx2.Request("GET", LightClient.base_url)

"""Requests and responses as values: what passes through either door of the simulator."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import attrs

__all__ = [
    "APIError",
    "Body",
    "Dropped",
    "Headers",
    "Request",
    "Response",
    "error_body",
    "json_bytes",
    "read_all",
]

Headers: TypeAlias = Mapping[str, str]
Body: TypeAlias = "bytes | Iterable[bytes]"

STATUS_OF_ERROR: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "timeout_error": 408,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "overloaded_error": 529,
}
"""The HTTP status each of the API's error types comes with."""


def _lowered(headers: Headers) -> Headers:
    return {name.lower(): value for name, value in headers.items()}


@attrs.frozen(kw_only=True)
class Request:
    """One HTTP request as the simulator sees it.

    Attributes:
        method: Upper case.
        path: Without the query.
        query: The last value of each name.
        headers: Names in lower case.
        body: The bytes, or an iterable of them that may raise half way: then the request never arrived.
    """

    method: str
    path: str
    query: Mapping[str, str] = attrs.field(factory=dict)
    headers: Headers = attrs.field(factory=dict, converter=_lowered)
    body: Body = b""

    @property
    def base_url(self) -> str:
        """The address the client used, for absolute URLs in answers."""
        scheme = self.headers.get("x-forwarded-proto", "http")
        return f"{scheme}://{self.headers.get('host', 'simulator.invalid')}"


@attrs.frozen(kw_only=True)
class Response:
    """One HTTP answer; a body that is an iterator is streamed."""

    status: int = 200
    headers: Headers = attrs.field(factory=dict, converter=_lowered)
    body: bytes | Iterator[bytes] = b""

    def json(self) -> Any:
        """Parse the whole body as JSON; a streamed body cannot be read twice."""
        return json.loads(read_all(self.body))


class APIError(Exception):
    """An error the simulated API answers with.

    Args:
        kind: One of the API's error types, such as ``not_found_error``.
        message: The text beside it.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message

    @property
    def status(self) -> int:
        """The HTTP status of this error type."""
        return STATUS_OF_ERROR.get(self.kind, 500)


def error_body(kind: str, message: str, request_id: str) -> dict[str, Any]:
    """Return the API's error object, the same for answers and for lines of a batch's results."""
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def json_bytes(value: Any) -> bytes:
    """Encode compactly, characters beyond ASCII as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def read_all(body: Body) -> bytes:
    """Return a body in one piece."""
    return body if isinstance(body, bytes) else b"".join(body)


class Dropped(Exception):
    """The connection is gone: the client gets no answer, or not all of it.

    A wrapper raises it from ``handle``, or from a response's body, to lose an answer.
    """

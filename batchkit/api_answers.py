"""Reading the SDK's raw answers and errors. Needs no SDK: only what its objects look like."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from batchkit.errors import ProviderError

if TYPE_CHECKING:
    import httpx2

MOST_ANSWER = 1_000_000
"""Bytes of an answer that are read; a Message Batch has about 700."""


def parse(content: bytes) -> dict[str, Any] | None:
    """Give a JSON object, or None where the bytes are anything else."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def json_object(response: httpx2.Response) -> dict[str, Any] | None:
    """Give an answer's JSON object, or None."""
    return parse(content_of(response))


def content_of(response: httpx2.Response) -> bytes:
    """Give an answer's body, empty where it cannot be read to its end."""
    try:
        return response.content[:MOST_ANSWER]
    except Exception:
        return b""


def error_of(body: Mapping[str, object] | None) -> tuple[str, str, str]:
    """Give type, message and code of an API error body; empty text where it is none."""
    error = body.get("error") if body is not None and body.get("type") == "error" else None
    if not isinstance(error, Mapping):
        return "", "", ""
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, Mapping) else None
    kind, message = error.get("type"), error.get("message")
    return (
        kind if isinstance(kind, str) else "",
        message[:500] if isinstance(message, str) else "",
        code if isinstance(code, str) else "",
    )


def status_error(response: httpx2.Response, path: str) -> ProviderError:
    """Make our error of a refused or failed read: path, status and the API's words, nothing of the request."""
    kind, message, _ = error_of(json_object(response))
    told = f": {kind}: {message}" if kind else ""
    return ProviderError(
        f"{path}: HTTP {response.status_code}{told}",
        status=response.status_code,
        retry_after=number(response.headers.get("retry-after")),
        kind=kind,
    )


def causes_of(error: BaseException) -> tuple[str, ...]:
    """Give the class names of an error and its causes, outermost first."""
    names: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        names.append(type(current).__name__)
        current = current.__cause__ or current.__context__
    return tuple(names)


def chain_of(error: BaseException) -> str:
    """Give the same as one text."""
    return " < ".join(causes_of(error))


def number(text: str | None) -> float | None:
    """Read a header that holds a number of seconds; None where it holds none."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def date_of(response: httpx2.Response) -> float | None:
    """Give the server's time by the ``Date`` header, in epoch seconds; None where it has none."""
    text = response.headers.get("date")
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None


def read_capped(response: httpx2.Response, monotonic: Callable[[], float], timeout: float) -> bytes:
    """Read an answer's beginning, for so many seconds at most."""
    until = monotonic() + timeout
    parts: list[bytes] = []
    held = 0
    for chunk in response.iter_bytes():
        parts.append(chunk)
        held += len(chunk)
        if held > MOST_ANSWER or monotonic() > until:
            break
    return b"".join(parts)

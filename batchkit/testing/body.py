"""Reading a batch's body as it arrives, one request at a time.

A body of 256 MB is never held as objects: each request of ``requests`` is
yielded with its own text as soon as its last byte has arrived.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from batchkit.testing.http import APIError, Body

__all__ = ["BodyTooLarge", "decode", "read_requests"]

_SPACE = re.compile(r"[ \t\n\r]*")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_ENDS = frozenset(",]} \t\n\r")
_PIECE = 1 << 18


class BodyTooLarge(Exception):
    """More bytes than the edge lets through."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def decode(text: str) -> Any:
    """Parse one JSON document, strictly.

    Raises:
        APIError: It is not JSON, or holds half a surrogate pair.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _not_json(error) from None
    _check_surrogates(text, value)
    return value


def read_requests(body: Body, limit: int) -> Iterator[tuple[str, Any]]:
    """Yield ``(text, value)`` of each element of the body's ``requests``.

    The text has no line breaks, so lines of it can be kept.

    Args:
        body: The whole body or its pieces; whatever its iterator raises passes through.
        limit: The most bytes the body may have.

    Raises:
        APIError: The body is not the JSON object that the endpoint takes.
        BodyTooLarge: It has more than ``limit`` bytes.
    """
    stream = _Stream(body, limit)
    stream.expect("{", "the body should be a JSON object")
    seen = False
    if not stream.take("}"):
        while True:
            _, name = stream.value()
            stream.expect(":", "expected ':'")
            if name != "requests":
                raise APIError("invalid_request_error", f"{name}: Extra inputs are not permitted")
            seen = True
            yield from _elements(stream)
            if not stream.take(","):
                break
        stream.expect("}", "expected ',' or '}'")
    if not seen:
        raise APIError("invalid_request_error", "requests: Field required")
    stream.end()


def _elements(stream: _Stream) -> Iterator[tuple[str, Any]]:
    if not stream.take("["):
        raise APIError("invalid_request_error", "requests: Input should be a valid array")
    if stream.take("]"):
        return
    while True:
        yield stream.value()
        if not stream.take(","):
            break
    stream.expect("]", "expected ',' or ']'")


class _Stream:
    """A cursor over JSON text that is still arriving."""

    def __init__(self, body: Body, limit: int) -> None:
        self._pieces = _pieces([body] if isinstance(body, bytes) else body)
        self._limit = limit
        self._size = 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._open = True

    def take(self, char: str) -> bool:
        """Step over ``char`` if it comes next."""
        if self._next() != char:
            return False
        self._at += 1
        return True

    def expect(self, char: str, message: str) -> None:
        if not self.take(char):
            raise _not_json(message)

    def end(self) -> None:
        """Check that nothing but space is left."""
        if self._next():
            raise _not_json("text after the end")

    def value(self) -> tuple[str, Any]:
        """Return the next JSON value and its text."""
        self._next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if not self._fill():
                    raise _not_json(error) from None
                continue
            # Only a number does not show its own end: "1" may go on as "1.5".
            if not isinstance(value, int | float) or self._text[end : end + 1] in _ENDS or not self._fill():
                break
        text = self._text[self._at : end]
        self._at = end
        _check_surrogates(text, value)
        if "\n" in text or "\r" in text:
            text = text.replace("\n", " ").replace("\r", " ")
        return text, value

    def _next(self) -> str:
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def _fill(self) -> bool:
        """Append at least as much text as is unread, so that one huge request costs linear time."""
        if not self._open:
            return False
        rest = self._text[self._at :]
        wanted = max(_PIECE, len(rest))
        parts: list[str] = [rest]
        got = 0
        while got < wanted and self._open:
            piece = next(self._pieces, None)
            if piece is None:
                self._open = False
                parts.append(self._decode(b"", final=True))
                break
            self._size += len(piece)
            if self._size > self._limit:
                raise BodyTooLarge
            parts.append(self._decode(piece))
            got += len(piece)
        self._text = "".join(parts)
        self._at = 0
        return len(self._text) > len(rest) or self._open

    def _decode(self, piece: bytes, *, final: bool = False) -> str:
        try:
            return self._utf8.decode(piece, final)
        except UnicodeDecodeError as error:
            raise _not_json(error) from None


def _check_surrogates(text: str, value: Any) -> None:
    if _ESCAPED_SURROGATE.search(text) is None:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _not_json("half a surrogate pair in a string") from None


def _not_json(why: object) -> APIError:
    return APIError("invalid_request_error", f"The request body is not valid JSON: {why}")


def _pieces(body: Iterable[bytes]) -> Iterator[bytes]:
    for piece in body:
        for start in range(0, len(piece), _PIECE):
            yield piece[start : start + _PIECE]

"""From the text of an answer to exactly one JSON object, or why it is none."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

BLANK: Final = b" \t\r\n"
"""JSON's own white space; a byte order mark is none."""

MAX_LENIENT: Final = 1 << 18
"""Bytes of prose that are searched for an object."""

_START = re.compile(r'\{\s*["}]')


class NotOne(ValueError):
    """The text is not exactly one JSON object. Its message holds nothing of the text."""


def check_exact(text: bytes | str) -> None:
    """Make sure that a text, already known to be JSON, repeats no key and holds no number beyond a float.

    Raises:
        NotOne: it does.
    """
    json.loads(text, object_pairs_hook=_distinct, parse_constant=_constant, parse_float=_finite)


def find_object(text: str) -> str:
    """Give the one JSON object in a text that has prose or a fence around it.

    Raises:
        NotOne: there is none, more than one, or the first is broken.
    """
    if len(text) > MAX_LENIENT:
        raise NotOne("too long to look for an object in")
    start = _START.search(text)
    if start is None:
        raise NotOne("no JSON object")
    try:
        _, end = _DECODER.raw_decode(text, start.start())
    except (ValueError, RecursionError) as error:
        raise NotOne("a JSON object that is broken") from error
    if _START.search(text, end):
        raise NotOne("more than one JSON object")
    return text[start.start() : end]


_DECODER = json.JSONDecoder()


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise NotOne("a key stands twice in one object")
    return made


def _constant(name: str) -> float:
    raise NotOne(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise NotOne("a number is too large")
    return value

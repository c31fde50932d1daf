"""JSON text as bytes, one way for everybody: sorted keys, UTF-8, no spaces."""

from __future__ import annotations

import json

from pydantic_core import PydanticSerializationError, to_json


def canonical(value: object) -> bytes:
    """Encode plain Python data as canonical JSON: sorted keys, no spaces, characters as they are.

    Raises:
        ValueError: the value holds NaN, infinity, a lone surrogate, a cycle, or something JSON has no form for.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return text.encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def quoted(text: str) -> bytes:
    """Encode text as one JSON string, quotation marks included.

    Raises:
        ValueError: the text holds a lone surrogate, which UTF-8 cannot carry.
    """
    try:
        return to_json(text)
    except PydanticSerializationError as error:
        raise ValueError("the text holds a lone surrogate") from error


def printable(text: str) -> str:
    r"""Give the text with each lone surrogate spelled out as ``\udXXX``, so that it can be stored and shown."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text

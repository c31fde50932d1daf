"""Text as JSON bytes, and text that UTF-8 cannot carry."""

from __future__ import annotations

from pydantic_core import PydanticSerializationError, to_json


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

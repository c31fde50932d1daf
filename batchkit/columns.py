"""Many JSON texts at once, column by column: for what would otherwise be written or cut once a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic_core import to_json

__all__ = ["interleaved", "marked", "tokens", "unmarked"]

# Bytes that no JSON text holds stand for the two escapes that matter, while a text is cut at its quotation marks.
_BACKSLASH: Final = b"\x00"
_QUOTE: Final = b"\x01"


def marked(text: bytes) -> bytes:
    """Give JSON in which every quotation mark left begins or ends a string."""
    return text.replace(b"\\\\", _BACKSLASH).replace(b'\\"', _QUOTE)


def unmarked(text: bytes) -> bytes:
    """Take back what `marked` did."""
    return text.replace(_QUOTE, b'\\"').replace(_BACKSLASH, b"\\\\")


def interleaved(columns: Sequence[Sequence[bytes]], literals: Sequence[bytes], separator: bytes) -> bytes:
    """Join the rows of columns of one length: literals around and between the values, a separator between rows."""
    count, step = len(columns[0]), 2 * len(columns)
    first, *between, last = literals
    parts = [last + separator + first] * (step * count + 1)
    parts[0], parts[-1] = first, last
    for place, column in enumerate(columns):
        parts[2 * place + 1 :: step] = column
        if place:
            parts[2 * place :: step] = [between[place - 1]] * count
    return b"".join(parts)


def tokens(texts: Sequence[str | None], *, at_once: bool) -> tuple[Sequence[bytes], bytes]:
    """Give each text as JSON, and the quotation mark that is still to be put around each: none where all have theirs.

    ``at_once`` writes all as one and cuts it apart, which is worth it where no text is null or has an escape in it.

    Raises:
        ValueError: a text holds a lone surrogate, which UTF-8 cannot carry.
    """
    text = to_json(texts) if at_once and None not in texts else b""
    if not text or b"\\" in text:
        return list(map(to_json, texts)), b""
    return text[2:-2].split(b'","'), b'"'

"""Many JSON texts at once, column by column: for what would otherwise be written or cut once a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["interleaved", "marked", "unmarked"]

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

"""Text that comes from elsewhere, made harmless for terminals and logs."""

from __future__ import annotations

from typing import Final

_BIDI: Final = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c")


def printable(text: str) -> str:
    """Give text of one line that can do nothing to a terminal: control and direction characters become escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c.isprintable() and c not in _BIDI else c.encode("unicode_escape").decode() for c in text
    )

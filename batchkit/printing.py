"""Text for people: made harmless for terminals and logs, and amounts of money with figures enough to tell."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

_BIDI: Final = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c")


def dollars(amount: Decimal) -> str:
    """Give an amount as text: to the cent from a dollar up, below with four figures, and never 0.00 for more than that."""
    return f"${amount:,.{decimals(amount)}f}"


def decimals(amount: Decimal) -> int:
    """Give how many decimals show four figures of an amount below a dollar: two at least, nine for the nano-dollar."""
    if not amount or abs(amount) >= 1:
        return 2
    shown = f"{amount:.{min(9, 3 - amount.adjusted())}f}".rstrip("0")
    return max(2, len(shown.partition(".")[2]))


def counted(number: int, one: str, many: str) -> str:
    """Give a number with its noun: 1 batch, 2 batches."""
    return f"{number:,} {one if number == 1 else many}"


def printable(text: str) -> str:
    """Give text of one line that can do nothing to a terminal: control and direction characters become escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c.isprintable() and c not in _BIDI else c.encode("unicode_escape").decode() for c in text
    )

"""Rows as text in columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from batchkit.printing import printable

_WIDEST: Final = 60


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lay rows out under a head, a line each: columns aligned, numbers to the right, long cells cut.

    Args:
        head: Names of the columns; empty texts leave the line out.
        rows: Cells. Nothing in them can do anything to a terminal.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    listed = [list(head), *cells] if any(head) else cells
    widths = [max(map(len, column), default=0) for column in zip(*listed, strict=True)]
    numeric = [bool(cells) and all(_is_number(row[at]) for row in cells) for at in range(len(widths))]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in listed
    ]


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = "" if value is None else printable(str(value).replace("\n", " "))
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _is_number(cell: str) -> bool:
    return cell.translate({ord(c): None for c in ",.$% "}).isdigit()

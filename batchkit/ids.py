"""Identifiers: distinct types, so that a row's key cannot pass for a custom id."""

from __future__ import annotations

from typing import NewType

RunId = NewType("RunId", int)
RowId = NewType("RowId", int)
BatchId = NewType("BatchId", int)
ResultId = NewType("ResultId", int)

RowKey = NewType("RowKey", str)
"""The stable key of a source record, as text. Empty only where the record has none."""

Nonce = NewType("Nonce", str)
"""Eight random base32 characters (``a-z2-7``) that mark every request of one batch."""

CustomId = NewType("CustomId", str)
"""``prefix + key part + "-" + nonce``: what the provider echoes back for one request."""

RemoteId = NewType("RemoteId", str)
"""The provider's id of a Message Batch. Opaque: never parsed."""

Digest = NewType("Digest", str)
"""SHA-256 in lower-case hexadecimal."""

_POSITION_BITS = 32
MAX_ROWS = 1 << _POSITION_BITS


def row_id(run: RunId, position: int) -> RowId:
    """Give the id of the record at ``position`` (counted from 0) of a run.

    Ids of one run are contiguous and in source order, so a page of rows is a range of ids,
    and two runs may be frozen at the same time without sharing a counter.
    """
    return RowId((run << _POSITION_BITS) | position)


def position_of(row: RowId) -> int:
    """Give the position, counted from 0, of a row in its source."""
    return row & (MAX_ROWS - 1)


def run_of(row: RowId) -> RunId:
    """Give the run a row belongs to."""
    return RunId(row >> _POSITION_BITS)

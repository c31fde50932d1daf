"""What a database gives: an ordered map of bytes to bytes, within a transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = ["Transaction"]


class Transaction(Protocol):
    """An ordered map of bytes to bytes, as one transaction sees it, its own writes included.

    Keys are compared byte by byte. The longest are those of documents: some ten bytes more than kind and key
    have. Values are of any length, the empty one among them. No call brings more than `BULK` (500) keys.
    """

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Give the values of those of the keys that there are."""
        ...

    def scan(self, low: bytes, high: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        """Give the first ``limit`` keys from ``low`` on and before ``high`` with their values, in ascending order."""
        ...

    def put(self, items: Mapping[bytes, bytes]) -> None:
        """Set values, whether or not there were any under these keys."""
        ...

    def delete(self, low: bytes, high: bytes) -> None:
        """Delete all keys from ``low`` on and before ``high``."""
        ...

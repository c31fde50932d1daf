"""The store over an ordered map, on a sorted list in memory: what a database gives it, in its simplest form."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from batchkit.clock import Clock
from batchkit.storage.keyvalue import KeyValueStore, Transaction
from batchkit.storage.keyvalue.entries import BULK


class Snapshot:
    """An ordered map in memory. What others have seen of it is never changed: a write changes a copy.

    It takes no more of its callers than it is promised.
    """

    def __init__(self, values: dict[bytes, bytes], keys: list[bytes]) -> None:
        self.values, self.keys = values, keys

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        assert 0 < len(keys) <= BULK
        return {key: self.values[key] for key in keys if key in self.values}

    def scan(self, low: bytes, high: bytes, limit: int) -> Sequence[tuple[bytes, bytes]]:
        assert limit > 0
        first, end = bisect_left(self.keys, low), bisect_left(self.keys, high)
        return [(key, self.values[key]) for key in self.keys[first : min(end, first + limit)]]

    def put(self, items: Mapping[bytes, bytes]) -> None:
        assert 0 < len(items) <= BULK
        fresh = [key for key in items if key not in self.values]
        self.values.update(items)
        self.keys = sorted(self.keys + fresh)

    def delete(self, low: bytes, high: bytes) -> None:
        for key in [key for key in self.keys if low <= key < high]:
            del self.values[key]
        self.keys = sorted(self.values)


class Memory:
    """What all handles share: the newest state, and a lock that one writer at a time holds."""

    def __init__(self) -> None:
        self.newest = Snapshot({}, [])
        self.writing = threading.Lock()


class MemoryStore(KeyValueStore):
    __module__ = KeyValueStore.__module__  # so that the contract breaks off what all such stores inherit

    def __init__(self, memory: Memory, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._memory = memory

    @contextmanager
    def transaction(self, *, write: bool) -> Iterator[Transaction]:
        if not write:
            yield self._memory.newest
            return
        with self._memory.writing:
            newest = self._memory.newest
            mine = Snapshot(dict(newest.values), newest.keys)
            yield mine
            self._memory.newest = mine

    def dispose(self) -> None:
        """Leave the memory to the other handles."""

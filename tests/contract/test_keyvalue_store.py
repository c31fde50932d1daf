"""A store over any ordered map keeps every promise; here over a sorted list in memory."""

from __future__ import annotations

from contextlib import closing

import pytest
from orderedmap import Memory, MemoryStore

from batchkit.clock import Clock
from batchkit.testing.store_contract import KeyValueContract, OpenStore


class TestOrderedMap(KeyValueContract):
    @pytest.fixture
    def open_store(self, clock: Clock) -> OpenStore:
        memory = Memory()
        return lambda: closing(MemoryStore(memory, clock))

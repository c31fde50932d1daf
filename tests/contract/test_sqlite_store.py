"""SQLiteStore keeps every promise of the storage Protocols, in a file and in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from batchkit.clock import Clock
from batchkit.storage import Store
from batchkit.storage.sqlite import SQLiteStore
from batchkit.testing.store_contract import StoreContract


class TestFile(StoreContract):
    @pytest.fixture
    def store(self, clock: Clock, tmp_path: Path) -> Iterator[Store]:
        with closing(SQLiteStore(tmp_path / "store.db", clock=clock)) as store:
            yield store


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self, clock: Clock) -> Iterator[Store]:
        with closing(SQLiteStore(clock=clock)) as store:
            yield store

"""SQLiteStore keeps every promise of the storage Protocols, in a file and in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from batchkit.clock import Clock
from batchkit.storage import Store
from batchkit.storage.sqlite import SQLiteStore
from batchkit.testing.store_contract import OpenStore, StoreContract


class TestFile(StoreContract):
    @pytest.fixture
    def open_store(self, clock: Clock, tmp_path: Path) -> OpenStore:
        return lambda: closing(SQLiteStore(tmp_path / "store.db", clock=clock))


class TestMemory(StoreContract):
    @pytest.fixture
    def open_store(self, clock: Clock) -> Iterator[OpenStore]:
        with closing(SQLiteStore(clock=clock)) as store:
            yield lambda: nullcontext[Store](store)

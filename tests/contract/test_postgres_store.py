"""PostgresStore keeps every promise of the storage Protocols, by the server's own clock."""

from __future__ import annotations

from contextlib import closing

import pytest
from pg import empty

from batchkit.clock import Clock, SystemClock
from batchkit.storage.postgres import PostgresStore
from batchkit.testing.store_contract import OpenStore, StoreContract


class TestPostgres(StoreContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return SystemClock()

    @pytest.fixture
    def open_store(self, postgres_store: str) -> OpenStore:
        empty(postgres_store)
        return lambda: closing(PostgresStore(postgres_store))

"""PostgresStore keeps every promise of the storage Protocols, by the server's own clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from pg import empty

from batchkit.clock import Clock, SystemClock
from batchkit.storage import Store
from batchkit.storage.postgres import PostgresStore
from batchkit.testing.store_contract import StoreContract


class TestPostgres(StoreContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return SystemClock()

    @pytest.fixture
    def store(self, postgres_store: str) -> Iterator[Store]:
        empty(postgres_store)
        with closing(PostgresStore(postgres_store)) as store:
            yield store

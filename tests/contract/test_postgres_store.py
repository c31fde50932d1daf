"""PostgresStore keeps every promise of the storage Protocols, by the server's own clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from pg import empty, store_schema

from batchkit.clock import Clock, SystemClock
from batchkit.storage import Store
from batchkit.storage.postgres import PostgresStore
from batchkit.testing.store_contract import StoreContract


@pytest.fixture(scope="module")
def shared(postgres_server: str) -> Iterator[str]:
    with store_schema(postgres_server) as address:
        yield address


class TestPostgres(StoreContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return SystemClock()

    @pytest.fixture
    def store(self, shared: str) -> Iterator[Store]:
        empty(shared)
        with closing(PostgresStore(shared)) as store:
            yield store

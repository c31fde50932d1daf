"""The example's store on a PostgreSQL server: for `nox -s contract` alone, since it starts a server and breaks off at many calls."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from pg import url
from sqlalchemy import create_engine

from batchkit.clock import Clock
from batchkit.testing.store_contract import KeyValueContract, OpenStore

EXAMPLE = Path(__file__).parents[2] / "examples" / "sqlalchemy_store.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return run_path(str(EXAMPLE), run_name="sqlalchemy_store")


class TestSQLAlchemyOnPostgres(KeyValueContract):
    crashes = 16

    @pytest.fixture
    def open_store(self, example: dict[str, Any], postgres_catalog: str, clock: Clock) -> OpenStore:
        address = url(postgres_catalog).replace("postgresql:", "postgresql+psycopg:", 1)
        engine = create_engine(address)
        example["META"].drop_all(engine)
        engine.dispose()
        return lambda: closing(example["SQLAlchemyStore"](create_engine(address), clock=clock))

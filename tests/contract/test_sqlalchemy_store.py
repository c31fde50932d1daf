"""A store that somebody else wrote, the example on SQLAlchemy, keeps every promise; here on SQLite."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from sqlalchemy import create_engine

from batchkit.clock import Clock
from batchkit.testing.store_contract import KeyValueContract, OpenStore

EXAMPLE = Path(__file__).parents[2] / "examples" / "sqlalchemy_store.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return run_path(str(EXAMPLE), run_name="sqlalchemy_store")


class TestSQLAlchemy(KeyValueContract):
    crashes = 6
    moments = 4
    volume = 2_000

    @pytest.fixture
    def open_store(self, example: dict[str, Any], tmp_path: Path, clock: Clock) -> OpenStore:
        address = f"sqlite:///{tmp_path / 'store.db'}"
        return lambda: closing(example["SQLAlchemyStore"](create_engine(address), clock=clock))

"""SQLiteTarget keeps the Target's promises, on every kind of table that SQLite has."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchkit.testing.target_catalogs import SQLiteCatalog
from batchkit.testing.target_contract import TargetContract


class TestSQLiteTarget(TargetContract):
    @pytest.fixture
    def catalog(self, tmp_path: Path) -> SQLiteCatalog:
        return SQLiteCatalog(tmp_path / "catalog.db")


class TestSQLiteTargetWithoutRowid(TargetContract):
    @pytest.fixture
    def catalog(self, tmp_path: Path) -> SQLiteCatalog:
        return SQLiteCatalog(tmp_path / "catalog.db", suffix="WITHOUT ROWID")

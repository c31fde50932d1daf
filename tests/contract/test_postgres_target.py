"""PostgresTarget keeps the Target's promises, by either strategy."""

from __future__ import annotations

import pytest

from batchkit.testing.target_catalogs import PostgresCatalog
from batchkit.testing.target_contract import TargetContract


class TestPostgresTarget(TargetContract):
    @pytest.fixture
    def catalog(self, postgres_catalog: str) -> PostgresCatalog:
        return PostgresCatalog(postgres_catalog)


class TestOverlay(TargetContract):
    @pytest.fixture
    def catalog(self, postgres_catalog: str) -> PostgresCatalog:
        return PostgresCatalog(postgres_catalog, strategy="overlay")


class TestInstalledOverlay(TargetContract):
    """Where everything is installed beforehand, rows are loaded in transactions of their own."""

    @pytest.fixture
    def catalog(self, postgres_catalog: str) -> PostgresCatalog:
        return PostgresCatalog(postgres_catalog, install=True, strategy="overlay")

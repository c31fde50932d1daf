"""PostgresTarget keeps the Target's promises."""

from __future__ import annotations

import pytest

from batchkit.testing.target_catalogs import PostgresCatalog
from batchkit.testing.target_contract import TargetContract


class TestPostgresTarget(TargetContract):
    @pytest.fixture
    def catalog(self, postgres_catalog: str) -> PostgresCatalog:
        return PostgresCatalog(postgres_catalog)

"""CallableTarget keeps what every target promises, on a catalog that is no database at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from leafcatalog import LeafCatalog

from batchkit.testing.target_contract import EveryTargetContract


class TestCallableTarget(EveryTargetContract):
    @pytest.fixture
    def catalog(self, tmp_path: Path) -> LeafCatalog:
        return LeafCatalog(tmp_path / "promotions.db")

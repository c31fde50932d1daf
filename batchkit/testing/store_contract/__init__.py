"""One test per promise of the storage Protocols, to be inherited by every backend.

::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def open_store(self, clock: Clock, tmp_path: Path) -> OpenStore:
            return lambda: closing(MyStore(tmp_path / "store", clock=clock))

A backend with a clock of its own overrides ``clock`` by one whose ``sleep`` really waits
(`batchkit.clock.SystemClock`); no test waits longer than half a second.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"batchkit.testing.store_contract.{part}"
        for part in (
            "batches",
            "concurrency",
            "crashes",
            "documents",
            "freezing",
            "rows",
            "runs",
            "series",
            "settling",
            "transactions",
            "volumes",
        )
    )
)

from batchkit.testing.store_contract.base import OpenStore  # noqa: E402 (asserts are rewritten at import)
from batchkit.testing.store_contract.batches import BatchContract  # noqa: E402
from batchkit.testing.store_contract.concurrency import ConcurrencyContract  # noqa: E402
from batchkit.testing.store_contract.crashes import CrashContract  # noqa: E402
from batchkit.testing.store_contract.documents import DocumentContract  # noqa: E402
from batchkit.testing.store_contract.freezing import FreezeContract  # noqa: E402
from batchkit.testing.store_contract.rows import RowContract  # noqa: E402
from batchkit.testing.store_contract.runs import RunContract  # noqa: E402
from batchkit.testing.store_contract.series import SeriesContract  # noqa: E402
from batchkit.testing.store_contract.settling import SettleContract  # noqa: E402
from batchkit.testing.store_contract.transactions import TransactionContract  # noqa: E402
from batchkit.testing.store_contract.volumes import VolumeContract  # noqa: E402

__all__ = [
    "BatchContract",
    "ConcurrencyContract",
    "CrashContract",
    "DocumentContract",
    "FreezeContract",
    "KeyValueContract",
    "OpenStore",
    "RowContract",
    "RunContract",
    "SeriesContract",
    "SettleContract",
    "StoreContract",
    "TransactionContract",
    "VolumeContract",
]


class StoreContract(
    RunContract,
    FreezeContract,
    RowContract,
    BatchContract,
    SettleContract,
    DocumentContract,
    SeriesContract,
    CrashContract,
    ConcurrencyContract,
    VolumeContract,
):
    """Everything a store promises."""


class KeyValueContract(TransactionContract, StoreContract):
    """Everything a store promises, and what a `batchkit.storage.keyvalue.KeyValueStore` stands on.

    The tests of transactions come first: where one of them fails, those of the store fail for its sake.
    """

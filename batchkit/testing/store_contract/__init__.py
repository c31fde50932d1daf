"""One test per promise of the storage Protocols, to be inherited by every backend.

::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, clock: Clock) -> Iterator[Store]:
            with closing(MyStore(clock=clock)) as store:
                yield store

A backend with a clock of its own overrides ``clock`` by one whose ``sleep`` really waits
(`batchkit.clock.SystemClock`); no test waits longer than half a second.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"batchkit.testing.store_contract.{part}"
        for part in ("runs", "freezing", "rows", "batches", "settling", "documents", "series")
    )
)

from batchkit.testing.store_contract.batches import BatchContract  # noqa: E402 (asserts are rewritten at import)
from batchkit.testing.store_contract.documents import DocumentContract  # noqa: E402
from batchkit.testing.store_contract.freezing import FreezeContract  # noqa: E402
from batchkit.testing.store_contract.rows import RowContract  # noqa: E402
from batchkit.testing.store_contract.runs import RunContract  # noqa: E402
from batchkit.testing.store_contract.series import SeriesContract  # noqa: E402
from batchkit.testing.store_contract.settling import SettleContract  # noqa: E402

__all__ = [
    "BatchContract",
    "DocumentContract",
    "FreezeContract",
    "RowContract",
    "RunContract",
    "SeriesContract",
    "SettleContract",
    "StoreContract",
]


class StoreContract(
    RunContract, FreezeContract, RowContract, BatchContract, SettleContract, DocumentContract, SeriesContract
):
    """Everything a store promises."""

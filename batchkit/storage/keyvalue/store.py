"""The store over an ordered map, put together."""

from __future__ import annotations

from batchkit.storage.keyvalue.freeze import KeyValueFreeze
from batchkit.storage.keyvalue.runs import KeyValueRuns
from batchkit.storage.keyvalue.series import KeyValueSeries
from batchkit.storage.keyvalue.settle import KeyValueSettle

__all__ = ["KeyValueStore"]


class KeyValueStore(KeyValueRuns, KeyValueFreeze, KeyValueSeries, KeyValueSettle):
    """A whole store over an ordered map of bytes to bytes: inherit it, and say what a transaction of your database is.

    Two methods are yours, ``transaction`` and ``dispose``. Everything of `batchkit.Store` is here, and what you wrote
    is right if `batchkit.testing.KeyValueContract` says so.

    It takes more CPU than the built-in stores, which let their databases count, filter and join: here the rows of a
    run are read to count or to filter them, and all batches to make another.

    Args:
        clock: the time that leases run by; the machine's by default.
    """

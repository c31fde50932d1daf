"""A whole store over any ordered map of bytes to bytes.

What a database must give is four methods within a transaction (`Transaction`) and the transaction itself. Everything
that a store promises beyond that is written here once: the fence, the tables of states, digests, sequences, sums.

::

    class MyStore(KeyValueStore):
        @contextmanager
        def transaction(self, *, write: bool) -> Iterator[Transaction]:
            with self._database.begin(exclusive=write) as transaction:
                yield MyTransaction(transaction)

        def dispose(self) -> None:
            self._database.close()
"""

from batchkit.storage.keyvalue.store import KeyValueStore
from batchkit.storage.keyvalue.transaction import Transaction

__all__ = ["KeyValueStore", "Transaction"]

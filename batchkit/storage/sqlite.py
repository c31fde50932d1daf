"""The store on SQLite: one file, or memory."""

from __future__ import annotations

from pathlib import Path

from batchkit.clock import Clock, SystemClock
from batchkit.storage.guard import Guard
from batchkit.storage.pages import PageCache
from batchkit.storage.sqlite_batches import SQLiteBatches
from batchkit.storage.sqlite_documents import SQLiteDocuments
from batchkit.storage.sqlite_file import Database
from batchkit.storage.sqlite_freeze import SQLiteFreeze
from batchkit.storage.sqlite_runs import SQLiteRuns
from batchkit.storage.sqlite_series import SQLiteSeries
from batchkit.storage.sqlite_settle import SQLiteSettle

__all__ = ["SQLiteStore"]


class SQLiteStore(SQLiteDocuments, SQLiteRuns, SQLiteFreeze, SQLiteSeries, SQLiteBatches, SQLiteSettle):
    """A store in one SQLite file that only its owner may read, or in memory.

    One store may be used from any thread, one at a time; several processes may open the same file on a
    local disk. After a fork, open it again.

    Args:
        path: the file, made if it does not exist, or ``":memory:"``.
        clock: the time that leases run by; the machine's by default.
        host: what the machine is called in the guard file; its host name by default. Containers get another
            host name at every start, which looks like a store copied to another machine: name them here.

    Raises:
        StoreError: the file is damaged, read-only or otherwise unusable, or SQLite is older than 3.37.
        StoreHeld: the file belongs to another program, or to newer code.
        UsageError: the path's directory does not exist.
    """

    def __init__(
        self, path: str | Path = ":memory:", *, clock: Clock | None = None, host: str | None = None
    ) -> None:
        self._clock = clock or SystemClock()
        self._db = Database(path)
        self._pages = PageCache()
        self._names = {}
        try:
            self._guard = Guard(self._db.path, self._count_writes, host)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file; twice is fine. A closed store raises StoreError on use."""
        try:
            if self._db.is_open:
                self._guard.note(self._count_writes())
        finally:
            self._db.close()

    def _count_writes(self) -> int:
        with self._db.read() as connection:
            return self._writes(connection)

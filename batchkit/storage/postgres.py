"""The store on PostgreSQL: for many workers, and for teams that keep their state on a server."""

from __future__ import annotations

import threading

from batchkit.clock import Clock
from batchkit.storage.pages import PageCache
from batchkit.storage.postgres_batches import PostgresBatches
from batchkit.storage.postgres_database import Database
from batchkit.storage.postgres_documents import PostgresDocuments
from batchkit.storage.postgres_freeze import PostgresFreeze
from batchkit.storage.postgres_runs import PostgresRuns
from batchkit.storage.postgres_schema import IDENTITY, check_tables
from batchkit.storage.postgres_schema import migrate as migrate_schema
from batchkit.storage.postgres_series import PostgresSeries
from batchkit.storage.postgres_settle import PostgresSettle

__all__ = ["PostgresStore"]

_IDENTITIES = f"SELECT cluster, database, {IDENTITY} FROM store"  # noqa: S608 (a constant)


class PostgresStore(
    PostgresDocuments, PostgresRuns, PostgresFreeze, PostgresSeries, PostgresBatches, PostgresSettle
):
    """A store in one schema of a PostgreSQL database, version 15 or newer. Needs the extra ``postgres``.

    One store may be used from any number of threads at once, and any number of processes and machines may open the
    same schema. After a fork, open it again. Nothing is left on the server between two transactions, so a pooler in
    transaction mode may stand between.

    Args:
        dsn: what libpq takes: ``postgresql://user@host/database`` or ``host=… dbname=…``.
        schema: the schema that holds the store's tables, and nothing else.
        migrate: make the tables, or bring them up to date, as ``python -m batchkit migrate`` does. That takes the
            right to make them; without, no statement changes the schema.
        clock: the time that leases run by; by default the server's, the one clock that all machines share. One given
            here, such as a simulator's, must be the same for all that use the store.

    Raises:
        StoreError: the server cannot be reached or refuses this user, or the tables are missing or old.
        StoreHeld: the schema belongs to another program, or to newer code.
        UsageError: the address or the schema's name is none, or the driver is not installed.
    """

    def __init__(
        self, dsn: str, *, schema: str = "batchkit", migrate: bool = False, clock: Clock | None = None
    ) -> None:
        self._clock = clock
        self._pages = PageCache()
        self._pages_lock = threading.Lock()
        self._names = {}
        self._db = Database(dsn, schema)
        try:
            if migrate:
                migrate_schema(self._db)
            check_tables(self._db)
            self._why = self._moved()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the connections; twice is fine. A closed store raises StoreError on use."""
        self._db.close()

    def _moved(self) -> str:
        """Tell why this database looks like a copy of the one that the store was made in."""
        with self._db.read() as transaction:
            cluster, database, here, named = transaction.all(_IDENTITIES)[0]
        if cluster != here:
            return "it was made on another server: a restored dump, a replica that was cut off, or a server that was moved"
        if database != named:
            return "it was made in another database of this server: a copy or a restored dump"
        return ""

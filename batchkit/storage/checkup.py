"""Looking at a store that may be damaged, copied or old, without changing a byte of it."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from typing import Final

import attrs

from batchkit.clock import SystemClock
from batchkit.storage import Store, postgres_schema, schema
from batchkit.storage.guard import compare
from batchkit.storage.opening import open_store, shown
from batchkit.storage.pages import PageCache
from batchkit.storage.postgres import PostgresStore
from batchkit.storage.sqlite import SQLiteStore
from batchkit.storage.sqlite_file import Database

__all__ = ["Condition", "look"]

_WAIT: Final = 5.0
_LISTED: Final = 10


@attrs.frozen(kw_only=True)
class Condition:
    """How a store is, apart from what is in it.

    Attributes:
        store: Its path or address, without a password.
        version: The version of its tables.
        newest: The version that this code reads and writes.
        damage: What SQLite's ``integrity_check`` found; None on a server, which has tools of its own.
        held: Why it looks like a copy that must not send before a person has confirmed it; empty where it does not.
    """

    store: str
    version: int
    newest: int
    damage: tuple[str, ...] | None
    held: str


def look(where: str) -> tuple[Condition, Store]:
    """Open a store for reading and check it. A file is opened read-only, and read whole by the check.

    Raises:
        StoreError: it cannot be opened, or is no database.
        StoreHeld: it belongs to another program, or to newer code.
    """
    store: Store
    if "://" in where:
        store = open_store(where)
        held = store.held() if isinstance(store, PostgresStore) else ""
        # Opened, so its tables are those of this code.
        newest = postgres_schema.VERSION
        return Condition(store=shown(where), version=newest, newest=newest, damage=None, held=held), store
    store = _ReadStore(where)
    return store.condition(where), store


class _ReadFile(Database):
    """A database file that is only read: it is not made, not migrated, not switched to another journal."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).absolute()
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._connection = None
        try:
            connection = sqlite3.connect(
                f"{self.path.as_uri()}?mode=ro",
                uri=True,
                timeout=_WAIT,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            raise self._as_ours(error) from error
        try:
            self._check_kind(connection)
        except sqlite3.Error as error:
            connection.close()
            raise self._as_ours(error) from error
        except BaseException:
            connection.close()
            raise
        self._connection = connection


class _ReadStore(SQLiteStore):
    """The store in a file that is only read. What would write raises StoreError."""

    def __init__(self, path: str) -> None:
        self._clock = SystemClock()
        self._db: Database = _ReadFile(path)
        self._pages = PageCache()
        self._names = {}

    def close(self) -> None:
        """Close the file and note nothing."""
        self._db.close()

    def condition(self, where: str) -> Condition:
        """Check the file whole."""
        assert self._db.path is not None
        with self._db.read() as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            try:
                told = [str(line) for (line,) in connection.execute(f"PRAGMA integrity_check({_LISTED})")]
            except sqlite3.DatabaseError as error:
                if "malformed" not in str(error):
                    raise
                told = [str(error)]  # so damaged that the check itself cannot go on
        damage = () if told == ["ok"] else tuple(told)
        held = "" if damage else compare(self._db.path, self._count_writes)
        return Condition(
            store=where,
            version=version,
            newest=schema.VERSION,
            damage=damage,
            held=held,
        )

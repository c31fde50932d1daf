"""One SQLite database: opening it safely, transactions, and the one place where its errors become ours."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import tenacity

from batchkit.errors import BatchkitError, StoreError, StoreHeld, UsageError
from batchkit.storage import schema

_BUSY_MS: Final = 5_000
_NEEDED: Final = (3, 37, 0)

# SQLite's own wait does not cover every busy answer (recovery, checkpoint): a short second net.
_patience = tenacity.Retrying(
    retry=tenacity.retry_if_exception(
        lambda error: isinstance(error, sqlite3.OperationalError) and _is_busy(error)
    ),
    stop=tenacity.stop_after_delay(2),
    wait=tenacity.wait_random_exponential(multiplier=0.01, max=0.25),
    reraise=True,
)

_abandoned: Final[list[sqlite3.Connection]] = []
"""Connections that a fork copied: closing one would drop locks its parent relies on, so they are kept."""


class Database:
    """A connection that one thread at a time uses, and its transactions.

    Args:
        path: the file, or ``":memory:"``.

    Raises:
        StoreError: the file cannot be opened, written or read as a database.
        StoreHeld: the file belongs to another program or to newer code.
        UsageError: its directory does not exist.
    """

    def __init__(self, path: str | Path) -> None:
        if sqlite3.sqlite_version_info < _NEEDED:
            raise StoreError(
                f"this Python's SQLite is {sqlite3.sqlite_version}; a store needs 3.37 or newer. Use another Python build."
            )
        self.path: Path | None = None if str(path) == ":memory:" else Path(path).absolute()
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        if self.path is not None:
            _prepare(self.path)
        connection = sqlite3.connect(
            self.path or ":memory:", timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            self._set_up(connection)
        except sqlite3.Error as error:
            connection.close()
            raise self._as_ours(error) from error
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        for pragma in ("synchronous = FULL", "fullfsync = 1", "cache_size = -4096", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {pragma}")  # constants above
        self._check_kind(connection)
        # Before the first table: a switch of the journal needs the file to itself for a moment.
        _busy(connection.execute, "PRAGMA journal_mode = WAL")
        _busy(connection.execute, "BEGIN IMMEDIATE")  # also finds out at once that the file cannot be written
        try:
            self._check_kind(connection)
            for version in range(_pragma(connection, "user_version"), schema.VERSION):
                for statement in schema.MIGRATIONS[version]:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {schema.VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _check_kind(self, connection: sqlite3.Connection) -> None:
        program, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if program != schema.APPLICATION_ID and (program or version or tables):
            raise StoreHeld(
                f"{self.path} is a database of another program; nothing in it was changed. "
                "Give the store a path of its own."
            )
        if version > schema.VERSION:
            raise StoreHeld(
                f"{self.path} was written by newer code (tables {version}, this code knows {schema.VERSION}); "
                "nothing in it was changed. Upgrade: pip install -U message-batchkit"
            )

    @property
    def is_open(self) -> bool:
        """Tell whether this process may use the connection."""
        return self._connection is not None and self._pid == os.getpid()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Run a block as one transaction: committed to disk at its end, or undone by any error."""
        with self._transaction("BEGIN IMMEDIATE", "COMMIT") as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Run a block that sees one state of the database."""
        with self._transaction("BEGIN", "ROLLBACK") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str, end: str) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection = self._live()
            try:
                _roll_back(connection)  # what a failed end of the transaction before may have left
                _busy(connection.execute, begin)
                yield connection
                connection.execute(end)
            except sqlite3.Error as error:
                with suppress(sqlite3.Error):
                    _roll_back(connection)
                raise self._as_ours(error) from error
            except BaseException:
                with suppress(sqlite3.Error):
                    _roll_back(connection)
                raise

    def close(self) -> None:
        """Close the connection; twice is fine."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            if self._pid != os.getpid():
                _abandoned.append(connection)
                return
            try:
                connection.close()
            except sqlite3.Error as error:
                raise self._as_ours(error) from error

    def __del__(self) -> None:
        # `attach` and its like open a store that their caller never sees; from Python 3.13 on a connection that is
        # merely dropped warns. A database that could not be opened has nothing to close.
        with suppress(Exception):
            self.close()

    def _live(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError("this store is closed; open it again to use it")
        if self._pid != os.getpid():
            raise StoreError(
                f"this store was opened by process {self._pid} and is used in its fork {os.getpid()}; nothing was done. "
                "Open the store again in the new process."
            )
        return self._connection

    def _as_ours(self, error: sqlite3.Error) -> BatchkitError:
        name, text = self.path or ":memory:", str(error)
        if _is_busy(error):
            return StoreError(
                f"{name} is busy: another process kept it locked; nothing was changed, try again ({text})"
            )
        if "full" in text:
            return StoreError(
                f"{name}: the disk is full; nothing was changed. Make room and start again ({text})"
            )
        if "readonly" in text or "read-only" in text:
            return StoreError(
                f"{name} cannot be written: give this user the right to write it and its directory ({text})"
            )
        if "malformed" in text or "not a database" in text or "encrypted" in text:
            return StoreError(
                f"{name} is damaged, cut short or no batchkit store; nothing was changed. Restore the newest backup ({text})"
            )
        if "unable to open" in text:
            return StoreError(
                f"{name} cannot be opened: check that it is a file this user may read and write ({text})"
            )
        return StoreError(f"{name}: {text}; nothing was changed")


def _prepare(path: Path) -> None:
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no directory; make it, or give the store another path")
    try:
        # SQLite gives its WAL the same mode as the file: private from the first byte.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        if path.is_dir():
            raise UsageError(f"{path} is a directory; give the store a file of its own") from None
    except OSError as error:
        raise StoreError(
            f"{path} cannot be made: {error.strerror}; give this user the right to write there"
        ) from error


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])  # constants of this module


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _busy(execute: Callable[[str], object], statement: str) -> None:
    """Execute a statement; tried directly first, since the net costs more than most transactions."""
    try:
        execute(statement)
    except sqlite3.OperationalError as error:
        if not _is_busy(error):
            raise
        _patience(execute, statement)


def _is_busy(error: sqlite3.Error) -> bool:
    text = str(error)
    return "locked" in text or "busy" in text

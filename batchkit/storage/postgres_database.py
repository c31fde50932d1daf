"""One PostgreSQL database: connections, transactions, and the one place where its errors become ours.

Nothing here outlives a transaction on the server (no session setting, prepared statement, named cursor or
session lock), so a pooler may give each transaction another session.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import tenacity

from batchkit.errors import StoreError, UsageError
from batchkit.ids import RunId
from batchkit.storage.postgres_errors import as_ours, is_cut

if TYPE_CHECKING:
    import psycopg

Values: TypeAlias = "Sequence[object] | Mapping[str, object]"

_KEPT: Final = 4
"""Connections kept for the next use; threads that work at the same time may open more."""
_DEFAULTS: Final = {
    "application_name": "batchkit",
    "client_encoding": "UTF8",
    "connect_timeout": "10",
    "tcp_user_timeout": "30000",
}
_WRITE: Final = """
    BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL search_path = "{schema}", pg_temp;
    SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = '10min';
    SET LOCAL idle_in_transaction_session_timeout = '2min'; SELECT pg_current_xact_id()::text
"""
_READ: Final = """
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = "{schema}", pg_temp;
    SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = '10min';
    SET LOCAL idle_in_transaction_session_timeout = '2min'
"""
# Rows are looked up by their keys, a page at a time. The planner, which may know nothing of the tables yet, would now and
# then read a whole one for each page instead.
_BY_KEY: Final = """;
    SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_hashjoin = off;
    SET LOCAL enable_mergejoin = off
"""
_LANDED: Final = 'SELECT pg_xact_status(%s::xid8), (SELECT seq FROM "{schema}".run WHERE id = %s)'
_NEEDED: Final = 15

_abandoned: Final[list[Any]] = []
"""Connections that a fork copied: closing one would end the session of its parent, so they are kept."""


class Transaction:
    """What a block does in its transaction. Values go in as parameters: ``%s``, or ``%(name)s`` from a mapping."""

    __slots__ = ("_connection", "number", "written")

    def __init__(self, connection: psycopg.Connection[Any], number: str = "") -> None:
        self._connection = connection
        self.number: str = number
        """The server's number of this transaction."""
        self.written: tuple[RunId, int] | None = None
        """The run that a lease writes to, and the number of this write."""

    def all(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Give all rows that a statement finds."""
        found: list[tuple[Any, ...]] = self._execute(statement, values).fetchall()
        return found

    def first(self, statement: str, values: Values = ()) -> tuple[Any, ...] | None:
        """Give the first row that a statement finds."""
        found: tuple[Any, ...] | None = self._execute(statement, values).fetchone()
        return found

    def change(self, statement: str, values: Values = ()) -> int:
        """Give the number of rows that a statement changed."""
        return int(self._execute(statement, values).rowcount)

    def copy(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Copy rows into a table."""
        with self._connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            write = copy.write_row
            for row in rows:
                write(row)

    def script(self, statements: str) -> None:
        """Execute statements that take no values."""
        self._connection.execute(statements.encode())

    def _execute(self, statement: str, values: Values) -> psycopg.Cursor[Any]:
        return self._connection.cursor(binary=True).execute(statement.encode(), values)


class Database:
    """Connections that threads share, each of them for one transaction at a time.

    Connections are kept here rather than by a pool with threads of its own: who asks is told at once why a
    connection was refused, and there is nothing that a fork or the end of the interpreter would have to wait for.

    Args:
        address: what libpq takes: a URL or ``key=value`` pairs.
        schema: the schema that holds the tables.

    Raises:
        StoreError: the server cannot be reached, or is too old.
        UsageError: the address or the schema's name is none, or the driver is not installed.
    """

    def __init__(self, address: str, schema: str) -> None:
        self._open = False
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[psycopg.Connection[Any]] = []
        self._writers: dict[psycopg.Connection[Any], int] = {}
        try:
            from psycopg import ProgrammingError, conninfo
        except ImportError as error:
            raise UsageError(
                "a store on PostgreSQL needs its driver: pip install 'message-batchkit[postgres]'. A file's path needs nothing."
            ) from error
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema):
            raise UsageError(
                f"schema {schema!r}: a schema's name has up to 63 lower-case letters, digits and underscores, no digit first"
            )
        try:
            known = conninfo.conninfo_to_dict(address)
        except ProgrammingError:
            # The driver's own text would show the address, and the password in it.
            raise UsageError(
                "the store's address is none that PostgreSQL understands: postgresql://user@host:port/database"
            ) from None
        self._info = conninfo.make_conninfo("", **{**_DEFAULTS, **known})
        self.schema = schema
        self.name: str = f"{known.get('dbname') or known.get('user') or 'postgres'} on {known.get('host') or 'this machine'}"
        self._write = _WRITE.format(schema=schema).encode()
        self._read = _READ.format(schema=schema).encode()
        self._by_key = (_READ + _BY_KEY).format(schema=schema).encode()
        self._landed = _LANDED.format(schema=schema).encode()
        self._open = True

    @property
    def is_open(self) -> bool:
        """Tell whether this process may use the database."""
        return self._open and self._pid == os.getpid()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Run a block as one transaction: committed to disk at its end, or undone by any error."""
        with self._wrapped():
            thread = threading.get_ident()
            self._end_left(thread)
            connection, begun = self._begin(self._write)
            self._writers[connection] = thread
            try:
                transaction = Transaction(connection, begun)
                yield transaction
                self._commit(connection, transaction)
            except BaseException:
                self._undo(connection)
                raise
            self._give_back(connection)

    @contextmanager
    def read(self, *, by_key: bool = False) -> Iterator[Transaction]:
        """Run a block that sees one state of the database; ``by_key`` walks along keys and reads no whole table."""
        with self._wrapped():
            connection, _ = self._begin(self._by_key if by_key else self._read)
            try:
                yield Transaction(connection)
            finally:
                self._undo(connection)

    def close(self) -> None:
        """Close the connections; twice is fine."""
        with self._lock:
            self._open = False
            connections, self._idle = self._idle, []
        if self._pid != os.getpid():
            _abandoned.extend(connections)
            return
        for connection in connections:
            connection.close()

    def __del__(self) -> None:
        # `attach` and its like open a store that their caller never sees.
        with suppress(Exception):
            self.close()

    def _end_left(self, thread: int) -> None:
        """End what this thread was writing when Ctrl-C came while Python itself entered or left the block.

        Then no code of the block runs until its frame is let go of. What is written next, to give back a lease, say,
        would wait for the locks of what was written last. No block writes within another one.
        """
        for connection, writer in list(self._writers.items()):
            if writer == thread and self.is_open:
                self._close(connection)

    def _begin(self, statement: bytes) -> tuple[psycopg.Connection[Any], str]:
        """Begin a transaction; on a connection that was idle, this also finds out whether it still lives."""
        import psycopg

        while True:
            connection, fresh = self._take()
            try:
                cursor = connection.execute(statement)
                while cursor.nextset():
                    pass
                return connection, str(cursor.fetchall()[0][0]) if statement is self._write else ""
            except psycopg.OperationalError:
                connection.close()
                if fresh:
                    raise
            except BaseException:
                connection.close()
                raise

    def _take(self) -> tuple[psycopg.Connection[Any], bool]:
        """Give a connection, and whether it is a new one."""
        with self._lock:
            if not self._open:
                raise StoreError("this store is closed; open it again to use it")
            if self._pid != os.getpid():
                raise StoreError(
                    f"this store was opened by process {self._pid} and is used in its fork {os.getpid()}; nothing was done. "
                    "Open the store again in the new process."
                )
            if self._idle:
                return self._idle.pop(), False
        return self._connect(), True

    def _connect(self) -> psycopg.Connection[Any]:
        import psycopg

        connection = psycopg.connect(self._info, autocommit=True, prepare_threshold=None)
        if connection.info.server_version < _NEEDED * 10_000:
            connection.close()
            raise StoreError(
                f"{self.name} is older than PostgreSQL {_NEEDED}; a store needs that or a newer one"
            )
        if connection.info.parameter_status("server_encoding") != "UTF8":
            connection.close()
            raise StoreError(f"{self.name} is not encoded in UTF-8; make a database that is for the store")
        return connection

    def _give_back(self, connection: psycopg.Connection[Any]) -> None:
        with self._lock:
            if self._open and not connection.closed and len(self._idle) < _KEPT:
                self._writers.pop(connection, None)  # before another thread may take it
                self._idle.append(connection)
                return
        self._close(connection)

    def _close(self, connection: psycopg.Connection[Any]) -> None:
        self._writers.pop(connection, None)
        connection.close()

    def _undo(self, connection: psycopg.Connection[Any]) -> None:
        from psycopg.pq import TransactionStatus

        try:
            if connection.info.transaction_status is TransactionStatus.ACTIVE:
                # A COPY was broken off: whoever asks for anything else waits for its end.
                self._close(connection)
                return
            connection.execute(b"ROLLBACK")
        except Exception:
            self._close(connection)  # the server undoes what it never learns the end of
        except BaseException:
            self._close(connection)
            raise
        else:
            self._give_back(connection)

    def _commit(self, connection: psycopg.Connection[Any], transaction: Transaction) -> None:
        import psycopg

        try:
            done = connection.execute(b"COMMIT").statusmessage
        except psycopg.OperationalError as error:
            self._close(connection)
            if not is_cut(error):
                raise
            self._resolve(transaction, error)
            return
        if done != "COMMIT":
            raise StoreError(f"{self.name} undid a transaction that was to be committed; nothing was changed")

    def _resolve(self, transaction: Transaction, cut: psycopg.Error) -> None:
        """Find out whether a transaction landed whose COMMIT was cut off from its answer."""
        try:
            landed = _patience(self._has_landed, transaction)
        except (tenacity.RetryError, StoreError) as error:
            raise StoreError(
                f"{self.name}: the connection broke while a write was committed, and nobody could be asked since whether "
                "it landed. Look at the store again before going on."
            ) from error
        if not landed:
            raise StoreError(
                f"{self.name}: the connection broke before a write was committed; nothing was changed, try again"
            ) from cut

    def _has_landed(self, transaction: Transaction) -> bool | None:
        """Tell whether a transaction was committed; None while that is not known."""
        import psycopg

        run, seq = transaction.written or (None, 0)
        try:
            with self._connect() as connection:
                found = connection.execute(self._landed, (transaction.number, run)).fetchone()
        except (
            psycopg.DataError
        ):  # a number that this server has not reached: it took over from the one that had
            return False
        except psycopg.OperationalError:
            return None
        assert found is not None
        status, reached = found
        # The number of the write is what counts after a failover, where transactions are counted anew.
        return (
            None
            if status not in {"committed", "aborted"}
            else status == "committed" and (reached or 0) >= seq
        )

    @contextmanager
    def _wrapped(self) -> Iterator[None]:
        try:
            from psycopg import Error
        except ImportError:  # nothing was ever connected
            yield
            return
        try:
            yield
        except Error as error:
            raise as_ours(error, self.name, self.schema) from error


_patience = tenacity.Retrying(
    retry=tenacity.retry_if_result(lambda landed: landed is None),
    stop=tenacity.stop_after_delay(20),
    wait=tenacity.wait_random_exponential(multiplier=0.02, max=1.0),
)

"""One connection to a PostgreSQL catalog for one operation, and its errors in batchkit's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from batchkit.errors import TargetError, UsageError
from batchkit.login import refusal
from batchkit.targets.sqltext import Sql, sql

Connection: TypeAlias = Any
"""A psycopg connection whose cursors take PostgreSQL's own ``$1`` marks, so that ``%`` in a name is only a character."""

NOTHING: Final = "Nothing was changed."

_WORDS: Final = {
    "55P03": "another session holds a lock that was waited for {timeout:g} s. Run it again, or raise lock_timeout=",
    "40P01": "two sessions waited for each other's locks (deadlock). Run it again",
    "57014": "the statement was cancelled, or met the role's statement_timeout",
    "53100": "the server's disk is full: a promotion keeps what it replaces and needs room for it",
    "25006": "the server takes no writes: it is a standby, or the role or the database is read-only",
    "42501": "the role may not do this; docs/how-to/promote-to-postgres.md lists the privileges",
    "3D000": "there is no such database",
    "42P01": "a table of batchkit's is missing there. Run target.install(), or have target.ddl() run",
}

_CLASSES: Final = {
    "08": "the connection failed",
    "22": "a value does not fit its column's type; target.check() names the column where it can",
    "23": "a constraint of the catalog refused the values; target.check() names the column where it can",
    "28": "the server refused the role or its password; where the address names none: PGUSER, PGPASSWORD, ~/.pgpass",
    "53": "the server has no room or no connection left",
    "57": "the server ended the session",
    "P0": "a trigger or a function of the catalog refused the values",
}

_UNSPOKEN: Final = frozenset({"21", "22", "23", "42", "44", "P0", "XX"})
"""Classes of errors whose text may hold a value of a row: only their code and what they are about is told."""


def driver() -> Any:
    """Give psycopg, which is imported when it is needed and not before.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import psycopg
    except ImportError:
        raise UsageError(
            'a PostgreSQL catalog needs psycopg: pip install "message-batchkit[postgres]"'
        ) from None
    return psycopg


def address(where: str) -> str:
    """Give the address of a catalog without user, password and options.

    Raises:
        UsageError: the text is no address.
    """
    psycopg = driver()
    try:
        parts = psycopg.conninfo.conninfo_to_dict(where)
    except psycopg.Error:
        # Neither the text nor the driver's words: both may hold a password.
        raise UsageError(
            "where= is no PostgreSQL address; give postgresql://user@host/database or host=… dbname=…"
        ) from None
    host, name = (quote(str(parts.get(part, "")), safe=",") for part in ("host", "dbname"))
    port = f":{parts['port']}" if "port" in parts else ""
    return f"postgresql://{host}{port}/{name}"


class Catalog:
    """How to reach a catalog: its address, and how long to wait for a lock."""

    def __init__(self, where: str, *, lock_timeout: float) -> None:
        """Nothing is opened yet. ``lock_timeout`` is in seconds."""
        self._where = where
        self._timeout = lock_timeout

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """Open a connection for one operation. What was not committed is undone at the end.

        Raises:
            TargetError: in place of every error of the database.
        """
        psycopg, name = driver(), address(self._where)
        connection = None
        try:
            connection = psycopg.connect(
                self._where,
                autocommit=True,
                prepare_threshold=None,  # a pooler may give each transaction another server process
                cursor_factory=psycopg.RawCursor,
                client_encoding="utf-8",
                fallback_application_name="batchkit",
            )
            yield connection
        except psycopg.Error as error:
            raise self._translated(error, name) from self._cause(error)
        finally:
            if connection is not None:
                with suppress(psycopg.Error):
                    connection.close()

    def begin(self, db: Connection, *, read_only: bool = False) -> None:
        """Begin a transaction that waits for each lock no longer than it was told."""
        db.execute(f"BEGIN ISOLATION LEVEL READ COMMITTED {'READ ONLY' if read_only else 'READ WRITE'}")
        db.execute(
            "SELECT set_config('lock_timeout', $1, true)", (f"{max(1, round(self._timeout * 1000))}ms",)
        )

    def commit(self, db: Connection, landed: Callable[[Connection], bool]) -> None:
        """Commit. Where the connection is lost meanwhile, look whether the commit came about.

        Args:
            db: the connection with the transaction at hand.
            landed: tells on another connection whether it did, having waited for the transaction to end.

        Raises:
            TargetError: it did not, or nobody could be asked.
        """
        psycopg = driver()
        try:
            db.execute("COMMIT")
        except psycopg.OperationalError as error:
            if not db.broken:
                raise
            if not self._landed(landed):
                raise TargetError(
                    f"the connection was lost before the commit. {NOTHING} Run it again."
                ) from error

    def _landed(self, landed: Callable[[Connection], bool]) -> bool:
        try:
            with self.session() as other:
                self.begin(other)
                return landed(other)
        except TargetError as error:
            raise TargetError(
                "the connection was lost while committing, and whether it came about could not be read."
                f" Ask again: nothing is done twice. ({error})"
            ) from error

    def _translated(self, error: Any, name: str) -> TargetError:
        code = error.sqlstate or refusal(str(error))
        words = _WORDS.get(code) or _CLASSES.get(code[:2])
        if words is None:
            words = "the database failed" if code else "the server cannot be reached or does not answer"
        about = ", ".join(_about(error))
        shown = f"SQLSTATE {code}" if code else type(error).__name__
        if code and code[:2] not in _UNSPOKEN and error.diag.message_primary:
            shown += f": {error.diag.message_primary}"
        elif code in {"42501", "42P01"} and error.diag.message_primary:
            shown += f": {error.diag.message_primary}"  # names a table, never a value
        return TargetError(
            f"{name}: {words.format(timeout=self._timeout)} ({shown}{'; ' if about else ''}{about}). {NOTHING}"
        )

    @staticmethod
    def _cause(error: Any) -> BaseException | None:
        """Keep the driver's own error, unless its text may hold a row's value or a password."""
        return None if not error.sqlstate or error.sqlstate[:2] in _UNSPOKEN else error


def _about(error: Any) -> Iterator[str]:
    diag = error.diag
    for word, name in (
        ("constraint", diag.constraint_name),
        ("column", diag.column_name),
        ("table", diag.table_name),
    ):
        if name:
            yield f"{word} {name!r}"


def scalar(db: Connection, statement: Sql, values: tuple[Any, ...] = ()) -> Any:
    """Give the one value that a statement gives."""
    return db.execute(statement, values).fetchone()[0]


NOW: Final = Sql("extract(epoch FROM clock_timestamp())::float8")

__all__ = ["NOTHING", "NOW", "Catalog", "Connection", "address", "driver", "scalar", "sql"]

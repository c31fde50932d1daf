"""Rows out of a database: SQLite and any DB-API connection by the standard library, PostgreSQL by psycopg."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from batchkit.errors import UsageError
from batchkit.source import columns

FETCH = 2_000
"""Records that are fetched at a time."""

Params: TypeAlias = "Sequence[Any] | Mapping[str, Any]"


def read_query(where: Any, sql: str, params: Params) -> Iterator[Mapping[str, object]]:
    """Run a query and give its records, a few thousand of them in memory at a time."""
    with _cursor(where) as cursor:
        if params:
            cursor.execute(sql, params)
        else:
            cursor.execute(sql)
        yield from read_cursor(cursor)


def read_cursor(cursor: Any) -> Iterator[Mapping[str, object]]:
    """Give the records of a DB-API cursor on which a query was executed.

    Raises:
        UsageError: nothing was executed, or two columns have one name.
    """
    if cursor.description is None:
        raise UsageError("the cursor has no result: execute a SELECT on it first, or use source.query(...)")
    names = columns.unique((column[0] for column in cursor.description), where="the query")
    while rows := cursor.fetchmany(FETCH):
        for row in rows:
            yield row if isinstance(row, Mapping) else dict(zip(names, row, strict=True))


@contextmanager
def _cursor(where: Any) -> Iterator[Any]:
    """Open a cursor, and what it needs, and close what was opened here."""
    if not isinstance(where, (str, Path)):
        with closing(_of_connection(where)) as cursor:
            yield cursor
    elif str(where).startswith(("postgresql://", "postgres://")):
        psycopg = _psycopg()
        with psycopg.connect(str(where)) as connection, closing(_of_connection(connection)) as cursor:
            connection.read_only = True
            yield cursor
    else:
        with closing(_sqlite(str(where))) as connection, closing(connection.cursor()) as cursor:
            yield cursor


def _of_connection(connection: Any) -> Any:
    if type(connection).__module__.partition(".")[0] in ("psycopg", "psycopg2"):
        # A cursor without a name holds the whole result in memory; one outside a transaction must be held.
        return connection.cursor(name="batchkit_source", withhold=bool(connection.autocommit))
    return connection.cursor()


def _psycopg() -> Any:
    try:
        import psycopg
    except ImportError:
        raise UsageError(
            'reading from PostgreSQL needs psycopg: pip install "message-batchkit[postgres]", '
            "or pass a connection of the driver you have: source.query(connection, sql)"
        ) from None
    return psycopg


def _sqlite(where: str) -> sqlite3.Connection:
    if "://" in where and not where.startswith("sqlite:///"):
        scheme = where.partition("://")[0]
        raise UsageError(
            f"{scheme!r} is no database that source.query opens itself (sqlite, postgresql): "
            "pass a DB-API connection, source.query(connection, sql)"
        )
    path = Path(where.removeprefix("sqlite:///"))
    if not path.is_file():
        raise UsageError(f"there is no SQLite database {str(path)!r}")
    # Read-only, so that a query can neither change nor create a file.
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)

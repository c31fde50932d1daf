"""From what a user writes to a store."""

from __future__ import annotations

import os
from urllib.parse import parse_qsl, quote, urlencode

from batchkit.clock import Clock, SystemClock
from batchkit.errors import UsageError
from batchkit.storage import Store

__all__ = ["migrate_store", "open_store", "shown"]


def open_store(where: str | os.PathLike[str] | Store, *, clock: Clock | None = None) -> Store:
    """Open a store.

    Args:
        where: a file's path or ``":memory:"`` for SQLite, a ``postgresql://`` address, to which ``schema=`` may be
            added as a parameter, or a store, which is given back as it is.
        clock: the clock of the store. Instead of this machine's own, a store on PostgreSQL takes the server's.

    Raises:
        UsageError: the address is of no known kind, or its extra is not installed.
        StoreError: the store cannot be opened.
        StoreHeld: the file or schema belongs to another program, or to newer code.
    """
    if not isinstance(where, (str, os.PathLike)):
        return where
    text = os.fspath(where)
    if _is_postgres(text):
        from batchkit.storage.postgres import PostgresStore

        address, schema = _split(text)
        return PostgresStore(address, schema=schema, clock=None if isinstance(clock, SystemClock) else clock)
    if "://" in text:
        raise UsageError(
            f"no store is known for {text.partition('://')[0]}://; give a file's path or postgresql://…"
        )
    from batchkit.storage.sqlite import SQLiteStore

    return SQLiteStore(text, clock=clock)


def migrate_store(where: str) -> tuple[int, int]:
    """Make the tables of a store on PostgreSQL, or bring them up to date; give the version before and after.

    Raises:
        UsageError: the store is a file, which is brought up to date whenever it is opened.
        StoreError: the server cannot be reached, or the user lacks a right.
        StoreHeld: the schema belongs to another program, or to newer code.
    """
    if not _is_postgres(where):
        raise UsageError(
            f"{where} is a file: it is brought up to date whenever it is opened; only postgresql://… is migrated"
        )
    from batchkit.storage.postgres_database import Database
    from batchkit.storage.postgres_schema import migrate

    database = Database(*_split(where))
    try:
        return migrate(database)
    finally:
        database.close()


def shown(where: str) -> str:
    """Give a store's path or address as it may be printed: without a password."""
    scheme, found, rest = where.partition("://")
    if not found:
        return where
    base, _, query = rest.partition("?")
    authority, slash, path = base.partition("/")
    user, at, host = authority.rpartition("@")
    kept = [(name, value) for name, value in parse_qsl(query) if name not in {"password", "sslpassword"}]
    return f"{scheme}://{user.partition(':')[0]}{at}{host}{slash}{path}{_query(kept)}"


def _is_postgres(text: str) -> bool:
    return text.startswith(("postgresql://", "postgres://"))


def _split(text: str) -> tuple[str, str]:
    """Give the address that the driver takes, and the schema."""
    base, _, query = text.partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    return base + _query([one for one in given if one[0] != "schema"]), dict(given).get("schema", "batchkit")


def _query(parameters: list[tuple[str, str]]) -> str:
    return f"?{urlencode(parameters, quote_via=quote)}" if parameters else ""

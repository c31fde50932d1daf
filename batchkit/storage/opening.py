"""From what a user writes to a store."""

from __future__ import annotations

import os
from typing import cast

from batchkit.clock import Clock
from batchkit.errors import UsageError
from batchkit.storage import Store

__all__ = ["open_store"]


def open_store(where: str | os.PathLike[str] | Store, *, clock: Clock | None = None) -> Store:
    """Open a store.

    Args:
        where: a file's path or ``":memory:"`` for SQLite, a ``postgresql://`` address, or a store, which is
            given back as it is.
        clock: the clock of a SQLite store; PostgreSQL has its own.

    Raises:
        UsageError: the address is of no known kind, or its extra is not installed.
        StoreError: the store cannot be opened.
        StoreHeld: the file belongs to another program, or to newer code.
    """
    if not isinstance(where, (str, os.PathLike)):
        return where
    text = os.fspath(where)
    if text.startswith(("postgresql://", "postgres://")):
        return _open_postgres(text)
    if "://" in text:
        raise UsageError(
            f"no store is known for {text.partition('://')[0]}://; give a file's path or postgresql://…"
        )
    from batchkit.storage.sqlite import SQLiteStore

    return SQLiteStore(text, clock=clock)


def _open_postgres(address: str) -> Store:
    import importlib

    try:
        module = importlib.import_module("batchkit.storage.postgres")
    except ImportError as error:
        raise UsageError(
            "a store on PostgreSQL needs its driver: pip install 'message-batchkit[postgres]'. A file's path needs nothing."
        ) from error
    return cast("Store", module.PostgresStore(address))

"""Catalogs to test targets on: made, read and edited behind the target's back."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from batchkit.targets import Target
from batchkit.targets.postgres import PostgresTarget
from batchkit.targets.sqlite import SQLiteTarget

CatalogRow: TypeAlias = Mapping[str, Any]


class TargetCatalog(Protocol):
    """One catalog with a table ``products``.

    Its columns are ``sku`` (text, the key), ``title`` (text), ``category`` (text), ``score`` (integer),
    ``features`` (a place for JSON), ``updated_at`` (text) and ``price`` (a float). All but the key admit NULL.
    """

    def target(self, table: str = "products", **options: Any) -> Target:
        """Give a target on a table of this catalog."""
        ...

    def insert(self, key: str, **values: Any) -> None:
        """Insert a row as somebody else would."""
        ...

    def edit(self, key: str, **values: Any) -> None:
        """Change a row as somebody else would."""
        ...

    def delete(self, key: str) -> None:
        """Delete a row as somebody else would."""
        ...

    def read(self) -> Mapping[str, CatalogRow]:
        """Give every row by key, each value with its type as the database has it."""
        ...

    def tables(self) -> frozenset[str]:
        """Give the names of the tables that are there."""
        ...

    def constrain(self, column: str, allowed: str) -> None:
        """Make a column of an empty table admit one text only."""
        ...

    def require(self, column: str) -> None:
        """Make a column of an empty table refuse NULL."""
        ...

    def loosen_key(self) -> None:
        """Make the key column of an empty table no longer unique."""
        ...


class SQLiteCatalog:
    """A :class:`TargetCatalog` in a SQLite file."""

    _COLUMNS: Mapping[str, str] = {
        "sku": "TEXT PRIMARY KEY",
        "title": "TEXT",
        "category": "TEXT",
        "score": "INTEGER",
        "features": "",
        "updated_at": "TEXT",
        "price": "REAL",
    }

    def __init__(self, path: Path, *, suffix: str = "") -> None:
        """Make the catalog at ``path``. ``suffix`` stands after the columns, such as ``WITHOUT ROWID``."""
        self.path = path
        self._suffix = suffix
        self._make(self._COLUMNS)

    def _make(self, columns: Mapping[str, str]) -> None:
        listed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        self.run("DROP TABLE IF EXISTS products")
        self.run(f"CREATE TABLE products ({listed}) {self._suffix}")

    def run(self, statement: str, values: Any = ()) -> list[Any]:
        """Run one statement on a connection of its own, committed."""
        with closing(sqlite3.connect(self.path)) as db, db:
            return db.execute(statement, values).fetchall()

    def target(self, table: str = "products", **options: Any) -> SQLiteTarget:
        return SQLiteTarget(self.path, table, **{"key": "sku", **options})

    def insert(self, key: str, **values: Any) -> None:
        names = ["sku", *values]
        marks = ", ".join("?" * len(names))
        self.run(f"INSERT INTO products ({', '.join(names)}) VALUES ({marks})", (key, *values.values()))

    def edit(self, key: str, **values: Any) -> None:
        sets = ", ".join(f"{name} = ?" for name in values)
        self.run(f"UPDATE products SET {sets} WHERE sku = ?", (*values.values(), key))

    def delete(self, key: str) -> None:
        self.run("DELETE FROM products WHERE sku = ?", (key,))

    def read(self) -> Mapping[str, CatalogRow]:
        names = [row[1] for row in self.run("PRAGMA table_info(products)")]
        rows = self.run("SELECT * FROM products")
        return {row[names.index("sku")]: dict(zip(names, row, strict=True)) for row in rows}

    def tables(self) -> frozenset[str]:
        return frozenset(row[0] for row in self.run("SELECT name FROM sqlite_schema WHERE type = 'table'"))

    def constrain(self, column: str, allowed: str) -> None:
        quoted = allowed.replace("'", "''")
        self._make({**self._COLUMNS, column: f"{self._COLUMNS[column]} CHECK ({column} = '{quoted}')"})

    def require(self, column: str) -> None:
        self._make({**self._COLUMNS, column: f"{self._COLUMNS[column]} NOT NULL"})

    def loosen_key(self) -> None:
        self._suffix = ""
        self._make({**self._COLUMNS, "sku": "TEXT"})


class PostgresCatalog:
    """A :class:`TargetCatalog` in a PostgreSQL database, from which an earlier one is cleared."""

    _COLUMNS: Mapping[str, str] = {
        "sku": "text PRIMARY KEY",
        "title": "text",
        "category": "text",
        "score": "integer",
        "features": "jsonb",
        "updated_at": "text",
        "price": "double precision",
    }

    def __init__(self, address: str, *, install: bool = False, **options: Any) -> None:
        """Make the catalog. ``options`` are given to every target; ``install`` installs it before the first row."""
        self.address = address
        self._options = options
        self._install = install
        self.run("DROP SCHEMA IF EXISTS batchkit_catalog CASCADE")
        self._make(self._COLUMNS)

    def _make(self, columns: Mapping[str, str]) -> None:
        listed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        self.run("DROP TABLE IF EXISTS products CASCADE")
        self.run(f"CREATE TABLE products ({listed})")

    def run(self, statement: str, values: Any = ()) -> list[Any]:
        """Run one statement on a connection of its own, committed. Values stand where it says ``$1``."""
        import psycopg

        with psycopg.connect(self.address, cursor_factory=psycopg.RawCursor) as db:
            cursor = db.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def target(self, table: str = "products", **options: Any) -> PostgresTarget:
        return PostgresTarget(self.address, table, **{"key": "sku", **self._options, **options})

    def insert(self, key: str, **values: Any) -> None:
        if self._install:
            self.target().install()
            self._install = False
        names = ["sku", *values]
        marks = ", ".join(f"${number}" for number in range(1, len(names) + 1))
        self.run(f"INSERT INTO products ({', '.join(names)}) VALUES ({marks})", (key, *values.values()))

    @property
    def seen(self) -> str:
        """What everybody else reads and writes: the view of an overlaid table, where there is one."""
        ((view,),) = self.run("SELECT to_regclass('products_promoted')::text")
        return view or "products"

    def edit(self, key: str, **values: Any) -> None:
        sets = ", ".join(f"{name} = ${number}" for number, name in enumerate(values, start=2))
        self.run(f"UPDATE {self.seen} SET {sets} WHERE sku = $1", (key, *values.values()))

    def delete(self, key: str) -> None:
        self.run(f"DELETE FROM {self.seen} WHERE sku = $1", (key,))

    def read(self) -> Mapping[str, CatalogRow]:
        return {
            row[0]: dict(zip(self._COLUMNS, row, strict=True))
            for row in self.run(f"SELECT * FROM {self.seen}")
        }

    def tables(self) -> frozenset[str]:
        found = self.run(
            """SELECT '"' || schemaname || '"."' || tablename || '"' FROM pg_tables"""
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        return frozenset(row[0] for row in found)

    def constrain(self, column: str, allowed: str) -> None:
        quoted = allowed.replace("'", "''")
        self._make({**self._COLUMNS, column: f"{self._COLUMNS[column]} CHECK ({column} = '{quoted}')"})

    def require(self, column: str) -> None:
        self._make({**self._COLUMNS, column: f"{self._COLUMNS[column]} NOT NULL"})

    def loosen_key(self) -> None:
        self._make({**self._COLUMNS, "sku": "text"})

"""A catalog that only two functions can reach: pages of a loose-leaf book, no database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from batchkit.targets.callable import CallableTarget, Change

COLUMNS = ("sku", "title", "category", "score", "features", "updated_at", "price")


class Binder(MutableMapping[str, dict[str, Any]]):
    """Leaves in a file, each on disk once it is put there: what a killed process leaves, another finds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._run("CREATE TABLE IF NOT EXISTS leaf (key TEXT PRIMARY KEY, row TEXT NOT NULL)")

    def _run(self, statement: str, *values: str) -> list[tuple[str]]:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = OFF")  # it outlives a process, not the machine
            return db.execute(statement, values).fetchall()

    def __getitem__(self, key: str) -> dict[str, Any]:
        for (row,) in self._run("SELECT row FROM leaf WHERE key = ?", key):
            return dict(json.loads(row))
        raise KeyError(key)

    def __setitem__(self, key: str, row: dict[str, Any]) -> None:
        self._run("INSERT OR REPLACE INTO leaf VALUES (?, ?)", key, json.dumps(row))

    def __delitem__(self, key: str) -> None:
        self._run("DELETE FROM leaf WHERE key = ?", key)

    def __iter__(self) -> Iterator[str]:
        return iter([key for (key,) in self._run("SELECT key FROM leaf ORDER BY key")])

    def __len__(self) -> int:
        return len(list(iter(self)))


class LeafCatalog:
    """A `batchkit.testing.target_catalogs.TargetCatalog` in memory, but for what needs a database's table.

    Attributes:
        compares: Whether ``write`` compares what stands there with what was expected, and refuses.
    """

    def __init__(self, path: Path, *, page: int = 2, compares: bool = False) -> None:
        self.path, self.page, self.compares = path, page, compares
        self.rows: MutableMapping[str, dict[str, Any]] = {}

    def target(self, table: str = "products", **options: Any) -> CallableTarget:
        given = {"read": self.fetch, "write": self.store, "page": self.page, **options}
        return CallableTarget(self.path, table, **given)

    def fetch(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """Give rows by key."""
        assert len(keys) <= self.page
        return {key: dict(self.rows[key]) for key in keys if key in self.rows}

    def store(self, changes: Sequence[Change]) -> Iterable[str] | None:
        """Set columns of rows."""
        assert len(changes) <= self.page
        refused = []
        for key, values, expected in changes:
            row = self.rows.get(key)
            if row is None or (self.compares and any(row[column] != old for column, old in expected.items())):
                refused.append(key)
            else:
                self.rows[key] = {**row, **values}
        return refused if self.compares else None

    def insert(self, key: str, **values: Any) -> None:
        self.rows[key] = {**dict.fromkeys(COLUMNS), "sku": key, **values}

    def edit(self, key: str, **values: Any) -> None:
        self.rows[key] = {**self.rows[key], **values}

    def delete(self, key: str) -> None:
        del self.rows[key]

    def read(self) -> dict[str, dict[str, Any]]:
        return {key: dict(row) for key, row in self.rows.items()}

    def tables(self) -> frozenset[str]:
        """Give the catalog's one table, and those in batchkit's own file."""
        if not self.path.exists():
            return frozenset({"products"})
        with closing(sqlite3.connect(self.path)) as db:
            found = db.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
            return frozenset({"products", *(row[0] for row in found)})

    def constrain(self, column: str, allowed: str) -> None:
        raise NotImplementedError("rows here have no constraints")

    def require(self, column: str) -> None:
        raise NotImplementedError("rows here have no constraints")

    def loosen_key(self) -> None:
        raise NotImplementedError("keys here are those of a dict")

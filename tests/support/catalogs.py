"""Catalogs of one table under a random history: written behind a target's back, and read byte by byte."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Protocol

import attrs
import psycopg
from leafcatalog import LeafCatalog

from batchkit.targets import Target
from batchkit.targets.postgres import PostgresTarget
from batchkit.targets.sqlite import SQLiteTarget


@attrs.frozen
class Image:
    """One value with its type and bytes."""

    kind: str
    raw: bytes | str | None


class Shelf(Protocol):
    """A table ``t`` with a key ``k``, promoted columns ``x`` and ``y``, a guard ``g`` and a ``note``.

    ``stored`` lists what others may write to each promoted column, ``answers`` what a run may answer: values
    that are equal in some type and differ in their bytes. ``missing`` lists what a target may do with other keys.
    """

    missing: ClassVar[Sequence[str]]
    stored: ClassVar[Mapping[str, Sequence[Any]]]
    answers: ClassVar[Mapping[str, Sequence[Any]]]

    def clear(self) -> None:
        """Make the table empty, with no promotion."""
        ...

    def insert(self, key: str, x: Any, y: Any, guard: str | None) -> None:
        """Insert a row."""
        ...

    def edit(self, key: str, column: str, value: Any) -> None:
        """Change one value of a row that may be there."""
        ...

    def delete(self, key: str) -> None:
        """Delete a row that may be there."""
        ...

    def read(self) -> dict[str, dict[str, Any]]:
        """Give each row: the images of its promoted columns, its guard and its note."""
        ...

    def made_of(self, x: Any, y: Any) -> tuple[Image, Image]:
        """Give what the table would make of two answers: by asking a table of the same kind."""
        ...

    def target(self, missing: Any) -> Target:
        """Give a target on the table."""
        ...


class SQLiteShelf:
    """A SQLite file: ``x`` without a type, ``y`` INTEGER."""

    missing: ClassVar[Sequence[str]] = ["report", "insert"]
    _VALUES: ClassVar = [None, 0, 1, -1, 0.5, 1e300, "", "x", "X", "1", "01", " ", b"", b"x", "x\0y", 2**62]
    _ANSWERS: ClassVar = [None, 0, 1, 0.5, "x", "X", "1", ["x"], True]
    stored: ClassVar[Mapping[str, Sequence[Any]]] = {"x": _VALUES, "y": _VALUES}
    answers: ClassVar[Mapping[str, Sequence[Any]]] = {"x": _ANSWERS, "y": _ANSWERS}

    def __init__(self, path: Path) -> None:
        self._path = path

    def _run(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with closing(sqlite3.connect(self._path)) as db, db:
            return db.execute(statement, values).fetchall()

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)
        self._run("CREATE TABLE t (k TEXT PRIMARY KEY, x, y INTEGER, g TEXT, note TEXT)")

    def insert(self, key: str, x: Any, y: Any, guard: str | None) -> None:
        self._run("INSERT INTO t (k, x, y, g) VALUES (?, ?, ?, ?)", (key, x, y, guard))

    def edit(self, key: str, column: str, value: Any) -> None:
        self._run(f"UPDATE t SET {column} = ? WHERE k = ?", (value, key))

    def delete(self, key: str) -> None:
        self._run("DELETE FROM t WHERE k = ?", (key,))

    def read(self) -> dict[str, dict[str, Any]]:
        rows = self._run("SELECT k, typeof(x), CAST(x AS BLOB), typeof(y), CAST(y AS BLOB), g, note FROM t")
        return {
            k: {"image": (Image(tx, bx), Image(ty, by)), "g": g, "note": n}
            for k, tx, bx, ty, by, g, n in rows
        }

    def made_of(self, x: Any, y: Any) -> tuple[Image, Image]:
        plain = ['["x"]' if value == ["x"] else value for value in (x, y)]
        with closing(sqlite3.connect(":memory:")) as db:
            db.execute("CREATE TABLE t (x, y INTEGER)")
            db.execute("INSERT INTO t VALUES (?, ?)", plain)
            row = db.execute(
                "SELECT typeof(x), CAST(x AS BLOB), typeof(y), CAST(y AS BLOB) FROM t"
            ).fetchone()
        return Image(*row[:2]), Image(*row[2:])

    def target(self, missing: Any) -> Target:
        return SQLiteTarget(self._path, "t", "k", guard="g", missing=missing)


class PostgresShelf:
    """A PostgreSQL table: ``x`` text, ``y`` numeric, whose 1 and 1.0 are equal. Everybody uses the view, if one is there."""

    missing: ClassVar[Sequence[str]] = ["report", "insert"]
    stored: ClassVar[Mapping[str, Sequence[Any]]] = {
        "x": [None, "", "x", "X", "x ", " ", "1", "01", '["x"]', "é"],
        "y": [None, "0", "0.0", "1", "1.0", "1.00", "-1", "0.5", "1e300"],
    }
    answers: ClassVar[Mapping[str, Sequence[Any]]] = {
        "x": [None, "", "x", "X", "1", ["x"], True, 1],
        "y": [None, 0, 1, 0.5, 1.0, True],
    }

    def __init__(self, address: str, strategy: Any) -> None:
        self._address, self._strategy = address, strategy
        self._db = psycopg.connect(address, autocommit=True)
        self._seen = "t" if strategy == "columns" else "t_promoted"
        self._run("DROP SCHEMA public CASCADE")
        self._run("CREATE SCHEMA public")
        self._run("DROP SCHEMA IF EXISTS batchkit_catalog CASCADE")
        self._run("CREATE TABLE t (k text PRIMARY KEY, x text, y numeric, g text, note text)")
        self.target("report").install()
        tables = self._run(
            "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables WHERE schemaname = %s",
            "batchkit_catalog",
        )
        self._all = ", ".join(["t", *(row[0] for row in tables)])

    def close(self) -> None:
        self._db.close()

    def _run(self, statement: str, *values: Any) -> list[Any]:
        cursor = self._db.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []

    def clear(self) -> None:
        self._run(f"TRUNCATE {self._all}")

    def insert(self, key: str, x: Any, y: Any, guard: str | None) -> None:
        self._run("INSERT INTO t (k, x, y, g) VALUES (%s, %s, %s::text::numeric, %s)", key, x, y, guard)

    def edit(self, key: str, column: str, value: Any) -> None:
        kind = "numeric" if column == "y" else "text"
        self._run(f"UPDATE {self._seen} SET {column} = %s::text::{kind} WHERE k = %s", value, key)

    def delete(self, key: str) -> None:
        self._run(f"DELETE FROM {self._seen} WHERE k = %s", key)

    def read(self) -> dict[str, dict[str, Any]]:
        rows = self._run(f"SELECT k, x, y::text, g, note FROM {self._seen}")
        return {
            k: {"image": (Image("text", x), Image("numeric", y)), "g": g, "note": n} for k, x, y, g, n in rows
        }

    def made_of(self, x: Any, y: Any) -> tuple[Image, Image]:
        text = '["x"]' if x == ["x"] else "true" if x is True else "1" if x == 1 else x
        ((number,),) = self._run(
            "SELECT %s::text::numeric::text", None if y is None else str(int(y) if y is True else y)
        )
        return Image("text", text), Image("numeric", number)

    def target(self, missing: Any) -> Target:
        columns = {"x": "x", "y": "y"}
        return PostgresTarget(
            self._address, "t", "k", guard="g", missing=missing, strategy=self._strategy, columns=columns
        )


class LeafShelf:
    """A catalog behind two functions: JSON values, each with its type, and no place for a new row."""

    missing: ClassVar[Sequence[str]] = ["report"]
    _VALUES: ClassVar = [
        None,
        0,
        1,
        1.0,
        -1,
        0.5,
        1e300,
        "",
        "x",
        "X",
        "x ",
        "1",
        ["x"],
        {"x": 1},
        True,
        False,
    ]
    stored: ClassVar[Mapping[str, Sequence[Any]]] = {"x": _VALUES, "y": _VALUES}
    answers: ClassVar[Mapping[str, Sequence[Any]]] = {"x": _VALUES, "y": _VALUES}

    def __init__(self, path: Path) -> None:
        self._leaves = LeafCatalog(path)

    def clear(self) -> None:
        self._leaves.rows.clear()
        self._leaves.path.unlink(missing_ok=True)

    def insert(self, key: str, x: Any, y: Any, guard: str | None) -> None:
        self._leaves.rows[key] = {"x": x, "y": y, "g": guard, "note": None}

    def edit(self, key: str, column: str, value: Any) -> None:
        if key in self._leaves.rows:
            self._leaves.edit(key, **{column: value})

    def delete(self, key: str) -> None:
        self._leaves.rows.pop(key, None)

    def read(self) -> dict[str, dict[str, Any]]:
        return {
            key: {"image": self.made_of(row["x"], row["y"]), "g": row["g"], "note": row["note"]}
            for key, row in self._leaves.read().items()
        }

    def made_of(self, x: Any, y: Any) -> tuple[Image, Image]:
        first, second = (Image(type(value).__name__, json.dumps(value)) for value in (x, y))
        return first, second

    def target(self, missing: Any) -> Target:
        return self._leaves.target(guard="g", missing=missing, columns={"x": "x", "y": "y"})

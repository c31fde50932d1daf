"""What a SQLite catalog's table looks like: read from the database, never assumed."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping

import attrs

from batchkit.errors import TargetError
from batchkit.targets.sqltext import Sql, identifier


@attrs.frozen(kw_only=True)
class TableColumn:
    """One column. ``affinity`` is SQLite's: TEXT, INTEGER, REAL, NUMERIC or BLOB."""

    name: str
    declared: str
    affinity: Sql
    required: bool
    default: bool
    generated: bool

    @property
    def limit(self) -> int | None:
        """Give the length in the declared type, as in ``VARCHAR(80)``. SQLite itself does not enforce it."""
        found = re.search(r"CHAR[^(]*\(\s*(\d+)", self.declared, re.IGNORECASE)
        return int(found.group(1)) if found else None


@attrs.frozen(kw_only=True)
class Table:
    """One table of the catalog. Names are spelled as the catalog spells them."""

    name: str
    columns: Mapping[str, TableColumn]
    strict: bool
    unique: frozenset[str]
    rowid: Sql | None
    triggers: bool
    children: tuple[Reference, ...]

    def column(self, name: str) -> TableColumn | None:
        """Find a column as SQLite does, whatever the case of ASCII letters."""
        return self.columns.get(_folded(name))


@attrs.frozen(kw_only=True)
class Reference:
    """A foreign key of another table that points here: pairs of (its column, our column)."""

    table: str
    pairs: tuple[tuple[str, str], ...]


def affinity(declared: str, *, strict: bool) -> Sql:
    """Give the affinity of a declared type by SQLite's own rules, in their order."""
    kind = declared.upper()
    if strict and kind == "ANY":
        return Sql("BLOB")
    if "INT" in kind:
        return Sql("INTEGER")
    if any(word in kind for word in ("CHAR", "CLOB", "TEXT")):
        return Sql("TEXT")
    if "BLOB" in kind or not kind:
        return Sql("BLOB")
    if any(word in kind for word in ("REAL", "FLOA", "DOUB")):
        return Sql("REAL")
    return Sql("NUMERIC")


def read_table(db: sqlite3.Connection, name: str) -> Table:
    """Read the shape of a table of the main database.

    Raises:
        TargetError: there is no such table, or it is a view or a virtual table.
    """
    found = db.execute(
        "SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main' AND name = ? COLLATE NOCASE",
        (name,),
    ).fetchone()
    if found is None:
        names = db.execute(
            "SELECT name FROM main.sqlite_schema WHERE type = 'table' ORDER BY name"
        ).fetchall()
        shown = ", ".join(n for (n,) in names if not n.startswith(("sqlite_", "batchkit_"))) or "no table"
        raise TargetError(f"the catalog has no table {name!r}; it has {shown}")
    real, kind, without_rowid, strict = found
    if kind != "table":
        raise TargetError(f"{real!r} is a {kind}, and a promotion writes to tables only")
    columns: dict[str, TableColumn] = {}
    primary: list[str] = []
    for column, declared, notnull, default, key, hidden in db.execute(
        'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid',
        (real,),
    ).fetchall():
        columns[_folded(column)] = TableColumn(
            name=column,
            declared=declared,
            affinity=affinity(declared, strict=bool(strict)),
            required=bool(notnull),
            default=default is not None,
            generated=hidden in (2, 3),
        )
        if key:
            primary.append(column)
    return Table(
        name=real,
        columns=columns,
        strict=bool(strict),
        unique=_unique(db, real) | (frozenset(primary) if len(primary) == 1 else frozenset()),
        rowid=None if without_rowid else _rowid(columns),
        triggers=bool(
            db.execute(
                "SELECT count(*) FROM main.sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE",
                (real,),
            ).fetchone()[0]
        ),
        children=_children(db, real, primary),
    )


def column_of(table: Table, name: str) -> TableColumn:
    """Give a column by name.

    Raises:
        TargetError: the table has none of that name.
    """
    column = table.column(name)
    if column is None:
        shown = ", ".join(c.name for c in table.columns.values())
        raise TargetError(f"table {table.name!r} has no column {name!r}; it has {shown}")
    return column


def _unique(db: sqlite3.Connection, table: str) -> frozenset[str]:
    """Give the columns that alone have a unique index over every row."""
    rows = db.execute(
        "SELECT max(i.name) FROM pragma_index_list(?) AS l, pragma_index_info(l.name) AS i "
        'WHERE l."unique" = 1 AND l.partial = 0 GROUP BY l.name HAVING count(*) = 1 AND max(i.name) IS NOT NULL',
        (table,),
    ).fetchall()
    return frozenset(row[0] for row in rows)


def _rowid(columns: Mapping[str, TableColumn]) -> Sql | None:
    """Give a name of the row id that no column takes."""
    free = [alias for alias in ("_rowid_", "rowid", "oid") if alias not in columns]
    return Sql(free[0]) if free else None


def _children(db: sqlite3.Connection, table: str, primary: list[str]) -> tuple[Reference, ...]:
    """Give the foreign keys of all tables that point at this one."""
    pairs: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for child, number, position, own, theirs in db.execute(
        'SELECT m.name, f.id, f.seq, f."from", f."to" FROM main.sqlite_schema AS m, pragma_foreign_key_list(m.name) AS f '
        "WHERE m.type = 'table' AND f.\"table\" = ? COLLATE NOCASE ORDER BY m.name, f.id, f.seq",
        (table,),
    ).fetchall():
        pairs.setdefault((child, number), []).append((own, theirs or primary[position]))
    return tuple(Reference(table=child, pairs=tuple(found)) for (child, _), found in sorted(pairs.items()))


def quoted(column: TableColumn) -> Sql:
    """Give a column's name for use in SQL."""
    return identifier(column.name)


def _folded(name: str) -> str:
    """Fold ASCII letters only, as SQLite does."""
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in name)

"""What would make a promotion into a SQLite table fail, found out by reading its shape and by trying."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from batchkit.targets import Columns, Missing, OutputField, Problem
from batchkit.targets.checking import Checking, refused, trials
from batchkit.targets.mapping import Mapped, value_of
from batchkit.targets.sqlite_table import Table, TableColumn, quoted, read_table
from batchkit.targets.sqltext import identifier, sql

_NUMERIC = frozenset({"INTEGER", "REAL", "NUMERIC"})
_TEXTUAL = frozenset({"string", "array", "object"})


def problems(
    db: sqlite3.Connection,
    table: str,
    key: str,
    fields: Sequence[OutputField],
    *,
    columns: Columns | None,
    guard: Sequence[str],
    missing: Missing,
) -> list[Problem]:
    """Give every problem that is certain or likely; see :meth:`batchkit.targets.Target.check`.

    Raises:
        TargetError: there is no such table.
    """
    shape = read_table(db, table)
    checking = Checking(
        table=shape.name, columns=[*shape.columns.values()], find=shape.column, unfit=_unfit, key=key
    )
    found, placed = checking.look(
        fields, columns, guard, missing, lambda column: _key_problems(shape, column)
    )
    return found + _tried(db, shape, placed)


def _key_problems(table: Table, column: TableColumn) -> Iterator[Problem]:
    if column.name not in table.unique:
        yield Problem(
            column=column.name,
            what="the key column is not unique, so a key could mean several rows",
            fix=f"CREATE UNIQUE INDEX … ON {table.name} ({column.name})",
        )
    if column.affinity == "REAL":
        yield Problem(
            column=column.name,
            what=f"the key column is declared {column.declared}, which holds 123 as 123.0: no key would match",
            fix="Declare it TEXT or INTEGER.",
        )


def _unfit(column: TableColumn, field: OutputField, mapped: Mapped) -> str:
    if column.affinity not in _NUMERIC:
        return ""
    text = sorted(field.kinds & _TEXTUAL) or (["JSON text"] if mapped.as_json else [""])
    return text[0]


def _ready(mapped: Mapped, value: Any) -> Any:
    return value_of(mapped, {mapped.field: value})


def _tried(
    db: sqlite3.Connection, table: Table, placed: Iterable[tuple[OutputField, Mapped, TableColumn]]
) -> list[Problem]:
    """Write edge values to one catalog row and undo it: constraints and triggers speak for themselves."""
    found: list[Problem] = []
    try:
        db.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if "readonly" in str(error):
            return [
                Problem(
                    column="",
                    what="the catalog cannot be written",
                    fix="Check the file's and folder's permissions.",
                )
            ]
        return found  # locked just now: what can be read was read
    try:
        one = table.rowid or quoted(next(c for c in table.columns.values() if c.name in table.unique))
        row = db.execute(
            sql("SELECT {one} FROM main.{table} LIMIT 1", one=one, table=identifier(table.name))
        ).fetchone()
        for field, mapped, column in placed if row else ():
            statement = sql(
                "UPDATE main.{table} SET {column} = ? WHERE {one} = ?",
                table=identifier(table.name),
                column=quoted(column),
                one=one,
            )
            for trial in trials(field, partial(_ready, mapped)):
                try:
                    db.execute(statement, (trial.value, row[0]))
                except sqlite3.IntegrityError as error:
                    found.append(refused(column, field, trial, error))
                    break
    finally:
        db.execute("ROLLBACK")
    return found

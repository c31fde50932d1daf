"""What would make a promotion into a SQLite table fail, found out by reading its shape and by trying."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import attrs

from batchkit.errors import UsageError
from batchkit.targets import Columns, Missing, OutputField, Problem
from batchkit.targets.mapping import Mapped, resolve, value_of
from batchkit.targets.sqlite_table import Table, TableColumn, quoted, read_table
from batchkit.targets.sqltext import identifier, sql

_NUMERIC = frozenset({"INTEGER", "REAL", "NUMERIC"})
_TEXTUAL = frozenset({"string", "array", "object"})
_TRIED = 1_000
"""Allowed values of one closed field that are tried; a field with more is a data set, not a choice."""


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
    try:
        mapping = resolve(columns, [field.name for field in fields])
    except UsageError as error:
        return [Problem(column="", what=str(error), fix="Correct columns=.")]
    by_name = {field.name: field for field in fields}
    found = [*_key_problems(shape, key)]
    placed: list[tuple[OutputField, Mapped, TableColumn]] = []
    for mapped in mapping:
        column = shape.column(mapped.column)
        if column is None:
            found.append(_no_column(shape, mapped.column, f"field {mapped.field!r} would go there"))
        elif own := list(_column_problems(column, by_name[mapped.field], mapped, key)):
            found += own
        else:
            placed.append((by_name[mapped.field], mapped, column))
    found += [_no_column(shape, name, "it is the guard") for name in guard if shape.column(name) is None]
    if missing == "insert":
        taken = {mapped.column.casefold() for mapped in mapping} | {key.casefold()}
        found += _insert_problems(shape, taken)
    return found + _tried(db, shape, placed)


def _no_column(table: Table, name: str, why: str) -> Problem:
    names = [column.name for column in table.columns.values()]
    close = get_close_matches(name, names, n=1)
    meant = f"Did you mean {close[0]!r}? " if close else ""
    return Problem(
        column=name,
        what=f"table {table.name!r} has no such column ({why})",
        fix=f"{meant}Map it with columns=, or add the column. The table has {', '.join(names)}.",
    )


def _key_problems(table: Table, key: str) -> Iterator[Problem]:
    column = table.column(key)
    if column is None:
        yield _no_column(table, key, "it is the key")
        return
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


def _column_problems(column: TableColumn, field: OutputField, mapped: Mapped, key: str) -> Iterator[Problem]:
    if column.name.casefold() == key.casefold():
        yield Problem(
            column=column.name,
            what=f"field {field.name!r} would overwrite the key",
            fix="Map it with columns=.",
        )
        return
    if column.generated:
        yield Problem(
            column=column.name,
            what="the column is generated and cannot be written",
            fix="Map the field elsewhere.",
        )
        return
    text = sorted(field.kinds & _TEXTUAL) or (["JSON text"] if mapped.as_json else [])
    if column.affinity in _NUMERIC and text:
        yield Problem(
            column=column.name,
            what=f"declared {column.declared}, but field {field.name!r} may be {text[0]}",
            fix="Declare it TEXT, or map the field elsewhere.",
        )
    if column.required and "null" in field.kinds:
        yield Problem(
            column=column.name,
            what=f"NOT NULL, but field {field.name!r} may be null",
            fix="Allow NULL, or make the contract's field required.",
        )
    if column.limit is not None and "string" in field.kinds and not field.allowed:
        longest = field.max_length
        if longest is None or longest > column.limit:
            size = "any length" if longest is None else f"{longest} characters"
            yield Problem(
                column=column.name,
                what=f"declared {column.declared}, but field {field.name!r} may have {size}",
                fix=f"Limit the field: Field(max_length={column.limit}).",
            )


def _insert_problems(table: Table, taken: set[str]) -> Iterator[Problem]:
    for column in table.columns.values():
        if (
            column.required
            and not column.default
            and not column.generated
            and column.name.casefold() not in taken
        ):
            yield Problem(
                column=column.name,
                what='NOT NULL without a default, so missing="insert" cannot make a row',
                fix='Give the column a default, or use missing="report".',
            )


@attrs.frozen
class _Trial:
    value: Any
    shown: str


def _trials(field: OutputField, mapped: Mapped) -> Iterator[_Trial]:
    """Give the values at the edge of what the contract allows."""
    if "null" in field.kinds:
        yield _Trial(None, "NULL")
    for value in field.allowed[:_TRIED]:
        yield _Trial(value_of(mapped, {field.name: value}), repr(value))
    if "string" in field.kinds and not field.allowed and field.max_length is not None:
        value = value_of(mapped, {field.name: "x" * field.max_length})
        yield _Trial(value, f"a text of {field.max_length} characters")


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
            for trial in _trials(field, mapped):
                try:
                    db.execute(statement, (trial.value, row[0]))
                except sqlite3.IntegrityError as error:
                    found.append(
                        Problem(
                            column=column.name,
                            what=f"the catalog refuses {trial.shown} of field {field.name!r}: {error}",
                            fix="Make the contract or the constraint agree with the other.",
                        )
                    )
                    break
    finally:
        db.execute("ROLLBACK")
    return found

"""Undoing promotions in a SQLite catalog: which, and how."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

import attrs

from batchkit.errors import TargetError
from batchkit.targets.sqlite_promote import expect
from batchkit.targets.sqlite_records import Record, end, find, shared
from batchkit.targets.sqlite_statements import Statements
from batchkit.targets.sqlite_table import Table, column_of


@attrs.frozen
class Undone:
    """What undoing one promotion did."""

    restored: int
    deleted: int
    conflicts: tuple[str, ...]


def choose(
    db: sqlite3.Connection, known: Sequence[Record], table: str, promotion: int | None, to: int | None
) -> list[Record]:
    """Give the promotions to undo, newest first.

    Raises:
        TargetError: there is no such promotion, or a later one that stands covers one of its keys.
    """
    standing = [record for record in reversed(known) if record.stands]
    if to is not None:
        find(known, to, table)
        return [record for record in standing if record.id >= to]
    if promotion is None:
        return standing[:1]
    mine = find(known, promotion, table)
    if not mine.stands:
        return []
    for later in standing:
        why = shared(db, mine, later) if later.id > mine.id else None
        if why is not None:
            raise TargetError(
                f"promotion {later.id} came after {mine.id} and {why}. Nothing was changed."
                f" To undo {mine.id} and all later ones, newest first: rollback(to={mine.id})"
            )
    return [mine]


def prepare(db: sqlite3.Connection) -> None:
    """Make the temporary table of the rows that can be undone."""
    db.execute("CREATE TEMP TABLE batchkit_undo (id INTEGER PRIMARY KEY, at, kind TEXT NOT NULL)")


def undo(db: sqlite3.Connection, table: Table, record: Record) -> Undone:
    """Put back what a promotion replaced, delete what it inserted, and leave rows that somebody changed.

    Raises:
        TargetError: the catalog lost a column, or keeps the values from coming back.
    """
    columns = tuple(column_of(table, name) for name in json.loads(record.columns))
    sqls = Statements(table=table, key=column_of(table, record.key_column), columns=columns)
    span = {"first": record.first, "last": record.last}
    db.execute("DELETE FROM temp.batchkit_undo")
    try:
        db.execute(sqls.find_undoable, span)
    except sqlite3.IntegrityError as error:
        raise TargetError(
            f"a key means several rows of {table.name!r} now. Nothing was changed. Make {sqls.key.name!r} unique again."
        ) from error
    counts: dict[str, int] = dict(db.execute("SELECT kind, count(*) FROM temp.batchkit_undo GROUP BY kind"))
    restored, deleted = counts.get("written", 0), counts.get("inserted", 0)
    expect(db.execute(sqls.restore).rowcount, restored, "put back")
    expect(db.execute(sqls.delete).rowcount, deleted, "deleted")
    if table.triggers and db.execute(sqls.count_not_restored).fetchone()[0]:
        raise TargetError(
            f"a trigger of {table.name!r} changes the values that are put back. Nothing was changed."
        )
    db.execute(
        "UPDATE main.batchkit_before SET kept = 1 WHERE id BETWEEN :first AND :last"
        " AND kind IN ('written', 'inserted') AND id NOT IN (SELECT id FROM temp.batchkit_undo)",
        span,
    )
    kept = db.execute(
        "SELECT key FROM main.batchkit_before WHERE id BETWEEN :first AND :last AND kept = 1", span
    )
    conflicts = tuple(row[0] for row in kept)
    end(db, record)
    return Undone(restored, deleted, conflicts)

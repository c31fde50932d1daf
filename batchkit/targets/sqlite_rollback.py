"""Undoing promotions in a SQLite catalog: how."""

from __future__ import annotations

import json
import sqlite3

from batchkit.errors import TargetError
from batchkit.targets.outcome import expect
from batchkit.targets.sqlite_records import Record, end
from batchkit.targets.sqlite_statements import Statements
from batchkit.targets.sqlite_table import Table, column_of
from batchkit.targets.stack import Undone


def prepare(db: sqlite3.Connection) -> None:
    """Make the temporary table of the rows that can be undone."""
    db.execute("CREATE TEMP TABLE batchkit_undo (id INTEGER PRIMARY KEY, at, kind TEXT NOT NULL)")


def undo_all(db: sqlite3.Connection, table: Table, record: Record) -> Undone | None:
    """Put back a promotion that stands as it was left, in one statement; None where that cannot be told so.

    After None the caller undoes the transaction and goes by `undo`, which takes the rows one by one.
    """
    sqls = _statements(table, record)
    one_each = sqls.key.name in table.unique and sqls.key.affinity != "BLOB"
    if not one_each or table.triggers or record.inserted:
        return None
    span = {"first": record.first, "last": record.last}
    if db.execute(sqls.restore_all, span).rowcount != record.written:
        return None
    end(db, record)
    return Undone(record.written, 0, ())


def _statements(table: Table, record: Record) -> Statements:
    columns = tuple(column_of(table, name) for name in json.loads(record.columns))
    return Statements(table=table, key=column_of(table, record.key_column), columns=columns)


def undo(db: sqlite3.Connection, table: Table, record: Record) -> Undone:
    """Put back what a promotion replaced, delete what it inserted, and leave rows that somebody changed.

    Raises:
        TargetError: the catalog lost a column, or keeps the values from coming back.
    """
    sqls = _statements(table, record)
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
    ).fetchall()
    conflicts = tuple(row[0] for row in kept)
    end(db, record)
    return Undone(restored, deleted, conflicts)

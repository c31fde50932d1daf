"""The promotions that a SQLite catalog remembers: its own table is the truth."""

from __future__ import annotations

import sqlite3

import attrs

from batchkit.targets import Note
from batchkit.targets.sqlite_session import installed
from batchkit.targets.sqlite_statements import SHARED_KEY
from batchkit.targets.sqltext import Sql, identifier, joined, sql
from batchkit.targets.stack import check_known

NOW = Sql("(julianday('now') - 2440587.5) * 86400.0")


@attrs.frozen(kw_only=True)
class Facts:
    """What one promotion was and did; the columns of ``batchkit_promotion`` but its id and times.

    ``first`` to ``last`` are the ids of its rows in ``batchkit_before``; ``newest`` is the highest number of
    an answer among the rows that it covers.
    """

    tbl: str
    key_column: str
    columns: str
    run: str
    receipt: str
    content: str
    mapping: str
    selection: str
    written: int
    inserted: int
    unchanged: int
    conflict: int
    absent: int
    held_back: int
    first: int
    last: int
    store: str = ""
    newest: int = 0


@attrs.frozen(kw_only=True)
class Record(Facts):
    """One promotion with its id and its times, in epoch seconds of the catalog's clock."""

    id: int
    at: float
    rolled_back_at: float | None

    @property
    def stands(self) -> bool:
        """Tell whether it was not rolled back."""
        return self.rolled_back_at is None


_FACTS = [field.name for field in attrs.fields(Facts)]


def records(db: sqlite3.Connection, table: str) -> list[Record]:
    """Give the promotions of a table, oldest first."""
    if not installed(db):
        return []
    # Every column that is there: tables of an earlier version lack the last ones until the next promotion.
    present = db.execute("SELECT name FROM pragma_table_info('batchkit_promotion') ORDER BY cid").fetchall()
    names = [name for (name,) in present]
    rows = db.execute("SELECT * FROM main.batchkit_promotion WHERE tbl = ? ORDER BY id", (table,)).fetchall()
    check_known(names, [field.name for field in attrs.fields(Record)])
    return [Record(**dict(zip(names, row, strict=True))) for row in rows]


def standing(db: sqlite3.Connection, table: str, note: Note, mapping: str, selection: str) -> Record | None:
    """Give the promotion of these rows under this mapping that was made and not rolled back."""
    wanted = (note.run, note.content, mapping, selection)
    for record in records(db, table):
        if record.stands and (record.run, record.content, record.mapping, record.selection) == wanted:
            return record
    return None


def add(db: sqlite3.Connection, facts: Facts) -> Record:
    """Note a promotion, and give it with its id and time."""
    db.execute(
        sql(
            "INSERT INTO main.batchkit_promotion (at, {names}) VALUES ({now}, {marks})",
            now=NOW,
            names=joined(", ", [identifier(name) for name in _FACTS]),
            marks=joined(", ", [Sql("?")] * len(_FACTS)),
        ),
        attrs.astuple(facts),
    )
    return records(db, facts.tbl)[-1]


def end(db: sqlite3.Connection, record: Record) -> None:
    """Note that a promotion was rolled back."""
    db.execute(
        sql("UPDATE main.batchkit_promotion SET rolled_back_at = {now} WHERE id = ?", now=NOW), (record.id,)
    )


def keys(db: sqlite3.Connection, record: Record, kind: str) -> list[str]:
    """Give the keys of one kind in ascending order. Inserted rows are among the written."""
    found = db.execute(
        "SELECT key FROM main.batchkit_before WHERE id BETWEEN ? AND ? AND kind IN (?, ?) ORDER BY key",
        (record.first, record.last, kind, "inserted" if kind == "written" else kind),
    ).fetchall()
    return [row[0] for row in found]


def shared(db: sqlite3.Connection, mine: Record, later: Record) -> str | None:
    """Say how a later promotion touches rows that this one wrote, if it does."""
    if mine.key_column != later.key_column:
        return f"finds rows by another key column, {later.key_column!r}, so which it shares cannot be told"
    found = db.execute(SHARED_KEY, (mine.first, mine.last, later.first, later.last)).fetchone()
    return None if found is None else f"covers the same key {found[0]!r}"

"""Which answer is the newer one, where several runs promote to the same rows of a SQLite catalog."""

from __future__ import annotations

import json
import sqlite3

import attrs

from batchkit.targets import Note
from batchkit.targets.sqlite_records import Record, records
from batchkit.targets.sqlite_session import columns_of
from batchkit.targets.sqlite_statements import Statements
from batchkit.targets.sqlite_table import column_of
from batchkit.targets.sqltext import Sql, sql

_COVERED = Sql("b.id BETWEEN :first AND :last AND b.kind IN ('written', 'inserted', 'unchanged')")

NEWEST = sql(
    "SELECT coalesce(max(b.answer), 0) FROM main.batchkit_before AS b WHERE {covered}", covered=_COVERED
)
"""The highest number of an answer among the rows that a promotion covers."""


def give_way(db: sqlite3.Connection, sqls: Statements, note: Note) -> None:
    """Make conflicts of the rows over which another run's newer answer stands.

    The rule is that of :meth:`batchkit.targets.Target.promote`. Promotions are looked at oldest first, and
    only where they can matter: the answers of a run that began after all others are newer than theirs.
    """
    if "answer" not in columns_of(db, "batchkit_before"):
        return
    others = contested(db, sqls)
    if all(record.store == note.store and record.run == note.run for record in others):
        return
    (oldest,) = db.execute("SELECT min(answer) FROM temp.batchkit_staged WHERE held = 0").fetchone()
    told = False
    for record in others:
        span = {"first": record.first, "last": record.last}
        if record.store != note.store:
            if told:
                db.execute(_mark(sqls, record, Sql("kind = 'conflict'"), Sql("h.told")), span)
        elif record.run == note.run:
            told = True
            db.execute(_mark(sqls, record, Sql("told = 1"), Sql("b.answer >= s.answer")), span)
        elif oldest is not None and record.newest > oldest:
            db.execute(newer(sqls, record), span)


def contested(db: sqlite3.Connection, sqls: Statements) -> list[Record]:
    """Give the standing promotions that wrote to some of the same columns, oldest first.

    One whose key column is no longer there is left out: nobody can tell which rows it covers.
    """
    columns = {column.name for column in sqls.columns}
    return [
        record
        for record in records(db, sqls.table.name)
        if record.stands
        and sqls.table.column(record.key_column)
        and not columns.isdisjoint(json.loads(record.columns))
    ]


def newer(sqls: Statements, record: Record) -> Sql:
    """Make conflicts of the rows of which a promotion of another run in the same store has the newer answer."""
    return _mark(sqls, record, Sql("kind = 'conflict'"), Sql("b.answer > s.answer"))


def _mark(sqls: Statements, record: Record, mark: Sql, where: Sql) -> Sql:
    """Mark the rows to be written that a promotion covers, which may have found them by another key column."""
    if record.key_column == sqls.key.name:
        row = Sql("temp.batchkit_staged AS s ON s.key = b.key CROSS JOIN temp.batchkit_hit AS h ON h.n = s.n")
    else:
        row = sql(
            "{table} AS p ON {match} CROSS JOIN temp.batchkit_hit AS h ON {at}"
            " CROSS JOIN temp.batchkit_staged AS s ON s.n = h.n",
            table=sqls.name,
            match=attrs.evolve(sqls, key=column_of(sqls.table, record.key_column)).match(Sql("b.key")),
            at=sqls.at(Sql("h.at")),
        )
    # CROSS JOIN keeps the order: the promotion's rows are a range of ids, the others are found by their keys.
    return sql(
        "UPDATE temp.batchkit_hit SET {mark} WHERE kind = 'written' AND n IN ("
        "SELECT h.n FROM main.batchkit_before AS b CROSS JOIN {row} WHERE {covered} AND {where})",
        mark=mark,
        row=row,
        covered=_COVERED,
        where=where,
    )

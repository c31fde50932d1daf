"""Which answer is the newer one, where several runs promote to the same rows of a PostgreSQL catalog."""

from __future__ import annotations

import attrs

from batchkit.targets import Note
from batchkit.targets.postgres_records import Record, records
from batchkit.targets.postgres_session import Connection
from batchkit.targets.postgres_statements import Statements
from batchkit.targets.sqltext import Sql, sql


def give_way(db: Connection, sqls: Statements, note: Note) -> None:
    """Mark the staged rows over which another run's newer answer stands.

    The rule is that of :meth:`batchkit.targets.Target.promote`. Promotions are looked at oldest first, and
    only where they can matter: the answers of a run that began after all others are newer than theirs.
    """
    others = [record for record in records(db, sqls.own) if record.stands and _overlaps(record, sqls)]
    if all(record.store == note.store and record.run == note.run for record in others):
        return
    (oldest,) = db.execute("SELECT min(answer) FROM pg_temp.batchkit_staged WHERE NOT held").fetchone()
    told = False
    for record in others:
        mine = (record.id,)
        if record.store != note.store:
            if told:
                db.execute(_mark(sqls, record, Sql("behind = true"), Sql("s.told")), mine)
        elif record.run == note.run:
            told = True
            db.execute(_mark(sqls, record, Sql("told = true"), Sql("i.answer >= s.answer")), mine)
        elif oldest is not None and record.newest > oldest:
            db.execute(_mark(sqls, record, Sql("behind = true"), Sql("i.answer > s.answer")), mine)


def _overlaps(record: Record, sqls: Statements) -> bool:
    """Tell whether a promotion wrote to one of the columns, and found rows by a key that is still there."""
    columns = {column.name for column in sqls.columns}
    return not columns.isdisjoint(record.columns) and sqls.table.column(record.key_column) is not None


def _mark(sqls: Statements, record: Record, mark: Sql, where: Sql) -> Sql:
    """Mark the staged rows that a promotion covers, which may have found them by another key column."""
    key = sqls.table.column(record.key_column)
    if key is None or key == sqls.key:
        through = Sql("s.key = i.key")
        source = Sql("")
    else:
        source = sql(
            " JOIN {table} AS p ON {match}",
            table=sqls.table.sql,
            match=attrs.evolve(sqls, key=key).match(Sql("i")),
        )
        through = sqls.match(Sql("s"))
    return sql(
        "UPDATE pg_temp.batchkit_staged AS s SET {mark} FROM {image} AS i{source}"
        " WHERE i.promotion = $1 AND i.kind IN ('written', 'overlaid', 'inserted', 'unchanged')"
        " AND NOT s.held AND {through} AND {where}",
        mark=mark,
        image=sqls.own.image,
        source=source,
        through=through,
        where=where,
    )

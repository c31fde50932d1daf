"""Undoing promotions in a PostgreSQL catalog: how."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from batchkit.errors import TargetError
from batchkit.targets.outcome import expect
from batchkit.targets.postgres_overlay import Overlay
from batchkit.targets.postgres_own import Own
from batchkit.targets.postgres_records import Record, end
from batchkit.targets.postgres_restoring import Restoring
from batchkit.targets.postgres_session import NOTHING, Connection, scalar
from batchkit.targets.postgres_table import column_of
from batchkit.targets.sqltext import Sql, sql
from batchkit.targets.stack import Undone


def undo(db: Connection, own: Own, record: Record) -> Undone:
    """Put back what a promotion replaced, delete what it inserted, and leave rows that somebody changed.

    Raises:
        TargetError: the catalog lost a column, or keeps the values from coming back.
    """
    if record.strategy == "overlay":
        return _uncover(db, own, record)
    undone = _restore(db, own, record)
    end(db, own, record)
    return undone


def _uncover(db: Connection, own: Own, record: Record) -> Undone:
    """Take the images away but those over rows that somebody changed, and delete what was inserted."""
    sqls = Overlay(
        own=own,
        table=own.table,
        key=column_of(own.table, record.key_column),
        columns=tuple(column_of(own.table, name) for name in record.overlaid),
        view=Sql(""),
    )
    kept = db.execute(sqls.keep_edited, (record.id,)).rowcount
    dead = scalar(
        db,
        sql(
            "SELECT EXISTS (SELECT FROM {image} WHERE promotion = $1 AND dead AND NOT kept)", image=own.image
        ),
        (record.id,),
    )
    deleted = _restore(db, own, record).deleted if record.inserted or dead else 0
    end(db, own, record)
    return Undone(record.written - record.inserted - kept, deleted, tuple(_kept(db, own, record)))


def _kept(db: Connection, own: Own, record: Record) -> list[str]:
    found = db.execute(
        sql("SELECT key FROM {image} WHERE promotion = $1 AND kept", image=own.image), (record.id,)
    )
    return [row[0] for row in found]


@contextmanager
def _in_order(db: Connection) -> Iterator[None]:
    """Have a join take one row after the other, in the order in which they were noted.

    A hash join of many rows takes them in the order of its batches: the table and each of its indexes are then written
    to all over, which at 600,000 rows took twice the CPU.
    """
    joins = Sql("SELECT current_setting('enable_hashjoin'), current_setting('enable_mergejoin')")
    kept = db.execute(joins).fetchone()
    put = Sql("SELECT set_config('enable_hashjoin', $1, true), set_config('enable_mergejoin', $2, true)")
    db.execute(put, ("off", "off"))
    yield
    db.execute(put, kept)


def _restore(db: Connection, own: Own, record: Record) -> Undone:
    table, mine = own.table, (record.id,)
    sqls = Restoring(
        own=own,
        table=table,
        key=column_of(table, record.key_column),
        columns=tuple(column_of(table, name) for name in record.overlaid or record.columns),
    )
    if sqls.key.name not in table.unique:
        raise TargetError(
            f"a key may mean several rows of {table.table!r} now. {NOTHING} Make {sqls.key.name!r} unique again."
        )
    db.execute(sqls.find_undoable(deleting=bool(record.inserted)), mine)
    if record.inserted and sqls.spare_parents is not None:
        db.execute(sqls.spare_parents, mine)
    db.execute("ANALYZE pg_temp.batchkit_undo")
    counts: dict[str, int] = dict(
        db.execute("SELECT kind, count(*) FROM pg_temp.batchkit_undo GROUP BY kind").fetchall()
    )
    restored, deleted = counts.get("written", 0), counts.get("inserted", 0)
    # A trigger's own joins are none of our business; and what is found in one of many parts is not looked for in all.
    with nullcontext() if table.triggers or table.parted else _in_order(db):
        expect(db.execute(sqls.restore).rowcount, restored, "put back")
    if deleted:
        expect(db.execute(sqls.delete, mine).rowcount, deleted, "deleted")
    if table.triggers and scalar(db, sqls.count_not_restored, mine):
        raise TargetError(f"a trigger of {table.table!r} changes the values that are put back. {NOTHING}")
    if restored + deleted < record.written:
        db.execute(sqls.keep_others, mine)
    db.execute("DROP TABLE pg_temp.batchkit_undo")
    return Undone(restored, deleted, tuple(_kept(db, own, record)))

"""Promotions of both strategies to one PostgreSQL table: what goes together, and what does not."""

from __future__ import annotations

from typing import TypeVar

import attrs

from batchkit.errors import TargetError
from batchkit.targets.postgres_overlay import Overlay
from batchkit.targets.postgres_records import Record, records
from batchkit.targets.postgres_session import NOTHING, Connection, scalar
from batchkit.targets.postgres_statements import Statements
from batchkit.targets.postgres_table import column_of
from batchkit.targets.sqltext import sql

S = TypeVar("S", bound=Statements)


def refuse_other_strategy(db: Connection, sqls: Statements, strategy: str) -> None:
    """Refuse what could not be seen, or not be undone, beside promotions that lie over the table.

    Raises:
        TargetError: the table is overlaid and would be changed in place, the rows were found by another key,
            or a rule of the table cannot be kept by a view.
    """
    laid = _laid(db, sqls)
    if strategy == "columns":
        kept = (
            laid
            or scalar(
                db,
                sql(
                    "SELECT EXISTS (SELECT FROM {image} WHERE kind = 'overlaid' AND kept)",
                    image=sqls.own.image,
                ),
            )
            if sqls.own.ready(db, ())
            else False
        )
        if kept:
            raise TargetError(
                f"promotions lie over {sqls.table.table!r}, which hides what is changed in place. {NOTHING}"
                ' Use strategy="overlay".'
            )
        return
    other = next((record.key_column for record in laid if record.key_column != sqls.key.name), None)
    if other is not None:
        raise TargetError(
            f"promotions that find rows by {other!r} lie over {sqls.table.table!r}. {NOTHING} Use that key column."
        )
    tied = [column.name for column in sqls.columns if column.name in sqls.table.tied]
    if tied:
        raise TargetError(
            f"column {tied[0]!r} of {sqls.table.table!r} is tied to other rows by a foreign key or a unique index, which"
            f' a view cannot keep. {NOTHING} Use strategy="columns".'
        )


def with_carried(db: Connection, sqls: S) -> S:
    """Give the statements with the columns that earlier promotions lie over and this one does not."""
    if not isinstance(sqls, Overlay):
        return sqls
    # Of promotions that were rolled back, too: their images stay over rows that somebody changed.
    names = {name for record in records(db, sqls.own) for name in record.overlaid}
    mine = {column.name for column in sqls.columns}
    return attrs.evolve(sqls, carried=tuple(column_of(sqls.table, name) for name in sorted(names - mine)))


def readable(db: Connection, sqls: Statements) -> Statements:
    """Give statements that read the table alone, where nothing can lie over these columns yet."""
    if not isinstance(sqls, Overlay) or sqls.ready(db):
        return sqls
    return Statements(own=sqls.own, table=sqls.table, key=sqls.key, columns=sqls.columns, guard=sqls.guard)


def _laid(db: Connection, sqls: Statements) -> list[Record]:
    return [record for record in records(db, sqls.own) if record.strategy == "overlay" and record.stands]

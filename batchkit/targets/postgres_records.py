"""The promotions that a PostgreSQL catalog remembers: its own table is the truth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import attrs

from batchkit.targets import Note
from batchkit.targets.postgres_own import Own
from batchkit.targets.postgres_session import NOW, Connection
from batchkit.targets.sqltext import Sql, identifier, joined, sql
from batchkit.targets.stack import check_known


@attrs.frozen(kw_only=True)
class Facts:
    """What one promotion was and did; the columns of the table of promotions but its times.

    ``newest`` is the highest number of an answer among the rows that it covers.
    """

    id: int
    identity: str
    tbl: str
    key_column: str
    columns: list[str]
    overlaid: list[str]
    strategy: str
    store: str
    run: str
    receipt: str
    content: str
    written: int
    inserted: int
    unchanged: int
    conflict: int
    absent: int
    held_back: int
    newest: int


@attrs.frozen(kw_only=True)
class Record(Facts):
    """One promotion with its times, in epoch seconds of the catalog's clock."""

    at: float
    rolled_back_at: float | None

    @property
    def stands(self) -> bool:
        """Tell whether it was not rolled back."""
        return self.rolled_back_at is None


_FACTS = [field.name for field in attrs.fields(Facts)]
_NAMES = joined(", ", [identifier(field.name) for field in attrs.fields(Record)])


def identity(note: Note, table: str, mapping: str, selection: str) -> str:
    """Give what a promotion is made once for."""
    whole = json.dumps([table, note.run, note.content, mapping, selection])
    return hashlib.sha256(whole.encode()).hexdigest()


def records(db: Connection, own: Own) -> list[Record]:
    """Give the promotions of a table, oldest first."""
    if not own.there(db):
        return []
    found = db.execute(
        sql("SELECT * FROM {promotion} WHERE tbl = $1 ORDER BY id", promotion=own.promotion),
        (own.table.name,),
    )
    names = [column.name for column in found.description]
    check_known(names, [field.name for field in attrs.fields(Record)])
    return [Record(**dict(zip(names, row, strict=True))) for row in found]


def _record(row: Sequence[Any]) -> Record:
    return Record(**dict(zip([field.name for field in attrs.fields(Record)], row, strict=True)))


def standing(db: Connection, own: Own, identity: str) -> Record | None:
    """Give the promotion with this identity that was made and not rolled back."""
    for record in records(db, own):
        if record.stands and record.identity == identity:
            return record
    return None


def add(db: Connection, own: Own, facts: Facts) -> Record:
    """Note a promotion, and give it with its time."""
    noted = db.execute(
        sql(
            "INSERT INTO {promotion} ({names}, at) VALUES ({marks}, {now}) RETURNING {all}",
            all=_NAMES,
            promotion=own.promotion,
            names=joined(", ", [identifier(name) for name in _FACTS]),
            marks=joined(", ", [Sql(f"${number}") for number in range(1, len(_FACTS) + 1)]),
            now=NOW,
        ),
        attrs.astuple(facts, recurse=False),
    )
    return _record(noted.fetchone())


def end(db: Connection, own: Own, record: Record) -> None:
    """Note that a promotion was rolled back."""
    db.execute(
        sql("UPDATE {promotion} SET rolled_back_at = {now} WHERE id = $1", promotion=own.promotion, now=NOW),
        (record.id,),
    )


def keys(db: Connection, own: Own, record: Record, kind: str) -> list[str]:
    """Give the keys of one kind in ascending order. Inserted rows are among the written."""
    kinds = {"written": ["written", "overlaid", "inserted"]}.get(kind, [kind])
    found = db.execute(
        sql("SELECT key FROM {image} WHERE promotion = $1 AND kind = ANY ($2) ORDER BY key", image=own.image),
        (record.id, kinds),
    )
    return [row[0] for row in found]


_SHARED = """\
SELECT later.key FROM {image} AS mine JOIN {image} AS later ON later.key = mine.key
WHERE mine.promotion = $1 AND mine.kind IN ('written', 'overlaid', 'inserted')
    AND later.promotion = $2 AND later.kind IN ('written', 'overlaid', 'inserted', 'unchanged')
ORDER BY later.key LIMIT 1"""


def shared(db: Connection, own: Own, mine: Record, later: Record) -> str | None:
    """Say how a later promotion touches rows that this one wrote, if it does."""
    if mine.key_column != later.key_column:
        return f"finds rows by another key column, {later.key_column!r}, so which it shares cannot be told"
    found = db.execute(sql(_SHARED, image=own.image), (mine.id, later.id)).fetchone()
    return None if found is None else f"covers the same key {found[0]!r}"


def newest(db: Connection, own: Own, promotion: int) -> int:
    """Give the highest number of an answer among the rows that a promotion covers."""
    found = db.execute(
        sql(
            "SELECT coalesce(max(answer), 0) FROM {image} WHERE promotion = $1"
            " AND kind IN ('written', 'overlaid', 'inserted', 'unchanged')",
            image=own.image,
        ),
        (promotion,),
    )
    return int(found.fetchone()[0])


def lock(db: Connection, own: Own) -> int:
    """Wait until nobody else promotes to this table or rolls back, and give how often anybody did."""
    db.execute(
        sql("INSERT INTO {catalog} (tbl) VALUES ($1) ON CONFLICT DO NOTHING", catalog=own.catalog),
        (own.table.name,),
    )
    found = db.execute(
        sql("SELECT generation FROM {catalog} WHERE tbl = $1 FOR UPDATE", catalog=own.catalog),
        (own.table.name,),
    )
    return int(found.fetchone()[0])


def count_up(db: Connection, own: Own) -> None:
    """Note that something was promoted or rolled back."""
    db.execute(
        sql("UPDATE {catalog} SET generation = generation + 1 WHERE tbl = $1", catalog=own.catalog),
        (own.table.name,),
    )

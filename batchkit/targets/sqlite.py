"""A SQLite catalog as a promotion target."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import attrs

from batchkit.errors import TargetError, UsageError
from batchkit.targets import (
    Columns,
    Kind,
    Missing,
    Note,
    OutputField,
    Plan,
    Problem,
    Promotion,
    RolledBack,
    StagedRow,
)
from batchkit.targets.mapping import Mapped, check_columns, resolve
from batchkit.targets.outcome import guards, one_of, promoted, rehearsed
from batchkit.targets.sqlite_check import problems
from batchkit.targets.sqlite_precedence import contested, newer
from batchkit.targets.sqlite_promote import apply, rehearse, stage
from batchkit.targets.sqlite_records import NOW, Record, keys, records, shared, standing
from batchkit.targets.sqlite_rollback import prepare, undo, undo_all
from batchkit.targets.sqlite_session import PAIRS, definitions, install, session
from batchkit.targets.sqlite_statements import LIST_OTHERS, Statements
from batchkit.targets.sqlite_table import Table, column_of, read_table
from batchkit.targets.sqltext import sql
from batchkit.targets.stack import choose, find, summed


def absolute(path: str | os.PathLike[str]) -> Path:
    """Give the path of a database file, wherever the process goes.

    Raises:
        UsageError: it is no path of a file.
    """
    if str(path) == ":memory:" or "://" in str(path):
        raise UsageError(f"{str(path)!r}: a SQLite catalog is a file; give its path")
    return Path(path).absolute()


@attrs.frozen
class SQLiteTarget:
    """A table of a SQLite database, changed in place; a :class:`batchkit.targets.Target`.

    The temporary copy of the staged rows is made before the catalog is locked; then one transaction
    (``BEGIN IMMEDIATE``) classifies, keeps, and writes. What is kept stands in the tables
    ``batchkit_promotion`` and ``batchkit_before`` of the same database.

    Args:
        where: path of the database, which must exist.
        table: the catalog's table.
        key: the column that holds the rows' keys. It must be unique.
        columns: output field to column, or to :class:`~batchkit.targets.Json`; fields that are not named
            are not promoted. Without it each field goes to the column of its name. Lists and objects
            are written as JSON text, booleans as 1 and 0.
        guard: the column or columns that must still hold the text that was frozen with the row.
        strategy: ``"columns"``, in place.
        missing: what to do with keys that the catalog lacks.
        timeout: seconds to wait for another writer.

    Raises:
        UsageError: arguments that cannot work.
    """

    where: Path = attrs.field(converter=absolute)
    table: str
    key: str
    columns: Columns | None = attrs.field(default=None, kw_only=True)
    guard: str | Sequence[str] | None = attrs.field(default=None, kw_only=True)
    strategy: Literal["columns"] = attrs.field(
        default="columns", validator=one_of("SQLite", "columns"), kw_only=True
    )
    missing: Missing = attrs.field(
        default="report", validator=one_of("SQLite", "report", "insert", "error"), kw_only=True
    )
    timeout: float = attrs.field(default=10.0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Refuse a map that cannot work."""
        check_columns(self.columns, key=self.key)

    @property
    def name(self) -> str:
        """Give a text that is the same for the same table, whatever is written to it."""
        return f"sqlite:{self.where}#{self.table}"

    @property
    def guard_columns(self) -> tuple[str, ...]:
        """Give the columns whose frozen text must still be the catalog's."""
        return guards(self.guard)

    def check(self, fields: Sequence[OutputField]) -> Sequence[Problem]:
        """Give what would make a promotion fail, without changing anything."""
        try:
            with session(self.where, self.timeout) as db:
                return problems(
                    db,
                    self.table,
                    self.key,
                    fields,
                    columns=self.columns,
                    guard=self.guard_columns,
                    missing=self.missing,
                )
        except TargetError as error:
            return [
                Problem(
                    column="",
                    what=str(error).removesuffix("."),
                    fix="Correct the target's arguments or the catalog.",
                )
            ]

    def plan(self, fields: Sequence[str], rows: int) -> Plan:
        """Give the statements a promotion of ``rows`` rows will run, and what they lock. Changes nothing."""
        with session(self.where, self.timeout) as db:
            sqls = self._statements(read_table(db, self.table), resolve(self.columns, fields))
            (size,) = db.execute("PRAGMA main.page_size").fetchone()
            (pages,) = db.execute("PRAGMA main.page_count").fetchone()
            giving_way = dict.fromkeys(newer(sqls, record) for record in contested(db, sqls))
        inserts, kept = (sqls.insert, (sqls.keep_inserted,)) if self.missing == "insert" else ((), ())
        staging = (*sqls.stage, sqls.load)
        writing = (sqls.classify, *giving_way, *inserts, sqls.keep, *kept, LIST_OTHERS, sqls.write)
        return Plan(
            rows=rows,
            sql=(*staging, "BEGIN IMMEDIATE", *writing, "COMMIT"),
            locks="Other writers wait for the one transaction. Readers see the old values until it commits;"
            " unless the database is in WAL mode they may have to wait, too.",
            log_bytes=size * min(rows, pages),
        )

    def ddl(self) -> str:
        """Give the statements that make batchkit's own tables in the catalog. Changes nothing."""
        return "".join(f"{statement};\n" for statement in definitions(max(PAIRS, len(self.columns or ()))))

    def install(self) -> None:
        """Run the statements of :meth:`ddl`. Repeating changes nothing."""
        with session(self.where, self.timeout) as db:
            db.execute("BEGIN IMMEDIATE")
            install(db, len(self.columns or ()))
            db.execute("COMMIT")

    def promote(self, note: Note, rows: Iterable[StagedRow], *, dry_run: bool = False) -> Promotion:
        """Write staged rows in one transaction and give what became of each; see the Protocol."""
        mapping = resolve(self.columns, note.fields)
        with session(self.where, self.timeout) as db:
            table = read_table(db, self.table)
            sqls = self._statements(table, mapping)
            identity = self._identity(sqls, mapping)
            if not note.partial and (made := standing(db, table.name, note, identity, "")):
                return promoted(made, self, repeated=True)
            selection = stage(db, sqls, mapping, self.guard_columns, rows)
            db.execute("BEGIN" if dry_run else "BEGIN IMMEDIATE")
            if read_table(db, self.table) != table:
                raise TargetError(
                    f"table {table.name!r} was altered while rows were staged. Nothing was changed; run it again."
                )
            # Again, since another worker may have been first, and what is held back is known only now.
            if made := standing(db, table.name, note, identity, selection.digest):
                return promoted(made, self, repeated=True)
            if dry_run:
                counts, listed = rehearse(db, sqls, note, self.missing, selection)
                (at,) = db.execute(sql("SELECT {now}", now=NOW)).fetchone()
                return rehearsed(note, self, at, counts, listed)
            record = apply(db, sqls, note, self.missing, identity, selection)
            db.execute("COMMIT")
        return promoted(record, self)

    def rollback(self, promotion: int | None = None, *, to: int | None = None) -> RolledBack:
        """Undo one promotion, or with ``to`` that one and every later one, newest first; see the Protocol."""
        if promotion is not None and to is not None:
            raise UsageError("rollback takes the id of one promotion, or to=, not both")
        with session(self.where, self.timeout) as db:
            db.execute("BEGIN IMMEDIATE")
            chosen = self._chosen(db, promotion, to)
            table = read_table(db, self.table)
            undone = [undo_all(db, table, record) for record in chosen]
            whole = [one for one in undone if one is not None]
            if len(whole) < len(undone):
                db.execute("ROLLBACK")
                db.execute("BEGIN IMMEDIATE")
                chosen = self._chosen(db, promotion, to)
                table = read_table(db, self.table)
                prepare(db)
                whole = [undo(db, table, record) for record in chosen]
            db.execute("COMMIT")
        return summed(chosen, whole)

    def _chosen(self, db: sqlite3.Connection, promotion: int | None, to: int | None) -> Sequence[Record]:
        known = records(db, read_table(db, self.table).name)
        return choose(known, self.table, promotion, to, lambda mine, later: shared(db, mine, later))

    def promotions(self) -> Sequence[Promotion]:
        """Give every promotion of this table, oldest first, those rolled back included."""
        with session(self.where, self.timeout) as db:
            return [promoted(record, self) for record in records(db, read_table(db, self.table).name)]

    def keys(self, promotion: int, kind: Kind) -> Sequence[str]:
        """Give the keys of one kind in a promotion, ascending by code point."""
        with session(self.where, self.timeout) as db:
            known = records(db, read_table(db, self.table).name)
            return keys(db, find(known, promotion, self.table), kind)

    def _statements(self, table: Table, mapping: Sequence[Mapped]) -> Statements:
        key = column_of(table, self.key)
        if key.name not in table.unique:
            raise TargetError(
                f"key column {key.name!r} of {table.name!r} is not unique, so a key could mean several rows."
                " Give it a unique index."
            )
        columns = tuple(column_of(table, mapped.column) for mapped in mapping)
        if key in columns:
            raise UsageError(
                f"a field would overwrite the key column {key.name!r}; leave it out with columns="
            )
        if not columns:
            raise UsageError("there is no field to promote")
        guard = tuple(column_of(table, name) for name in self.guard_columns)
        return Statements(table=table, key=key, columns=columns, guard=guard)

    def _identity(self, sqls: Statements, mapping: Sequence[Mapped]) -> str:
        """Spell what is promoted to where, in the catalog's own spelling."""
        columns = [[m.field, c.name, m.as_json] for m, c in zip(mapping, sqls.columns, strict=True)]
        guard = [column.name for column in sqls.guard]
        return json.dumps([sqls.key.name, columns, guard, self.strategy, self.missing])

"""A PostgreSQL catalog as a promotion target."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
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
from batchkit.targets.postgres_check import problems
from batchkit.targets.postgres_loading import Loading
from batchkit.targets.postgres_mixing import readable, refuse_other_strategy, with_carried
from batchkit.targets.postgres_overlay import Overlay
from batchkit.targets.postgres_own import Own
from batchkit.targets.postgres_plan import plan
from batchkit.targets.postgres_promote import apply, refuse_repeats, rehearse
from batchkit.targets.postgres_records import (
    Facts,
    count_up,
    identity,
    keys,
    lock,
    records,
    shared,
    standing,
)
from batchkit.targets.postgres_rollback import undo
from batchkit.targets.postgres_session import NOTHING, NOW, Catalog, Connection, address, scalar
from batchkit.targets.postgres_staging import Staging
from batchkit.targets.postgres_statements import Statements
from batchkit.targets.postgres_table import KEYS, Table, TableColumn, column_of, qualified, read_table, split
from batchkit.targets.sqltext import Sql, identifier, sql
from batchkit.targets.stack import choose, find, summed


@attrs.frozen
class PostgresTarget:
    """A table of a PostgreSQL database; a :class:`batchkit.targets.Target`. Needs the extra ``postgres``.

    Staged rows come by COPY into a temporary table, without a lock on the catalog. Then, in the same
    transaction, the rows that differ are locked in the order of their keys, what stands in them is copied
    beside what will, and one UPDATE writes. What is kept stands in a schema of batchkit's own.

    Args:
        where: a connection string, ``postgresql://user@host/database`` or ``host=… dbname=…``. It is shown
            nowhere, because it may hold a password.
        table: the catalog's table, ``table`` or ``schema.table``, spelled as the database has it. A part
            in double quotes may hold a dot.
        key: the column that holds the rows' keys. It must be unique.
        columns: output field to column, or to :class:`~batchkit.targets.Json`; fields that are not named
            are not promoted. Without it each field goes to the column of its name. A column of type
            ``json`` or ``jsonb`` takes any field as JSON, an array column takes lists; elsewhere lists
            and objects become JSON text.
        guard: the column or columns that must still hold the text that was frozen with the row.
        strategy: ``"columns"`` changes the table in place. ``"overlay"`` leaves the table as it is: answers
            are loaded in small transactions into batchkit's own table, and a view shows them over the
            catalog's from one moment to the next. For large catalogs that are read, and written, through
            that view.
        missing: what to do with keys that the catalog lacks.
        lock_timeout: seconds to wait for each lock that somebody else holds.
        schema: where batchkit's own tables stand.
        view: the view of the strategy ``"overlay"``, ``view`` or ``schema.view``; the table's name with
            ``_promoted`` after it, if none is given.

    Raises:
        UsageError: arguments that cannot work.
    """

    where: str = attrs.field(repr=False)
    table: str
    key: str
    columns: Columns | None = attrs.field(default=None, kw_only=True)
    guard: str | Sequence[str] | None = attrs.field(default=None, kw_only=True)
    strategy: Literal["columns", "overlay"] = attrs.field(
        default="columns", validator=one_of("PostgreSQL", "columns", "overlay"), kw_only=True
    )
    missing: Missing = attrs.field(
        default="report", validator=one_of("PostgreSQL", "report", "insert", "error"), kw_only=True
    )
    lock_timeout: float = attrs.field(default=10.0, kw_only=True)
    schema: str = attrs.field(default="batchkit_catalog", kw_only=True)
    view: str | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot work."""
        where: object = self.where
        if not isinstance(where, str) or not ("://" in where or "=" in where):
            raise UsageError("where= takes a connection string: postgresql://user@host/database")
        split(self.table)
        split(self.view or self.table)
        check_columns(self.columns, key=self.key)

    @property
    def name(self) -> str:
        """Give a text that is the same for the same table, whatever is written to it."""
        return f"{address(self.where)}#{self.table}"

    @property
    def guard_columns(self) -> tuple[str, ...]:
        """Give the columns whose frozen text must still be the catalog's."""
        return guards(self.guard)

    @property
    def _catalog(self) -> Catalog:
        return Catalog(self.where, lock_timeout=self.lock_timeout)

    def check(self, fields: Sequence[OutputField]) -> Sequence[Problem]:
        """Give what would make a promotion fail, without changing anything."""
        try:
            with self._catalog.session() as db:
                self._catalog.begin(db)
                return problems(
                    db,
                    self.table,
                    self.key,
                    fields,
                    columns=self.columns,
                    guard=self.guard_columns,
                    missing=self.missing,
                    schema=self.schema,
                    overlay=self.strategy == "overlay",
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
        with self._catalog.session() as db:
            self._catalog.begin(db, read_only=True)
            table = read_table(db, self.table)
            sqls = self._statements(table, resolve(self.columns, fields))
            return plan(db, sqls, rows, missing=self.missing, lock_timeout=self.lock_timeout)

    def ddl(self) -> str:
        """Give the statements that make batchkit's own tables in the catalog. Changes nothing.

        The types of the catalog's columns are read for it, so the catalog must be reachable.
        """
        with self._catalog.session() as db:
            self._catalog.begin(db, read_only=True)
            own, columns = self._own(read_table(db, self.table)), self._all_columns(db)
            statements = own.definitions(columns)
            if self.strategy == "overlay":
                statements += self._overlay(own, tuple(columns)).definitions([*own.imaged(db), *columns])
        return "".join(f"{statement};\n" for statement in statements)

    def install(self) -> None:
        """Run the statements of :meth:`ddl`. Repeating changes nothing."""
        catalog = self._catalog
        with catalog.session() as db:
            catalog.begin(db)
            own, columns = self._own(read_table(db, self.table)), self._all_columns(db)
            if self.strategy == "overlay":
                self._overlay(own, tuple(columns)).install(db, columns)
            else:
                own.install(db, columns)
            db.execute("COMMIT")

    def promote(self, note: Note, rows: Iterable[StagedRow], *, dry_run: bool = False) -> Promotion:
        """Write staged rows in one transaction and give what became of each; see the Protocol."""
        mapping = resolve(self.columns, note.fields)
        catalog = self._catalog
        with catalog.session() as db:
            catalog.begin(db)
            table = read_table(db, self.table)
            sqls = with_carried(db, self._statements(table, mapping))
            if dry_run:
                sqls = readable(db, sqls)
            spelled = self._spelled(sqls, mapping)
            if not note.partial and (made := self._made(db, sqls, note, spelled, "")):
                return made
            refuse_other_strategy(db, sqls, self.strategy)
            staging = Staging(sqls, mapping, self.guard_columns)
            if isinstance(sqls, Overlay) and not dry_run:
                return self._lay_over(db, sqls, note, rows, spelled, staging)
            staged = staging.load(db, rows)
            refuse_repeats(db, Sql("pg_temp.batchkit_staged"))
            if not dry_run:
                sqls.own.install(db, sqls.columns)
                lock(db, sqls.own)
            db.execute(sqls.look if dry_run else sqls.hold)
            if read_table(db, self.table) != table:
                raise TargetError(
                    f"table {self.table!r} was altered while rows were staged. {NOTHING} Run it again."
                )
            # Again, since another worker may have been first, and what is held back is known only now.
            if made := self._made(db, sqls, note, spelled, staging.selection.digest):
                return made
            if dry_run:
                counts, listed = rehearse(db, sqls, note, self.missing)
                return rehearsed(note, self, scalar(db, sql("SELECT {now}", now=NOW)), counts, listed)
            facts = self._facts(db, sqls, note, identity(note, table.name, spelled, staging.selection.digest))
            record = apply(db, sqls, note, self.missing, facts, staged=staged, held=staging.selection.count)
            catalog.commit(db, lambda other: self._landed(other, sqls.own, record.id))
        return promoted(record, self)

    def _lay_over(
        self,
        db: Connection,
        sqls: Overlay,
        note: Note,
        rows: Iterable[StagedRow],
        spelled: str,
        staging: Staging,
    ) -> Promotion:
        """Load rows and let them be seen, having begun a transaction that may still make batchkit's tables."""
        catalog, own = self._catalog, sqls.own
        apart = sqls.ready(db)
        if not apart:
            sqls.install(db, [*sqls.columns, *sqls.carried])
        facts = self._facts(db, sqls, note, "")
        loading = Loading(
            catalog=catalog,
            table=self.table,
            db=db,
            sqls=sqls,
            note=note,
            missing=self.missing,
            staging=staging,
            promotion=facts.id,
            apart=apart,
        )
        try:
            loading.load(rows)
            kinds, highest = loading.prepare()
            if apart:
                catalog.begin(db)
            generation = lock(db, own)
            whose = identity(note, sqls.table.name, spelled, staging.selection.digest)
            if made := self._made(db, sqls, note, spelled, staging.selection.digest):
                loading.discard()
                return made
            loading.check_alone(generation)
            record = loading.flip(attrs.evolve(facts, identity=whose), kinds, highest)
            catalog.commit(db, lambda other: self._landed(other, own, record.id))
        except BaseException:
            if apart:
                loading.discard()
            raise
        return promoted(record, self)

    def rollback(self, promotion: int | None = None, *, to: int | None = None) -> RolledBack:
        """Undo one promotion, or with ``to`` that one and every later one, newest first; see the Protocol."""
        if promotion is not None and to is not None:
            raise UsageError("rollback takes the id of one promotion, or to=, not both")
        catalog = self._catalog
        with catalog.session() as db:
            catalog.begin(db)
            own = self._own(read_table(db, self.table))
            if own.there(db):
                lock(db, own)
            chosen = choose(
                records(db, own), self.table, promotion, to, lambda mine, later: shared(db, own, mine, later)
            )
            if not chosen:
                return RolledBack(promotions=())
            undone = [undo(db, own, record) for record in chosen]
            count_up(db, own)
            catalog.commit(db, lambda other: not self._stands(other, own, chosen[0].id))
        return summed(chosen, undone)

    def promotions(self) -> Sequence[Promotion]:
        """Give every promotion of this table, oldest first, those rolled back included."""
        with self._catalog.session() as db:
            self._catalog.begin(db, read_only=True)
            return [promoted(record, self) for record in records(db, self._own(read_table(db, self.table)))]

    def keys(self, promotion: int, kind: Kind) -> Sequence[str]:
        """Give the keys of one kind in a promotion, ascending by code point."""
        with self._catalog.session() as db:
            self._catalog.begin(db, read_only=True)
            own = self._own(read_table(db, self.table))
            return keys(db, own, find(records(db, own), promotion, self.table), kind)

    def _own(self, table: Table) -> Own:
        return Own(schema=self.schema, table=table)

    def _all_columns(self, db: Connection) -> list[TableColumn]:
        """Give the columns that images are kept of: those of the map, or all that could be written."""
        table = read_table(db, self.table)
        if self.columns is not None:
            return [
                column_of(table, to if isinstance(to, str) else to.column) for to in self.columns.values()
            ]
        return [
            column for column in table.columns.values() if column.name != self.key and not column.generated
        ]

    def _statements(self, table: Table, mapping: Sequence[Mapped]) -> Statements:
        key = column_of(table, self.key)
        if key.name not in table.unique:
            raise TargetError(
                f"key column {key.name!r} of {self.table!r} is not unique, so a key could mean several rows."
                " Give it a unique index."
            )
        if key.kind not in KEYS:
            raise TargetError(
                f"key column {key.name!r} of {self.table!r} is of type {key.declared}, whose values have no one text"
                " to match keys by."
            )
        columns = tuple(column_of(table, mapped.column) for mapped in mapping)
        if key in columns:
            raise UsageError(
                f"a field would overwrite the key column {key.name!r}; leave it out with columns="
            )
        if not columns:
            raise UsageError("there is no field to promote")
        guard = tuple(column_of(table, name) for name in self.guard_columns)
        if self.strategy == "overlay":
            return self._overlay(self._own(table), columns, guard)
        return Statements(own=self._own(table), table=table, key=key, columns=columns, guard=guard)

    def _overlay(
        self, own: Own, columns: tuple[TableColumn, ...], guard: tuple[TableColumn, ...] = ()
    ) -> Overlay:
        schema, name = split(self.view) if self.view else (own.table.schema, f"{own.table.table}_promoted")
        view = identifier(name) if schema is None else qualified(schema, name)
        key = column_of(own.table, self.key)
        return Overlay(own=own, table=own.table, key=key, columns=columns, guard=guard, view=view)

    def _spelled(self, sqls: Statements, mapping: Sequence[Mapped]) -> str:
        """Spell what is promoted to where."""
        columns = [[m.field, c.name, m.as_json] for m, c in zip(mapping, sqls.columns, strict=True)]
        guard = [column.name for column in sqls.guard]
        return json.dumps([sqls.key.name, columns, guard, self.strategy, self.missing])

    def _made(
        self, db: Connection, sqls: Statements, note: Note, spelled: str, selection: str
    ) -> Promotion | None:
        found = standing(db, sqls.own, identity(note, sqls.table.name, spelled, selection))
        return None if found is None else promoted(found, self, repeated=True)

    def _facts(self, db: Connection, sqls: Statements, note: Note, identity: str) -> Facts:
        return Facts(
            id=scalar(db, Sql("SELECT nextval($1::regclass)"), (sqls.own.sequence,)),
            identity=identity,
            tbl=sqls.table.name,
            key_column=sqls.key.name,
            columns=[column.name for column in sqls.columns],
            overlaid=[column.name for column in sqls.overlaid] if isinstance(sqls, Overlay) else [],
            strategy=self.strategy,
            store=note.store,
            run=note.run,
            receipt=note.receipt,
            content=note.content,
            written=0,
            inserted=0,
            unchanged=0,
            conflict=0,
            absent=0,
            held_back=0,
            newest=0,
        )

    def _landed(self, db: Connection, own: Own, promotion: int) -> bool:
        """Tell whether a promotion was committed, once the transaction that made it is over."""
        if own.there(db):
            lock(db, own)
        return any(record.id == promotion for record in records(db, own))

    def _stands(self, db: Connection, own: Own, promotion: int) -> bool:
        """Tell whether a promotion still stands, once the transaction that undid it is over."""
        lock(db, own)
        return any(record.id == promotion and record.stands for record in records(db, own))

"""The SQL of a promotion to PostgreSQL, made from checked names; values are parameters."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from batchkit.targets.postgres_own import Own, after, before
from batchkit.targets.postgres_table import (
    INTEGERS,
    TEXTS,
    Table,
    TableColumn,
    listed,
    quoted,
)
from batchkit.targets.sqltext import Sql, identifier, joined, sql

_PLAIN = TEXTS | INTEGERS | {"uuid", "bool", "date"}
"""Types whose values have the very text that is frozen with a row."""

_AS_JSON = frozenset({"json", "jsonb"})


def nth(letter: str, count: int) -> list[Sql]:
    """Give so many names of columns of the staged rows."""
    return [identifier(f"{letter}{number}") for number in range(count)]


def images(columns: Sequence[TableColumn], alias: Sql, named: Sequence[Sql]) -> Sql:
    """Give a row of values that compares by type and bytes with another one.

    A cast keeps the parser from comparing column by column, which would need an order or an equality.
    """
    values = [sql("{v}::{bare}", v=v, bare=column.bare) for v, column in zip(named, columns, strict=True)]
    return sql(
        "(ROW({values})::record)", values=joined(", ", [sql("{alias}.{v}", alias=alias, v=v) for v in values])
    )


def same(first: Sql, second: Sql) -> Sql:
    """Compare two rows of values byte by byte."""
    return sql("{first} OPERATOR(pg_catalog.*=) {second}", first=first, second=second)


@attrs.frozen(kw_only=True)
class Statements:
    """The statements for one table, key and list of columns.

    ``columns`` and ``guard`` are columns of the table; the order of ``columns`` is that of the values.
    Aliases: ``p`` is a row of the catalog, ``s`` a staged one, ``i`` an image. ``$1`` is the promotion's id.
    """

    own: Own
    table: Table
    key: TableColumn
    columns: tuple[TableColumn, ...]
    guard: tuple[TableColumn, ...] = ()

    # -- pieces

    @property
    def typed(self) -> Sql | None:
        """Give the type of keys that are compared as what they are; None where they are compared as text."""
        return self.key.bare if self.key.kind in INTEGERS or self.key.kind == "uuid" else None

    @property
    def indexed(self) -> bool:
        """Tell whether the key's own index finds a key."""
        return self.typed is not None or (self.key.kind in TEXTS and self.key.collation is not None)

    @property
    def key_text(self) -> Sql:
        """The exact text of a catalog row's key. ``concat`` spells a value as it leaves the database."""
        return sql("concat(p.{key})", key=quoted(self.key))

    def match(self, alias: Sql) -> Sql:
        """Join a catalog row to the exact text of a key."""
        if self.typed is not None:
            text = Sql("s.k") if alias == "s" else sql("{alias}.key::{type}", alias=alias, type=self.typed)
            return sql("p.{key} = {text}", key=quoted(self.key), text=text)
        if self.indexed:
            # A collation that is deterministic, as all are unless told, holds equal only what is the same.
            return sql(
                "p.{key} = {alias}.key COLLATE {collation}",
                key=quoted(self.key),
                alias=alias,
                collation=self.key.collation or Sql(""),
            )
        return sql(
            '({text} COLLATE "C" = {alias}.key AND p.{key} IS NOT NULL)',
            text=self.key_text,
            alias=alias,
            key=quoted(self.key),
        )

    @property
    def over(self) -> Sql:
        """What lies over a row of the catalog, to be joined to it: nothing."""
        return Sql("")

    @property
    def now(self) -> Sql:
        """The catalog's values."""
        return images(self.columns, Sql("p"), [quoted(column) for column in self.columns])

    @property
    def seen(self) -> Sql:
        """The values that readers of the catalog see."""
        return self.now

    @property
    def staged(self) -> Sql:
        """The values to be written."""
        return images(self.columns, Sql("s"), nth("v", len(self.columns)))

    @property
    def were(self) -> Sql:
        """The values from before, as kept."""
        return images(self.columns, Sql("i"), [before(column) for column in self.columns])

    @property
    def left(self) -> Sql:
        """The values that the promotion left, as kept."""
        return images(self.columns, Sql("i"), [after(column) for column in self.columns])

    def values(self, alias: Sql, names: Sequence[Sql]) -> Sql:
        """List values of an alias in the types of their columns."""
        return joined(
            ", ",
            [
                sql("{alias}.{name}::{bare}", alias=alias, name=name, bare=column.bare)
                for name, column in zip(names, self.columns, strict=True)
            ],
        )

    def assign(self, names: Sequence[Sql]) -> Sql:
        """Set the columns to values of an image."""
        return joined(
            ", ",
            [sql("{c} = i.{v}", c=quoted(c), v=v) for c, v in zip(self.columns, names, strict=True)],
        )

    @property
    def unlisted(self) -> Sql:
        """Tell whether nothing is said yet of a staged row."""
        return sql(
            "NOT EXISTS (SELECT FROM {image} AS i WHERE i.promotion = $1 AND i.n = s.n)", image=self.own.image
        )

    # -- staging

    @property
    def stage(self) -> Sql:
        """Make the temporary table. A value gets its column's type here, so that both compare as stored."""
        values = [
            sql("{v} {type}", v=v, type=column.stored)
            for v, column in zip(nth("v", len(self.columns)), self.columns, strict=True)
        ]
        typed = [sql("k {type}", type=self.typed)] if self.typed is not None else []
        guards = [sql("{g} text", g=g) for g in nth("g", len(self.guard))]
        return sql(
            'CREATE TEMP TABLE batchkit_staged (n bigint NOT NULL, key text COLLATE "C" NOT NULL, held boolean NOT NULL,'
            " answer bigint NOT NULL, {columns}, told boolean NOT NULL DEFAULT false, behind boolean NOT NULL DEFAULT false)"
            " ON COMMIT DROP",
            columns=joined(", ", [*typed, *values, *guards]),
        )

    @property
    def load(self) -> Sql:
        """Take rows: n, key, held, answer, the typed key where there is one, values, guard texts."""
        names = [*nth("v", len(self.columns)), *nth("g", len(self.guard))]
        return sql(
            "COPY pg_temp.batchkit_staged (n, key, held, answer, {names}) FROM STDIN",
            names=joined(", ", [*([Sql("k")] if self.typed is not None else []), *names]),
        )

    @property
    def compare_guards(self) -> list[Sql]:
        """Make the functions that compare a frozen text with a value whose type spells it in another way."""
        made = []
        for number, column in enumerate(self.guard):
            if column.kind in _PLAIN:
                continue
            frozen, now = sql("frozen::{bare}", bare=column.bare), Sql("now")
            if column.kind in _AS_JSON or column.array:
                frozen, now = Sql("frozen::jsonb"), Sql("to_jsonb(now)")
            elif column.kind in ("bpchar", "citext"):
                frozen, now = Sql('frozen COLLATE "C"'), Sql("concat(now)")
            made.append(
                sql(
                    "CREATE FUNCTION pg_temp.{name}(frozen text, now {bare}) RETURNS boolean LANGUAGE plpgsql STABLE AS $batchkit$"
                    " BEGIN IF frozen IS NULL OR now IS NULL THEN RETURN frozen IS NULL AND now IS NULL; END IF;"
                    " RETURN {frozen} = {now};"
                    " EXCEPTION WHEN data_exception THEN RETURN false; END $batchkit$",
                    name=identifier(f"batchkit_same_{number}"),
                    bare=column.bare,
                    frozen=frozen,
                    now=now,
                )
            )
        return made

    @property
    def forget_guards(self) -> list[Sql]:
        """Drop the functions again: a pooler may give the session to somebody else."""
        return [
            sql(
                "DROP FUNCTION pg_temp.{name}(text, {bare})",
                name=identifier(f"batchkit_same_{number}"),
                bare=column.bare,
            )
            for number, column in enumerate(self.guard)
            if column.kind not in _PLAIN
        ]

    @property
    def guarded(self) -> Sql:
        """Tell whether every guard of a catalog row is still what was frozen, and no newer answer stands there."""
        parts = [Sql("NOT s.behind")]
        for number, column in enumerate(self.guard):
            if column.kind in _PLAIN:
                template = sql(
                    'p.{c}::text COLLATE "C" IS NOT DISTINCT FROM s.{g}',
                    c=quoted(column),
                    g=identifier(f"g{number}"),
                )
            else:
                template = sql(
                    "pg_temp.{name}(s.{g}, p.{c}::{bare})",
                    name=identifier(f"batchkit_same_{number}"),
                    g=identifier(f"g{number}"),
                    c=quoted(column),
                    bare=column.bare,
                )
            parts.append(template)
        return joined(" AND ", parts)

    # -- promoting

    @property
    def look(self) -> Sql:
        """Keep the table from being altered, as every reader does."""
        return sql("SELECT FROM {table} LIMIT 0", table=self.table.sql)

    @property
    def hold(self) -> Sql:
        """Keep the table from being altered, as every writer does. LOCK TABLE would ask for more privileges."""
        first = quoted(self.columns[0])
        return sql("UPDATE {table} SET {c} = {c} WHERE false", table=self.table.sql, c=first)

    @property
    def rehearse(self) -> Sql:
        """Say of each staged row what it is, and lock and keep nothing."""
        return sql(
            "CREATE TEMP TABLE batchkit_hit ON COMMIT DROP AS SELECT s.n, s.key,"
            " CASE WHEN {same} THEN 'unchanged' WHEN {guarded} THEN 'written' ELSE 'conflict' END AS kind"
            " FROM pg_temp.batchkit_staged AS s JOIN {table} AS p ON {match} {over} WHERE NOT s.held",
            same=same(self.seen, self.staged),
            guarded=self.guarded,
            table=self.table.sql,
            over=self.over,
            match=self.match(Sql("s")),
        )

    @property
    def keep(self) -> Sql:
        """Lock the rows that differ, in the order of their keys, and copy what stands there beside what will.

        A row that somebody else changes meanwhile is waited for, and looked at again as they left it.
        """
        names = [*map(before, self.columns), *map(after, self.columns)]
        return sql(
            "INSERT INTO {image} (promotion, n, answer, key, kind, {names})"
            " SELECT $1::bigint, s.n, s.answer, s.key, CASE WHEN {guarded} THEN 'written' ELSE 'conflict' END, {now}, {staged}"
            " FROM pg_temp.batchkit_staged AS s JOIN {table} AS p ON {match}"
            " WHERE NOT s.held AND NOT ({same}) AND {unlisted} ORDER BY p.{key} FOR NO KEY UPDATE OF p",
            image=self.own.image,
            names=joined(", ", names),
            guarded=self.guarded,
            now=self.values(Sql("p"), [quoted(column) for column in self.columns]),
            staged=self.values(Sql("s"), nth("v", len(self.columns))),
            table=self.table.sql,
            match=self.match(Sql("s")),
            same=same(self.now, self.staged),
            unlisted=self.unlisted,
            key=quoted(self.key),
        )

    @property
    def note_unchanged(self) -> Sql:
        """Note the rows that hold the very values."""
        return sql(
            "INSERT INTO {image} (promotion, n, answer, key, kind) SELECT $1::bigint, s.n, s.answer, s.key, 'unchanged'"
            " FROM pg_temp.batchkit_staged AS s JOIN {table} AS p ON {match}"
            " WHERE NOT s.held AND {same} AND {unlisted}",
            image=self.own.image,
            table=self.table.sql,
            match=self.match(Sql("s")),
            same=same(self.now, self.staged),
            unlisted=self.unlisted,
        )

    @property
    def insertable(self) -> Sql:
        """Tell whether the key column would keep a key's text as it is."""
        if self.typed is not None:
            return Sql("s.k IS NOT NULL")
        return Sql("TRUE") if self.key.kind in TEXTS or self.key.kind == "citext" else Sql("FALSE")

    @property
    def insert(self) -> tuple[Sql, Sql, Sql]:
        """Insert the rows of which nothing is said yet, and note which of them the catalog took, as it took them."""
        return (
            Sql('CREATE TEMP TABLE batchkit_made (key text COLLATE "C" PRIMARY KEY) ON COMMIT DROP'),
            sql(
                "WITH p AS (INSERT INTO {table} ({key}, {columns}) SELECT {text}, {values}"
                " FROM pg_temp.batchkit_staged AS s WHERE NOT s.held AND {insertable} AND {unlisted} ORDER BY s.n"
                " ON CONFLICT DO NOTHING RETURNING {key}) INSERT INTO pg_temp.batchkit_made SELECT {made} FROM p",
                table=self.table.sql,
                key=quoted(self.key),
                columns=listed(self.columns),
                text=Sql("s.k") if self.typed is not None else Sql("s.key"),
                values=self.values(Sql("s"), nth("v", len(self.columns))),
                insertable=self.insertable,
                unlisted=self.unlisted,
                made=self.key_text,
            ),
            sql(
                "INSERT INTO {image} (promotion, n, answer, key, kind, inserted, {names})"
                " SELECT $1::bigint, s.n, s.answer, s.key, 'inserted', {whole}, {now}"
                " FROM pg_temp.batchkit_made AS m JOIN pg_temp.batchkit_staged AS s ON s.key = m.key"
                " JOIN {table} AS p ON {match}",
                image=self.own.image,
                names=joined(", ", [after(column) for column in self.columns]),
                whole=self.whole,
                now=self.values(Sql("p"), [quoted(column) for column in self.columns]),
                table=self.table.sql,
                match=self.match(Sql("s")),
            ),
        )

    @property
    def whole(self) -> Sql:
        """Spell a whole catalog row, the same under any settings of the session."""
        return Sql("sha256(record_send(p))")

    @property
    def note_others(self) -> Sql:
        """Note the rows that the catalog lacks, and those held back."""
        return sql(
            "INSERT INTO {image} (promotion, n, key, kind)"
            " SELECT $1::bigint, s.n, s.key, CASE WHEN s.held THEN 'held_back' ELSE 'absent' END"
            " FROM pg_temp.batchkit_staged AS s WHERE {unlisted}",
            image=self.own.image,
            unlisted=self.unlisted,
        )

    @property
    def write(self) -> Sql:
        """Set the new values."""
        return sql(
            "UPDATE {table} AS p SET {assign} FROM {image} AS i WHERE i.promotion = $1 AND i.kind = 'written' AND {match}",
            table=self.table.sql,
            assign=self.assign([after(column) for column in self.columns]),
            image=self.own.image,
            match=self.match(Sql("i")),
        )

    @property
    def look_again(self) -> Sql:
        """Replace what was to be written by what stands there, since the catalog's triggers have had their say."""
        return sql(
            "UPDATE {image} AS i SET {assign} FROM {table} AS p"
            " WHERE i.promotion = $1 AND i.kind = 'written' AND {match} AND NOT ({same})",
            image=self.own.image,
            assign=joined(
                ", ",
                [sql("{a} = p.{c}", a=after(column), c=quoted(column)) for column in self.columns],
            ),
            table=self.table.sql,
            match=self.match(Sql("i")),
            same=same(self.now, self.left),
        )

"""The SQL of a promotion and of its rollback on SQLite, made from checked names; values are parameters."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from batchkit.targets.sqlite_table import Table, TableColumn, quoted
from batchkit.targets.sqltext import Sql, identifier, joined, sql

LIST_OTHERS = Sql("""\
INSERT INTO main.batchkit_before (kind, key, answer)
SELECT CASE WHEN s.held THEN 'held_back' ELSE coalesce(h.kind, 'absent') END, s.key, s.answer
FROM temp.batchkit_staged AS s LEFT JOIN temp.batchkit_hit AS h ON h.n = s.n
WHERE h.kind IS NULL OR h.kind IN ('unchanged', 'conflict') ORDER BY s.n""")

SHARED_KEY = Sql("""\
SELECT later.key FROM main.batchkit_before AS mine JOIN main.batchkit_before AS later ON later.key = mine.key
WHERE mine.id BETWEEN ? AND ? AND mine.kind IN ('written', 'inserted')
  AND later.id BETWEEN ? AND ? AND later.kind IN ('written', 'inserted', 'unchanged')
ORDER BY later.key LIMIT 1""")


def image_columns(count: int) -> list[tuple[Sql, Sql]]:
    """Give the names of the pairs (value before, value after) for so many columns."""
    return [(identifier(f"b{n}"), identifier(f"a{n}")) for n in range(count)]


@attrs.frozen(kw_only=True)
class Statements:
    """The statements for one table, key and list of columns.

    ``columns`` and ``guard`` are columns of the table; the order of ``columns`` is that of the values.
    """

    table: Table
    key: TableColumn
    columns: tuple[TableColumn, ...]
    guard: tuple[TableColumn, ...] = ()

    # -- pieces

    @property
    def name(self) -> Sql:
        """The catalog table."""
        return sql("main.{table}", table=identifier(self.table.name))

    def match(self, text: Sql) -> Sql:
        """Join a catalog row ``p`` to a key's exact text.

        Where the column has a type, a comparison that can use the catalog's index comes first; it also
        matches what SQLite or a collation holds equal (123 and '00123', 'a' and 'A'), which the exact one
        sorts out. A column without a type would hold 5 and '5' apart, so there the exact one stands alone.
        A column of texts holds no number, and a text equals no blob.
        """
        if self.key.affinity == "TEXT":
            return sql(
                "p.{key} = {text} AND {text} COLLATE BINARY = p.{key}", key=quoted(self.key), text=text
            )
        exact = sql(
            "{text} COLLATE BINARY = CAST(p.{key} AS TEXT) AND typeof(p.{key}) <> 'blob'",
            key=quoted(self.key),
            text=text,
        )
        if self.key.affinity == "BLOB":
            return exact
        return sql("p.{key} = {text} AND {exact}", key=quoted(self.key), text=text, exact=exact)

    @property
    def locator(self) -> Sql:
        """What tells a catalog row apart while the transaction lasts."""
        return sql("p.{id}", id=self.table.rowid or quoted(self.key))

    def at(self, found: Sql) -> Sql:
        """Join a catalog row ``p`` to a locator that was stored."""
        if self.table.rowid:
            return sql("p.{id} = {found}", id=self.table.rowid, found=found)
        return sql(
            "p.{key} = {found} AND typeof(p.{key}) = typeof({found}) AND {found} COLLATE BINARY = p.{key}",
            key=quoted(self.key),
            found=found,
        )

    def _same(self, values: Sequence[Sql]) -> Sql:
        """Compare the catalog's values with others by type and bytes."""
        return joined(
            " AND ",
            [
                sql(
                    "typeof(p.{c}) = typeof({v}) AND {v} COLLATE BINARY IS p.{c}",
                    c=quoted(column),
                    v=value,
                )
                for column, value in zip(self.columns, values, strict=True)
            ],
        )

    def _staged(self) -> list[Sql]:
        return [identifier(f"v{n}") for n in range(len(self.columns))]

    def _guards(self) -> list[Sql]:
        return [identifier(f"g{n}") for n in range(len(self.guard))]

    def _assign(self, values: Sequence[Sql]) -> Sql:
        return joined(
            ", ",
            [sql("{c} = {v}", c=quoted(column), v=v) for column, v in zip(self.columns, values, strict=True)],
        )

    # -- staging

    @property
    def stage(self) -> tuple[Sql, ...]:
        """Make the temporary tables. A value takes its column's affinity here, so that both compare as stored."""
        values = [
            sql("{v} {affinity}", v=v, affinity=column.affinity)
            for v, column in zip(self._staged(), self.columns, strict=True)
        ]
        guards = [sql("{g} TEXT", g=g) for g in self._guards()]
        return (
            sql(
                "CREATE TEMP TABLE batchkit_staged (n INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, held INTEGER NOT NULL,"
                " answer INTEGER NOT NULL, {columns})",
                columns=joined(", ", [*values, *guards]),
            ),
            Sql(
                "CREATE TEMP TABLE batchkit_hit (n INTEGER PRIMARY KEY, at, kind TEXT NOT NULL, told INTEGER)"
            ),
        )

    @property
    def load(self) -> Sql:
        """Take one row: key, held, answer, values, guard texts."""
        names = [*self._staged(), *self._guards()]
        return sql(
            "INSERT INTO temp.batchkit_staged (key, held, answer, {names}) VALUES (?, ?, ?, {marks})",
            names=joined(", ", names),
            marks=joined(", ", [Sql("?")] * len(names)),
        )

    # -- promoting

    @property
    def classify(self) -> Sql:
        """Find each key's row and say what it is. Same values go first: nothing is written over them."""
        guards = [
            sql(
                "s.{g} COLLATE BINARY IS CASE typeof(p.{c}) WHEN 'real' THEN batchkit_text(p.{c}) WHEN 'blob' THEN x''"
                " ELSE CAST(p.{c} AS TEXT) END",
                g=g,
                c=quoted(column),
            )
            for g, column in zip(self._guards(), self.guard, strict=True)
        ]
        return sql(
            "INSERT INTO temp.batchkit_hit (n, at, kind) SELECT s.n, {locator},"
            " CASE WHEN {same} THEN 'unchanged' WHEN {guard} THEN 'written' ELSE 'conflict' END"
            " FROM temp.batchkit_staged AS s JOIN {table} AS p ON {match} WHERE s.held = 0",
            locator=self.locator,
            same=self._same([sql("s.{v}", v=v) for v in self._staged()]),
            guard=joined(" AND ", guards) if guards else Sql("TRUE"),
            table=self.name,
            match=self.match(Sql("s.key")),
        )

    @property
    def _insertable(self) -> Sql:
        """Tell whether the key column would keep a key's text as it is."""
        if self.key.affinity in ("TEXT", "BLOB"):
            return Sql("TRUE")
        return Sql("s.key = CAST(CAST(s.key AS NUMERIC) AS TEXT)")

    @property
    def count_insertable(self) -> Sql:
        """Count the absent keys that the catalog could take."""
        return sql(
            "SELECT count(*) FROM temp.batchkit_staged AS s WHERE s.held = 0 AND {insertable}"
            " AND NOT EXISTS (SELECT 1 FROM temp.batchkit_hit AS h WHERE h.n = s.n)",
            insertable=self._insertable,
        )

    @property
    def insert(self) -> tuple[Sql, Sql]:
        """Insert the absent keys, and find which of them the catalog took."""
        return (
            sql(
                "INSERT INTO {table} ({key}, {columns}) SELECT s.key, {values} FROM temp.batchkit_staged AS s"
                " WHERE s.held = 0 AND {insertable} AND NOT EXISTS (SELECT 1 FROM temp.batchkit_hit AS h WHERE h.n = s.n)"
                " ORDER BY s.n ON CONFLICT DO NOTHING",
                table=self.name,
                key=quoted(self.key),
                columns=joined(", ", [quoted(c) for c in self.columns]),
                values=joined(", ", [sql("s.{v}", v=v) for v in self._staged()]),
                insertable=self._insertable,
            ),
            sql(
                "INSERT INTO temp.batchkit_hit (n, at, kind) SELECT s.n, {locator}, 'inserted'"
                " FROM temp.batchkit_staged AS s JOIN {table} AS p ON {match}"
                " WHERE s.held = 0 AND NOT EXISTS (SELECT 1 FROM temp.batchkit_hit AS h WHERE h.n = s.n)",
                locator=self.locator,
                table=self.name,
                match=self.match(Sql("s.key")),
            ),
        )

    @property
    def keep(self) -> Sql:
        """Copy what stands in the catalog beside what will, inside the database."""
        pairs = image_columns(len(self.columns))
        return sql(
            "INSERT INTO main.batchkit_before (kind, key, answer, {names}) SELECT 'written', s.key, s.answer, {images}"
            " FROM temp.batchkit_hit AS h JOIN temp.batchkit_staged AS s ON s.n = h.n JOIN {table} AS p ON {at}"
            " WHERE h.kind = 'written' ORDER BY h.n",
            names=joined(", ", [name for pair in pairs for name in pair]),
            images=joined(
                ", ",
                [
                    sql("p.{c}, s.{v}", c=quoted(column), v=v)
                    for column, v in zip(self.columns, self._staged(), strict=True)
                ],
            ),
            table=self.name,
            at=self.at(Sql("h.at")),
        )

    @property
    def keep_inserted(self) -> Sql:
        """Note the rows that were inserted, each with an image of the whole row."""
        pairs = image_columns(len(self.columns))
        return sql(
            "INSERT INTO main.batchkit_before (kind, key, answer, image, {names}) SELECT 'inserted', s.key, s.answer, {image}, {values}"
            " FROM temp.batchkit_hit AS h JOIN temp.batchkit_staged AS s ON s.n = h.n JOIN {table} AS p ON {at}"
            " WHERE h.kind = 'inserted' ORDER BY h.n",
            names=joined(", ", [after for _, after in pairs]),
            image=self.image,
            values=joined(", ", [sql("p.{c}", c=quoted(column)) for column in self.columns]),
            table=self.name,
            at=self.at(Sql("h.at")),
        )

    @property
    def image(self) -> Sql:
        """Spell a whole row: type and bytes of every column."""
        return joined(
            " || ',' || ",
            [
                sql(
                    "typeof(p.{c}) || ':' || CASE typeof(p.{c}) WHEN 'real' THEN printf('%!.17g', p.{c}) ELSE hex(p.{c}) END",
                    c=quoted(column),
                )
                for column in self.table.columns.values()
            ],
        )

    @property
    def write(self) -> Sql:
        """Set the new values."""
        return sql(
            "UPDATE {table} AS p SET {assign} FROM temp.batchkit_hit AS h JOIN temp.batchkit_staged AS s ON s.n = h.n"
            " WHERE h.kind = 'written' AND {at}",
            table=self.name,
            assign=self._assign([sql("s.{v}", v=v) for v in self._staged()]),
            at=self.at(Sql("h.at")),
        )

    @property
    def look_again(self) -> Sql:
        """Replace what was to be written by what stands there, since the catalog's triggers have had their say."""
        pairs = image_columns(len(self.columns))
        return sql(
            "UPDATE main.batchkit_before AS b SET {assign} FROM {table} AS p"
            " WHERE b.id BETWEEN ? AND ? AND b.kind = 'written' AND {match}",
            assign=joined(
                ", ",
                [
                    sql("{a} = p.{c}", a=after, c=quoted(column))
                    for (_, after), column in zip(pairs, self.columns, strict=True)
                ],
            ),
            table=self.name,
            match=self.match(Sql("b.key")),
        )

    # -- rolling back

    @property
    def find_undoable(self) -> Sql:
        """Find the rows that are as the promotion left them."""
        pairs = image_columns(len(self.columns))
        return sql(
            "INSERT INTO temp.batchkit_undo (id, at, kind) SELECT b.id, {locator}, b.kind"
            " FROM main.batchkit_before AS b JOIN {table} AS p ON {match}"
            " WHERE b.id BETWEEN :first AND :last AND ("
            "b.kind = 'written' AND {same} OR b.kind = 'inserted' AND b.image IS {image} AND {childless})",
            locator=self.locator,
            table=self.name,
            match=self.match(Sql("b.key")),
            same=self._same([sql("b.{a}", a=after) for _, after in pairs]),
            image=self.image,
            childless=self._childless,
        )

    @property
    def _childless(self) -> Sql:
        """Tell whether no row of another table points at this one: deleting it would harm that row."""
        parts = [
            sql(
                "NOT EXISTS (SELECT 1 FROM main.{child} AS c WHERE {other} AND {pairs})",
                child=identifier(reference.table),
                # A row may point at itself; another row of this very table is somebody's, too.
                other=sql("c.{k} COLLATE BINARY IS NOT p.{k}", k=quoted(self.key))
                if reference.table == self.table.name
                else Sql("TRUE"),
                pairs=joined(
                    " AND ",
                    [
                        sql("c.{own} = p.{ours}", own=identifier(a), ours=identifier(b))
                        for a, b in reference.pairs
                    ],
                ),
            )
            for reference in self.table.children
        ]
        return joined(" AND ", parts) if parts else Sql("TRUE")

    @property
    def restore(self) -> Sql:
        """Set the values from before."""
        pairs = image_columns(len(self.columns))
        return sql(
            "UPDATE {table} AS p SET {assign} FROM temp.batchkit_undo AS u JOIN main.batchkit_before AS b ON b.id = u.id"
            " WHERE u.kind = 'written' AND {at}",
            table=self.name,
            assign=self._assign([sql("b.{b}", b=before) for before, _ in pairs]),
            at=self.at(Sql("u.at")),
        )

    @property
    def restore_all(self) -> Sql:
        """Set the values from before in every row that is as the promotion left it."""
        pairs = image_columns(len(self.columns))
        return sql(
            "UPDATE {table} AS p SET {assign} FROM main.batchkit_before AS b"
            " WHERE b.id BETWEEN :first AND :last AND b.kind = 'written' AND {match} AND {same}",
            table=self.name,
            assign=self._assign([sql("b.{b}", b=before) for before, _ in pairs]),
            match=self.match(Sql("b.key")),
            same=self._same([sql("b.{a}", a=after) for _, after in pairs]),
        )

    @property
    def delete(self) -> Sql:
        """Delete the rows that the promotion inserted."""
        return sql(
            "DELETE FROM {table} AS p WHERE {id} COLLATE BINARY IN (SELECT at FROM temp.batchkit_undo WHERE kind = 'inserted')",
            table=self.name,
            id=self.locator,
        )

    @property
    def count_not_restored(self) -> Sql:
        """Count the rows that a trigger of the catalog kept from coming back."""
        pairs = image_columns(len(self.columns))
        return sql(
            "SELECT count(*) FROM temp.batchkit_undo AS u JOIN main.batchkit_before AS b ON b.id = u.id"
            " JOIN {table} AS p ON {at} WHERE NOT ({same})",
            table=self.name,
            at=self.at(Sql("u.at")),
            same=self._same([sql("b.{b}", b=before) for before, _ in pairs]),
        )

"""The SQL of promotions that a view lays over a PostgreSQL catalog, without a lock on its table."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from batchkit.targets.postgres_own import after, before
from batchkit.targets.postgres_session import Connection
from batchkit.targets.postgres_statements import Statements, images, nth, same
from batchkit.targets.postgres_table import TableColumn, quoted
from batchkit.targets.sqltext import Sql, identifier, joined, sql


def literal(text: str) -> Sql:
    """Quote a text for a view's definition, which takes no parameters."""
    escaped = text.replace("'", "''").replace("\\", "\\\\")
    return Sql(("E'" if "\\" in text else "'") + escaped + "'")


@attrs.frozen(kw_only=True)
class Overlay(Statements):
    """The statements of overlaid promotions. ``o`` is the newest image that lies over a row, if one does.

    An image holds what the table held when it was loaded (b_) and what is to be seen instead (a_). Where
    the table holds something else by now, somebody wrote to it since, and that is what is seen.

    ``carried`` are columns that earlier promotions overlaid and this one does not: its images keep them.
    """

    view: Sql
    carried: tuple[TableColumn, ...] = ()

    @property
    def overlaid(self) -> tuple[TableColumn, ...]:
        """All columns whose values the images of this promotion tell."""
        return (*self.columns, *self.carried)

    @property
    def over(self) -> Sql:
        """What lies over a row of the catalog, to be joined to it: its newest image that is to be seen."""
        return sql(
            "LEFT JOIN LATERAL (SELECT i.*, q.overlaid FROM {image} AS i JOIN {promotion} AS q ON q.id = i.promotion"
            " WHERE p.{column} IS NOT NULL AND i.kind = 'overlaid' AND i.key = {key} AND q.key_column = {name}"
            " AND (q.rolled_back_at IS NULL OR i.kept) ORDER BY i.promotion DESC LIMIT 1) AS o ON true",
            image=self.own.image,
            promotion=self.own.promotion,
            column=quoted(self.key),
            key=self.key_text,
            name=literal(self.key.name),
        )

    @property
    def source(self) -> Sql:
        """The table, and what lies over it."""
        return sql("{table} AS p {over}", table=self.table.sql, over=self.over)

    def visible(self, column: TableColumn) -> Sql:
        """Give what is seen in a column."""
        return sql(
            "CASE WHEN NOT o.dead AND {name} = ANY (o.overlaid) AND {same} THEN o.{a}::{declared} ELSE p.{c} END",
            name=literal(column.name),
            same=same(
                images([column], Sql("p"), [quoted(column)]), images([column], Sql("o"), [before(column)])
            ),
            a=after(column),
            declared=Sql(column.declared),
            c=quoted(column),
        )

    @property
    def seen(self) -> Sql:
        """The values that readers of the view see."""
        values = [sql("({v})::{bare}", v=self.visible(column), bare=column.bare) for column in self.columns]
        return sql("(ROW({values})::record)", values=joined(", ", values))

    # -- what is installed

    def definitions(self, imaged: Sequence[TableColumn]) -> list[Sql]:
        """Give the statements that make the view over images of these columns, beside the tables."""
        names = {column.name for column in imaged}
        shown = [
            sql(
                "{v} AS {c}",
                v=self.visible(column) if column.name in names else sql("p.{c}", c=quoted(column)),
                c=quoted(column),
            )
            for column in self.table.columns.values()
        ]
        return [
            sql(
                "CREATE INDEX IF NOT EXISTS {index} ON {image} (key, promotion) WHERE kind = 'overlaid'",
                index=identifier(f"{self.own.image_name[:58]}_key"),
                image=self.own.image,
            ),
            sql(
                "CREATE OR REPLACE VIEW {view} AS SELECT {shown} FROM {source}",
                view=self.view,
                shown=joined(", ", shown),
                source=self.source,
            ),
            self._edit(names),
            sql(
                "CREATE OR REPLACE TRIGGER batchkit_edit INSTEAD OF UPDATE OR DELETE ON {view} FOR EACH ROW EXECUTE FUNCTION {function}()",
                view=self.view,
                function=self._function,
            ),
        ]

    def _edit(self, names: set[str]) -> Sql:
        """Make what writes an edit of the view to the table.

        An edit of what is overlaid is somebody's own: the whole row goes to the table as they saw and left it,
        and the image is dead. Other edits pass the image by.
        """
        columns = [column for column in self.table.columns.values() if not column.generated]
        changed = [
            sql(
                "CASE WHEN {same} THEN NULL ELSE {name} END",
                same=same(images([c], Sql("NEW"), [quoted(c)]), images([c], Sql("OLD"), [quoted(c)])),
                name=literal(c.name),
            )
            for c in columns
            if c.name in names
        ]
        assign = [
            sql(
                "{c} = CASE WHEN {name} = ANY (beneath) THEN p.{c} ELSE NEW.{c} END",
                c=quoted(c),
                name=literal(c.name),
            )
            if c.name in names
            else sql("{c} = NEW.{c}", c=quoted(c))
            for c in columns
        ]
        return sql(
            "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $batchkit$\n"
            "DECLARE\n"
            "    laid record;\n"
            "    beneath text[];\n"
            "BEGIN\n"
            "    SELECT o.promotion, o.n, o.overlaid INTO laid FROM {source} WHERE p.{key} = OLD.{key} AND NOT o.dead;\n"
            "    beneath := coalesce(laid.overlaid, ARRAY[]::text[]);\n"
            "    IF TG_OP = 'DELETE' OR beneath && ARRAY[{changed}]::text[] THEN\n"
            "        beneath := ARRAY[]::text[];\n"
            "        UPDATE {image} SET dead = true WHERE promotion = laid.promotion AND n = laid.n;\n"
            "    END IF;\n"
            "    IF TG_OP = 'DELETE' THEN\n"
            "        DELETE FROM {table} WHERE {key} = OLD.{key};\n"
            "    ELSE\n"
            "        UPDATE {table} AS p SET {assign} WHERE p.{key} = OLD.{key};\n"
            "    END IF;\n"
            "    IF NOT FOUND THEN RETURN NULL; END IF;\n"
            "    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;\n"
            "    RETURN NEW;\n"
            "END $batchkit$",
            function=self._function,
            source=self.source,
            key=quoted(self.key),
            changed=joined(", ", changed),
            image=self.own.image,
            table=self.table.sql,
            assign=joined(", ", assign),
        )

    @property
    def _function(self) -> Sql:
        return sql(
            "{schema}.{name}",
            schema=identifier(self.own.schema),
            name=identifier(f"edit_{self.own.image_name}"[:63]),
        )

    def ready(self, db: Connection) -> bool:
        """Tell whether everything is there, and the view shows these columns."""
        if not self.own.ready(db, self.columns):
            return False
        found = db.execute(
            "SELECT a.attname FROM pg_rewrite AS w JOIN pg_depend AS d ON d.objid = w.oid AND d.classid = 'pg_rewrite'::regclass"
            " JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid"
            " WHERE w.ev_class = to_regclass($1) AND d.refobjid = to_regclass($2)",
            (self.view, self.own.image),
        )
        shown = {identifier(row[0]) for row in found}
        return {after(column) for column in self.columns} <= shown

    def install(self, db: Connection, columns: Sequence[TableColumn]) -> None:
        """Make what is missing, in the transaction at hand."""
        self.own.install(db, columns)
        for statement in self.definitions(self.own.imaged(db)):
            db.execute(statement)

    # -- promoting

    def load_images(self, *, insert: bool) -> Sql:
        """Say of each staged row what it is, and keep what the table holds beside what is to be seen."""
        mine, carried = nth("v", len(self.columns)), self.carried
        written = [
            *(sql("p.{c}::{bare}", c=quoted(c), bare=c.bare) for c in self.overlaid),
            *(sql("s.{v}::{bare}", v=v, bare=c.bare) for v, c in zip(mine, self.columns, strict=True)),
            *(sql("({v})::{bare}", v=self.visible(c), bare=c.bare) for c in carried),
        ]
        lacking = sql("CASE WHEN {able} THEN 'lacking' ELSE 'absent' END", able=self.insertable)
        return sql(
            "INSERT INTO {image} (promotion, n, answer, key, kind, {names})"
            " SELECT $1::bigint, s.n, s.answer, s.key,"
            " CASE WHEN s.held THEN 'held_back' WHEN p.{key} IS NULL THEN {lacking} WHEN {same} THEN 'unchanged'"
            " WHEN {guarded} THEN 'overlaid' ELSE 'conflict' END, {written}"
            " FROM pg_temp.batchkit_staged AS s LEFT JOIN {table} AS p ON NOT s.held AND {match} {over}",
            image=self.own.image,
            names=joined(", ", [*map(before, self.overlaid), *map(after, self.overlaid)]),
            key=quoted(self.key),
            lacking=lacking if insert else Sql("'absent'"),
            same=same(self.seen, self.staged),
            guarded=self.guarded,
            written=joined(", ", written),
            table=self.table.sql,
            over=self.over,
            match=self.match(Sql("s")),
        )

    @property
    def constrained(self) -> bool:
        """Tell whether the table has rules that a value could break and that the view would not enforce."""
        return self.table.checked or any(c.required or c.declared != c.stored for c in self.columns)

    def probe(self) -> tuple[Sql, Sql, Sql]:
        """Put the rows as they will be seen, of a range of numbers, where the table's own rules hold."""
        columns = [column for column in self.table.columns.values() if not column.generated]
        names = {column.name for column in self.columns}
        values = [
            sql("i.{a}", a=after(column)) if column.name in names else sql("p.{c}", c=quoted(column))
            for column in columns
        ]
        return (
            make_probe(self.table.sql),
            sql(
                "INSERT INTO pg_temp.batchkit_probe ({columns}) SELECT {values} FROM {image} AS i JOIN {table} AS p ON {match}"
                " WHERE i.promotion = $1 AND i.kind = 'overlaid' AND i.n > $2",
                columns=joined(", ", [quoted(column) for column in columns]),
                values=joined(", ", values),
                image=self.own.image,
                table=self.table.sql,
                match=self.match(Sql("i")),
            ),
            Sql("DROP TABLE pg_temp.batchkit_probe"),
        )

    @property
    def insert(self) -> tuple[Sql, Sql, Sql]:
        """Insert the rows that the table lacks, and note which of them it took, as it took them."""
        return (
            Sql('CREATE TEMP TABLE batchkit_made (key text COLLATE "C" PRIMARY KEY) ON COMMIT DROP'),
            sql(
                "WITH p AS (INSERT INTO {table} ({key}, {columns}) SELECT i.key::{type}, {values} FROM {image} AS i"
                " WHERE i.promotion = $1 AND i.kind = 'lacking' ORDER BY i.n ON CONFLICT DO NOTHING RETURNING {key})"
                " INSERT INTO pg_temp.batchkit_made SELECT {made} FROM p",
                table=self.table.sql,
                key=quoted(self.key),
                type=self.key.bare,
                columns=joined(", ", [quoted(column) for column in self.columns]),
                values=joined(", ", [sql("i.{a}", a=after(column)) for column in self.columns]),
                image=self.own.image,
                made=self.key_text,
            ),
            sql(
                "UPDATE {image} AS i SET kind = 'inserted', inserted = {whole}, {assign}"
                " FROM pg_temp.batchkit_made AS m, {table} AS p WHERE i.promotion = $1 AND i.key = m.key AND {match}",
                image=self.own.image,
                whole=self.whole,
                assign=joined(", ", [sql("{a} = p.{c}", a=after(c), c=quoted(c)) for c in self.columns]),
                table=self.table.sql,
                match=self.match(Sql("i")),
            ),
        )

    # -- rolling back

    @property
    def keep_edited(self) -> Sql:
        """Keep the images over rows that somebody changed or deleted since: they stay as they are seen.

        A row that somebody changed, and made again what the promotion left there, is no such row.
        """
        return sql(
            "UPDATE {image} AS i SET kept = true WHERE i.promotion = $1 AND i.kind = 'overlaid' AND NOT EXISTS"
            " (SELECT FROM {table} AS p WHERE {match} AND CASE WHEN i.dead THEN {again} ELSE {same} END)",
            image=self.own.image,
            table=self.table.sql,
            match=self.match(Sql("i")),
            again=same(self.now, self.left),
            same=same(self.now, self.were),
        )


def make_probe(table: Sql) -> Sql:
    """Make a temporary table on which a table's own rules hold."""
    return sql(
        "CREATE TEMP TABLE batchkit_probe (LIKE {table} INCLUDING CONSTRAINTS INCLUDING GENERATED) ON COMMIT DROP",
        table=table,
    )

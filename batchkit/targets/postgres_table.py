"""What a PostgreSQL catalog's table looks like: read from the database, never assumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from batchkit.errors import TargetError, UsageError
from batchkit.targets.postgres_session import Connection
from batchkit.targets.sqltext import Sql, identifier, joined, sql

TEXTS: Final = frozenset({"text", "varchar"})
INTEGERS: Final = frozenset({"int2", "int4", "int8"})
KEYS: Final = TEXTS | INTEGERS | {"uuid", "bpchar", "citext", "numeric"}
"""Types whose values have one text, so that a key's exact text finds its row."""


@attrs.frozen(kw_only=True)
class TableColumn:
    """One column. ``kind`` is the internal name of its type, such as ``int4``, with domains resolved.

    ``stored`` is that type with its length or precision, ``bare`` without. ``declared`` is what the table
    says, which may be a domain.
    """

    name: str
    declared: str
    kind: str
    stored: Sql
    bare: Sql
    limit: int | None
    array: bool
    required: bool
    default: bool
    generated: bool
    collation: Sql | None

    @property
    def json(self) -> bool:
        """Tell whether the column holds JSON."""
        return self.kind in ("json", "jsonb")


@attrs.frozen(kw_only=True)
class Reference:
    """A foreign key of another table that points here: pairs of (its column, our column)."""

    schema: str
    table: str
    pairs: tuple[tuple[str, str], ...]


@attrs.frozen(kw_only=True)
class Table:
    """One table of the catalog, and what the database enforces on it."""

    schema: str
    table: str
    columns: Mapping[str, TableColumn]
    unique: frozenset[str]
    parted: bool
    """Rows stand in tables below it: partitions, or tables that inherit from it."""
    triggers: bool
    checked: bool
    children: tuple[Reference, ...]
    tied: frozenset[str]
    """Columns whose values a foreign key or a unique index ties to other rows."""

    @property
    def name(self) -> str:
        """Give the name that promotions are kept under."""
        return str(self.sql)

    @property
    def sql(self) -> Sql:
        """Give the name for use in SQL."""
        return qualified(self.schema, self.table)

    def column(self, name: str) -> TableColumn | None:
        """Find a column by its exact name."""
        return self.columns.get(name)


def qualified(schema: str, table: str) -> Sql:
    """Give the name of a table in its schema."""
    return sql("{schema}.{table}", schema=identifier(schema), table=identifier(table))


def split(name: str) -> tuple[str | None, str]:
    """Part ``schema.table``; a part in double quotes may hold a dot.

    Raises:
        UsageError: it is neither a name nor a schema and a name.
    """
    parts: list[str] = []
    rest = name
    while True:
        if rest.startswith('"'):
            part, end = "", 1
            while (close := rest.find('"', end)) >= 0 and rest[close + 1 : close + 2] == '"':
                part, end = part + rest[end : close + 1], close + 2
            if close < 0:
                raise UsageError(f"table={name!r}: a double quote is not closed")
            part, rest = part + rest[end:close], rest[close + 1 :]
        else:
            part, dot, tail = rest.partition(".")
            rest = dot + tail
        identifier(part)
        parts.append(part)
        if not rest:
            break
        if not rest.startswith(".") or len(parts) == 2:
            raise UsageError(f"table={name!r} is no table; give 'table' or 'schema.table'")
        rest = rest[1:]
    return (None, parts[0]) if len(parts) == 1 else (parts[0], parts[1])


_COLUMNS: Final = Sql("""\
WITH RECURSIVE resolved (attnum, type, typmod, domain) AS (
    SELECT a.attnum, a.atttypid, a.atttypmod, false FROM pg_attribute AS a
    WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT r.attnum, t.typbasetype, CASE WHEN r.typmod < 0 THEN t.typtypmod ELSE r.typmod END, true
    FROM resolved AS r JOIN pg_type AS t ON t.oid = r.type WHERE t.typtype = 'd'
)
SELECT a.attname, format_type(a.atttypid, a.atttypmod), t.typname, format_type(r.type, r.typmod), format_type(r.type, -1),
    r.typmod, t.typcategory, a.attnotnull, a.atthasdef OR a.attidentity <> '', a.attgenerated <> '' OR a.attidentity = 'a',
    CASE WHEN a.attcollation <> 0 THEN quote_ident(n.nspname) || '.' || quote_ident(c.collname) END
FROM resolved AS r JOIN pg_type AS t ON t.oid = r.type AND t.typtype <> 'd'
JOIN pg_attribute AS a ON a.attrelid = $1::oid AND a.attnum = r.attnum
LEFT JOIN pg_collation AS c ON c.oid = a.attcollation AND c.collisdeterministic LEFT JOIN pg_namespace AS n ON n.oid = c.collnamespace
ORDER BY a.attnum""")

_UNIQUE: Final = Sql("""\
SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
    AND i.indexprs IS NULL AND i.indnkeyatts = 1""")

_TIED: Final = Sql("""\
SELECT a.attname FROM pg_constraint AS c JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
WHERE c.conrelid = $1::oid AND c.contype IN ('f', 'x')
UNION SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
WHERE i.indrelid = $1::oid AND i.indisunique""")

_CHILDREN: Final = Sql("""\
SELECT c.oid::bigint, n.nspname, t.relname, own.attname, ours.attname
FROM pg_constraint AS c JOIN pg_class AS t ON t.oid = c.conrelid JOIN pg_namespace AS n ON n.oid = t.relnamespace
CROSS JOIN LATERAL unnest(c.conkey, c.confkey) WITH ORDINALITY AS k (own, ours, place)
JOIN pg_attribute AS own ON own.attrelid = c.conrelid AND own.attnum = k.own
JOIN pg_attribute AS ours ON ours.attrelid = c.confrelid AND ours.attnum = k.ours
WHERE c.confrelid = $1::oid AND c.contype = 'f' AND c.conrelid <> c.confrelid AND c.conparentid = 0 ORDER BY c.oid, k.place""")

_KINDS: Final = {
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
    "S": "sequence",
    "c": "type",
    "i": "index",
}


def read_table(db: Connection, name: str) -> Table:
    """Read the shape of a table.

    Raises:
        TargetError: there is no such table, or it is no table.
        UsageError: the name is none.
    """
    schema, table = split(name)
    wanted = identifier(table) if schema is None else qualified(schema, table)
    (oid,) = db.execute("SELECT to_regclass($1)::oid", (wanted,)).fetchone()
    if oid is None:
        raise TargetError(f"the catalog has no table {name!r}; it has {_others(db, schema, table)}")
    schema, table, kind, parted, triggers, checked = db.execute(
        "SELECT n.nspname, c.relname, c.relkind, c.relkind = 'p' OR c.relhassubclass, EXISTS (SELECT FROM pg_trigger AS t"
        " WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'),"
        " EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype = 'c')"
        " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = $1::oid",
        (oid,),
    ).fetchone()
    if kind not in ("r", "p"):
        raise TargetError(f"{name!r} is a {_KINDS.get(kind, 'thing')}, and a promotion writes to tables only")
    columns = {
        row[0]: TableColumn(
            name=row[0],
            declared=row[1],
            kind=row[2],
            stored=Sql(row[3]),
            bare=Sql(row[4]),
            limit=row[5] - 4 if row[2] in ("varchar", "bpchar") and row[5] > 4 else None,
            array=row[6] == "A",
            required=row[7],
            default=row[8],
            generated=row[9],
            collation=None if row[10] is None else Sql(row[10]),
        )
        for row in db.execute(_COLUMNS, (oid,))
    }
    references: dict[int, tuple[str, str, list[tuple[str, str]]]] = {}
    for constraint, own_schema, own_table, own, ours in db.execute(_CHILDREN, (oid,)):
        references.setdefault(constraint, (own_schema, own_table, []))[2].append((own, ours))
    return Table(
        schema=schema,
        table=table,
        columns=columns,
        unique=frozenset(row[0] for row in db.execute(_UNIQUE, (oid,))),
        parted=parted,
        triggers=triggers,
        checked=checked,
        children=tuple(
            Reference(schema=s, table=t, pairs=tuple(pairs)) for s, t, pairs in references.values()
        ),
        tied=frozenset(row[0] for row in db.execute(_TIED, (oid,))),
    )


def _others(db: Connection, schema: str | None, table: str) -> str:
    found = db.execute(
        "SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname ELSE n.nspname || '.' || c.relname END"
        " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        " AND n.nspname NOT LIKE 'pg\\_%' AND (pg_table_is_visible(c.oid) OR n.nspname = $1 OR lower(c.relname) = lower($2))"
        " ORDER BY lower(c.relname) <> lower($2), 1 LIMIT 20",
        (schema, table),
    )
    return ", ".join(row[0] for row in found) or "no table that this role sees"


def column_of(table: Table, name: str) -> TableColumn:
    """Give a column by name.

    Raises:
        TargetError: the table has none of that name.
    """
    column = table.column(name)
    if column is None:
        raise TargetError(f"table {table.table!r} has no column {name!r}; it has {', '.join(table.columns)}")
    return column


def quoted(column: TableColumn) -> Sql:
    """Give a column's name for use in SQL."""
    return identifier(column.name)


def listed(columns: tuple[TableColumn, ...]) -> Sql:
    """Give the names of columns, one after the other."""
    return joined(", ", [quoted(column) for column in columns])

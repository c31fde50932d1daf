"""batchkit's own tables in a PostgreSQL catalog: a schema, one table of promotions, one of images a catalog table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import attrs

from batchkit.targets.postgres_session import Connection, scalar
from batchkit.targets.postgres_table import Table, TableColumn, qualified
from batchkit.targets.sqltext import Sql, identifier, joined, sql

_LOCK: Final = 7_016_996_765_293_437_281
"""The advisory lock under which tables are made; PostgreSQL's IF NOT EXISTS is not safe against itself."""

_CREATE: Final = (
    "CREATE SCHEMA IF NOT EXISTS {schema}",
    'CREATE SEQUENCE IF NOT EXISTS {schema}."promotion_id"',
    """\
CREATE TABLE IF NOT EXISTS {schema}."promotion" (
    id bigint PRIMARY KEY,
    identity text NOT NULL,
    tbl text NOT NULL,
    key_column text NOT NULL,
    columns text[] NOT NULL,
    overlaid text[] NOT NULL,
    strategy text NOT NULL,
    store text NOT NULL,
    run text NOT NULL,
    receipt text NOT NULL,
    content text NOT NULL,
    written bigint NOT NULL,
    inserted bigint NOT NULL,
    unchanged bigint NOT NULL,
    conflict bigint NOT NULL,
    absent bigint NOT NULL,
    held_back bigint NOT NULL,
    newest bigint NOT NULL,
    at double precision NOT NULL,
    rolled_back_at double precision
)""",
    'CREATE UNIQUE INDEX IF NOT EXISTS "promotion_standing" ON {schema}."promotion" (identity) WHERE rolled_back_at IS NULL',
    # One row a catalog table: locked by whoever promotes to it or rolls back, counted up by each.
    """\
CREATE TABLE IF NOT EXISTS {schema}."catalog" (
    tbl text PRIMARY KEY,
    generation bigint NOT NULL DEFAULT 0
)""",
    # Promotions whose rows are being loaded and are not to be seen yet, with the time of the last sign of life.
    """\
CREATE TABLE IF NOT EXISTS {schema}."load" (
    promotion bigint PRIMARY KEY,
    tbl text NOT NULL,
    at double precision NOT NULL
)""",
)

# What stood in a column (b_) and what a promotion left there (a_), with the column's own type.
_CREATE_IMAGE: Final = """\
CREATE TABLE IF NOT EXISTS {image} (
    promotion bigint NOT NULL,
    n bigint NOT NULL,
    answer bigint,
    kept boolean NOT NULL DEFAULT false,
    dead boolean NOT NULL DEFAULT false,
    key text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    inserted bytea,
    PRIMARY KEY (promotion, n)
)"""


@attrs.frozen(kw_only=True)
class Own:
    """batchkit's tables for one catalog table. ``schema`` is where they stand."""

    schema: str
    table: Table

    @property
    def promotion(self) -> Sql:
        """The table of promotions, which is the truth about them."""
        return qualified(self.schema, "promotion")

    @property
    def catalog(self) -> Sql:
        """The table with one row for each catalog table."""
        return qualified(self.schema, "catalog")

    @property
    def load(self) -> Sql:
        """The table of promotions that are being loaded."""
        return qualified(self.schema, "load")

    @property
    def sequence(self) -> Sql:
        """Where the ids of promotions come from."""
        return qualified(self.schema, "promotion_id")

    @property
    def image_name(self) -> str:
        """The name of the table of images, which tells what it belongs to as far as a name can."""
        digest = hashlib.sha256(self.table.name.encode()).hexdigest()[:8]
        return f"image_{_shortened(self.table.table, 40)}_{digest}"

    @property
    def image(self) -> Sql:
        """The table of images."""
        return qualified(self.schema, self.image_name)

    def definitions(self, columns: Sequence[TableColumn]) -> list[Sql]:
        """Give the statements that make the tables, with images of these columns."""
        schema = identifier(self.schema)
        widen = joined(
            ", ",
            [
                sql("ADD COLUMN IF NOT EXISTS {name} {bare}", name=name, bare=column.bare)
                for column in columns
                for name in (before(column), after(column))
            ],
        )
        return [
            *(Sql(statement.format(schema=schema)) for statement in _CREATE),
            Sql(_CREATE_IMAGE.format(image=self.image)),
            *([sql("ALTER TABLE {image} {widen}", image=self.image, widen=widen)] if columns else []),
        ]

    def ready(self, db: Connection, columns: Sequence[TableColumn]) -> bool:
        """Tell whether the tables are there and hold images of these columns with their types of today."""
        types = self._types(db)
        return bool(types) and all(types.get(_named("a_", column)) == column.bare for column in columns)

    def imaged(self, db: Connection) -> list[TableColumn]:
        """Give the catalog's columns of which images are kept."""
        types = self._types(db)
        return [column for column in self.table.columns.values() if _named("a_", column) in types]

    def _types(self, db: Connection) -> dict[str, str]:
        """Give the columns of the table of images with their types; nothing where it is not there."""
        found = db.execute(
            "SELECT a.attname, format_type(a.atttypid, -1) FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped",
            (self.schema, self.image_name),
        )
        return dict(found.fetchall())

    def there(self, db: Connection) -> bool:
        """Tell whether the table of promotions is there."""
        return bool(scalar(db, Sql("SELECT to_regclass($1) IS NOT NULL"), (self.promotion,)))

    def install(self, db: Connection, columns: Sequence[TableColumn]) -> None:
        """Make what is missing, in the transaction at hand."""
        db.execute("SELECT pg_advisory_xact_lock($1)", (_LOCK,))
        if self.ready(db, columns):
            return
        for statement in self.definitions(columns):
            db.execute(statement)
        types = self._types(db)
        for column in columns:
            if types[_named("a_", column)] != column.bare:  # the catalog's column got another type since
                for name in (before(column), after(column)):
                    db.execute(
                        sql(
                            "ALTER TABLE {image} ALTER COLUMN {name} TYPE {bare} USING {name}::{bare}",
                            image=self.image,
                            name=name,
                            bare=column.bare,
                        )
                    )


def before(column: TableColumn) -> Sql:
    """Give the image column of what stood in a column."""
    return identifier(_named("b_", column))


def after(column: TableColumn) -> Sql:
    """Give the image column of what a promotion left there."""
    return identifier(_named("a_", column))


def _named(prefix: str, column: TableColumn) -> str:
    """Give a name of at most 63 bytes, which is all that PostgreSQL keeps."""
    name = prefix + column.name
    if len(name.encode()) <= 63:
        return name
    return f"{prefix}{_shortened(column.name, 40)}_{hashlib.sha256(column.name.encode()).hexdigest()[:8]}"


def _shortened(name: str, size: int) -> str:
    return name.encode()[:size].decode(errors="ignore")

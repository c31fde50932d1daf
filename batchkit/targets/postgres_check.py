"""What would make a promotion into a PostgreSQL table fail, found out by reading its shape and by trying."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from batchkit.targets import Columns, Missing, OutputField, Problem
from batchkit.targets.checking import Checking, refused, trials
from batchkit.targets.mapping import Mapped
from batchkit.targets.postgres_overlay import make_probe
from batchkit.targets.postgres_own import Own
from batchkit.targets.postgres_session import Connection, driver, scalar
from batchkit.targets.postgres_staging import form
from batchkit.targets.postgres_table import INTEGERS, KEYS, Table, TableColumn, quoted, read_table
from batchkit.targets.sqltext import Sql, identifier, joined, sql

_NUMBERS: Final = INTEGERS | {"float4", "float8", "numeric"}
_TEXTUAL: Final = frozenset({"text", "varchar", "bpchar", "citext"})


def problems(
    db: Connection,
    table: str,
    key: str,
    fields: Sequence[OutputField],
    *,
    columns: Columns | None,
    guard: Sequence[str],
    missing: Missing,
    schema: str,
    overlay: bool,
) -> list[Problem]:
    """Give every problem that is certain or likely; see :meth:`batchkit.targets.Target.check`.

    Raises:
        TargetError: there is no such table.
    """
    shape = read_table(db, table)
    checking = Checking(
        table=shape.table, columns=[*shape.columns.values()], find=shape.column, unfit=_unfit, key=key
    )
    found, placed = checking.look(
        fields, columns, guard, missing, lambda column: _key_problems(shape, column, missing)
    )
    if overlay:
        found += [_tied(column) for _, _, column in placed if column.name in shape.tied]
    written = [column for _, _, column in placed]
    lacking = _lacking(db, shape, Own(schema=schema, table=shape), written, missing, overlay=overlay)
    return found + (lacking or _tried(db, _probed(db, shape) if overlay else shape.sql, placed))


def _tied(column: TableColumn) -> Problem:
    return Problem(
        column=column.name,
        what="tied to other rows by a foreign key or a unique index, which a view cannot keep",
        fix='Use strategy="columns".',
    )


def _probed(db: Connection, table: Table) -> Sql:
    """Give a temporary table of one of the catalog's rows, on which its rules hold."""
    db.execute(make_probe(table.sql))
    columns = joined(", ", [quoted(column) for column in table.columns.values() if not column.generated])
    db.execute(
        sql(
            "INSERT INTO pg_temp.batchkit_probe ({columns}) SELECT {columns} FROM {table} LIMIT 1",
            columns=columns,
            table=table.sql,
        )
    )
    return Sql("pg_temp.batchkit_probe")


def _key_problems(table: Table, column: TableColumn, missing: Missing) -> Iterator[Problem]:
    if column.name not in table.unique:
        yield Problem(
            column=column.name,
            what="the key column is not unique, so a key could mean several rows",
            fix=f"CREATE UNIQUE INDEX CONCURRENTLY … ON {table.name} ({quoted(column)})",
        )
    if column.kind not in KEYS:
        yield Problem(
            column=column.name,
            what=f"the key column is of type {column.declared}, whose values have no one text",
            fix="Use a column of texts, integers or UUIDs.",
        )
    if missing == "insert" and column.kind in ("bpchar", "numeric"):
        yield Problem(
            column=column.name,
            what=f'declared {column.declared}, which may change a key, so missing="insert" makes no row',
            fix='Use missing="report".',
        )


def _unfit(column: TableColumn, field: OutputField, mapped: Mapped) -> str:
    """Name a kind of value that a column cannot hold, if there is one."""
    kinds = field.kinds - {"null"}
    if column.json:
        return ""
    if mapped.as_json:
        return "" if column.kind in _TEXTUAL else "JSON text"
    if column.array:
        return next((kind for kind in sorted(kinds) if kind != "array"), "")
    text = next((kind for kind in sorted(kinds) if kind in ("array", "object", "string")), "")
    if column.kind in _NUMBERS:
        return text or ("number" if column.kind in INTEGERS and "number" in kinds else "")
    if column.kind == "bool":
        return next((kind for kind in sorted(kinds) if kind != "boolean"), "")
    return ""


def _lacking(
    db: Connection,
    table: Table,
    own: Own,
    columns: Sequence[TableColumn],
    missing: Missing,
    *,
    overlay: bool,
) -> list[Problem]:
    """Give the privileges that this role lacks."""
    found = []
    for column in () if overlay else columns:
        if not _may(db, "has_column_privilege($1, $2, 'UPDATE')", table.sql, column.name):
            found.append(
                Problem(
                    column=column.name,
                    what="this role may not write the column",
                    fix=f"GRANT UPDATE ({quoted(column)}) ON {table.sql} TO …",
                )
            )
    wanted = [("SELECT", f"GRANT SELECT ON {table.sql} TO …")]
    if missing == "insert":
        wanted += [
            ("INSERT", f"GRANT INSERT ON {table.sql} TO …"),
            ("DELETE", f"GRANT DELETE ON {table.sql} TO …, which undoing an insert needs"),
        ]
    for privilege, fix in wanted:
        if not _may(db, "has_table_privilege($1, $2)", table.sql, privilege):
            found.append(
                Problem(column="", what=f"this role may not {privilege} the catalog's table", fix=fix)
            )
    if not _may(db, "has_database_privilege(current_database(), 'TEMP')"):
        found.append(
            Problem(
                column="", what="this role may not make temporary tables", fix="GRANT TEMP ON DATABASE … TO …"
            )
        )
    if own.ready(db, columns):
        found += _barred(db, own, overlay=overlay)
    elif not _may(
        db,
        "CASE WHEN to_regnamespace(quote_ident($1)) IS NULL THEN has_database_privilege(current_database(), 'CREATE')"
        " ELSE has_schema_privilege($1, 'CREATE') END",
        own.schema,
    ):
        found.append(
            Problem(
                column="",
                what=f"batchkit's own tables are missing in schema {own.schema!r}, and this role may not make them",
                fix="Have target.ddl() run by somebody who may, with the grants of docs/how-to/promote-to-postgres.md.",
            )
        )
    return found


_BARRED: Final = (
    "SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE n.nspname = $1 AND c.relname = ANY ($2) AND EXISTS"
    " (SELECT FROM unnest($3::text[]) AS p WHERE NOT has_table_privilege(c.oid, p)) ORDER BY c.relname"
)


def _barred(db: Connection, own: Own, *, overlay: bool) -> Iterator[Problem]:
    """Give the privileges on batchkit's own tables that this role lacks."""
    schema = identifier(own.schema)
    if not _may(db, "has_schema_privilege($1, 'USAGE')", own.schema):
        yield Problem(
            column="",
            what=f"this role may not use the schema {own.schema!r}, where batchkit's own tables are",
            fix=f"GRANT USAGE ON SCHEMA {schema} TO …",
        )
    wanted = ["SELECT", "INSERT", "UPDATE", *(["DELETE"] if overlay else [])]
    names = ["promotion", "catalog", "load", own.image_name]
    if lacking := [name for (name,) in db.execute(_BARRED, (own.schema, names, wanted))]:
        yield Problem(
            column="",
            what=f"this role may not write batchkit's own tables ({', '.join(lacking)})",
            fix=f"GRANT {', '.join(wanted)} ON ALL TABLES IN SCHEMA {schema} TO …",
        )
    if not _may(
        db,
        "EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1"
        " AND c.relname = 'promotion_id' AND has_sequence_privilege(c.oid, 'USAGE'))",
        own.schema,
    ):
        yield Problem(
            column="",
            what="this role may not take numbers for promotions",
            fix=f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO …",
        )


def _may(db: Connection, question: str, *values: str) -> bool:
    return bool(scalar(db, Sql(f"SELECT {question}"), values))


def _tried(
    db: Connection, table: Sql, placed: Iterable[tuple[OutputField, Mapped, TableColumn]]
) -> list[Problem]:
    """Write edge values to one catalog row and undo it: constraints and triggers speak for themselves."""
    psycopg = driver()
    found: list[Problem] = []
    row = db.execute(
        sql("SELECT tableoid, ctid FROM {table} LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED", table=table)
    ).fetchone()
    for field, mapped, column in placed if row else ():
        # The value goes as text, and PostgreSQL makes of it what it would make of the text in a COPY.
        statement = sql(
            "UPDATE {table} SET {column} = $1::text::{stored} WHERE tableoid = $2 AND ctid = $3::tid",
            table=table,
            column=quoted(column),
            stored=column.stored,
        )
        for trial in trials(field, form(mapped, column)):
            db.execute("SAVEPOINT batchkit_trial")
            try:
                db.execute(statement, (None if trial.value is None else str(trial.value), *row))
            except (psycopg.IntegrityError, psycopg.DataError, psycopg.errors.RaiseException) as error:
                found.append(
                    refused(column, field, trial, error.diag.constraint_name or error.diag.message_primary)
                )
                break
            finally:
                db.execute("ROLLBACK TO SAVEPOINT batchkit_trial")
    return found

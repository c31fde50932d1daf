"""What a promotion to PostgreSQL will do, told before it does it."""

from __future__ import annotations

from batchkit.targets import Missing, Plan
from batchkit.targets.postgres_loading import CHUNK
from batchkit.targets.postgres_overlay import Overlay
from batchkit.targets.postgres_session import Connection
from batchkit.targets.postgres_statements import Statements
from batchkit.targets.sqltext import Sql


def plan(db: Connection, sqls: Statements, rows: int, *, missing: Missing, lock_timeout: float) -> Plan:
    """Give the statements, what they lock for how long, and an estimate of what will be logged."""
    table = sqls.table
    width, pages, tuples, indexes = db.execute(
        "SELECT (SELECT coalesce(sum(avg_width), 0)::float8 FROM pg_stats WHERE schemaname = $1 AND tablename = $2),"
        " c.relpages, c.reltuples, (SELECT count(*) FROM pg_index AS i WHERE i.indrelid = c.oid)"
        " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname = $1 AND c.relname = $2",
        (table.schema, table.table),
    ).fetchone()
    row = width or (pages * 8192 / tuples if tuples > 0 else 200)
    inserts = sqls.insert if missing == "insert" else ()
    staging: tuple[Sql, ...] = (sqls.stage, sqls.load, *sqls.compare_guards)
    if isinstance(sqls, Overlay):
        return Plan(
            rows=rows,
            sql=(
                "BEGIN",
                *staging,
                sqls.load_images(insert=missing == "insert"),
                "COMMIT",
                "BEGIN",
                *inserts,
                "COMMIT",
            ),
            locks=f"No row of {table.name} is locked. Rows are loaded {CHUNK:,} at a time, and the last transaction"
            " lets all of them be seen at once.",
            # The image: what the columns hold, what is to be seen, and an entry in each of two indexes.
            log_bytes=int(rows * (row / 2 + 350)),
        )
    return Plan(
        rows=rows,
        sql=(
            "BEGIN",
            *staging,
            sqls.keep,
            sqls.note_unchanged,
            *inserts,
            sqls.note_others,
            sqls.write,
            "COMMIT",
        ),
        locks=f"While rows are staged, none. Then the rows of {table.name} that change are locked until the commit:"
        " who wants to change one of them waits, readers see the old values and wait for nothing."
        f" No lock is waited for longer than {lock_timeout:g} s.",
        # A new version of the row, an entry in each index, a lock, and the image.
        log_bytes=int(rows * (2 * row + 60 * (indexes + 1) + 250)),
    )

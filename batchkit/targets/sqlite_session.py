"""One connection to a SQLite catalog for one operation, its errors in batchkit's words, and batchkit's tables there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchkit.errors import TargetError
from batchkit.targets.sqlite_statements import image_columns
from batchkit.targets.sqltext import Sql, sql

CREATE_PROMOTION = """\
CREATE TABLE IF NOT EXISTS batchkit_promotion (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tbl TEXT NOT NULL,
    key_column TEXT NOT NULL,
    columns TEXT NOT NULL,
    run TEXT NOT NULL,
    receipt TEXT NOT NULL,
    content TEXT NOT NULL,
    mapping TEXT NOT NULL,
    selection TEXT NOT NULL,
    at REAL NOT NULL,
    written INTEGER NOT NULL,
    inserted INTEGER NOT NULL,
    unchanged INTEGER NOT NULL,
    conflict INTEGER NOT NULL,
    absent INTEGER NOT NULL,
    held_back INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    store TEXT NOT NULL DEFAULT '',
    newest INTEGER NOT NULL DEFAULT 0,
    rolled_back_at REAL
) STRICT"""

CREATE_STANDING = """\
CREATE UNIQUE INDEX IF NOT EXISTS batchkit_promotion_standing
    ON batchkit_promotion (tbl, run, content, mapping, selection) WHERE rolled_back_at IS NULL"""

# Images have no type, so that a value keeps the storage class it had. The rows of one promotion are
# the contiguous ids `first` to `last` of its own row: written in one transaction, found without an index.
CREATE_BEFORE = """\
CREATE TABLE IF NOT EXISTS batchkit_before (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    kept INTEGER,
    image TEXT,
    answer INTEGER
)"""

PAIRS = 8
"""Pairs of image columns that batchkit's table is made with; a wider mapping adds its own."""

CACHE_KIB = 4 * 1024

_ADDED = (
    Sql("batchkit_promotion ADD COLUMN store TEXT NOT NULL DEFAULT ''"),
    Sql("batchkit_promotion ADD COLUMN newest INTEGER NOT NULL DEFAULT 0"),
    Sql("batchkit_before ADD COLUMN answer INTEGER"),
)
"""What tables of version 0.1.0 lack."""

_WORDS = (
    (
        "locked",
        "another connection holds the catalog's lock; waited {timeout:g} s. Run it again, or raise timeout=",
    ),
    ("readonly", "the catalog cannot be written: check the file's and the folder's permissions"),
    (
        "disk is full",
        "the disk is full: the promotion keeps what it replaces beside the catalog and needs room for it",
    ),
    ("unable to open", "the catalog's file cannot be opened"),
    ("not a database", "the file is no SQLite database"),
    ("malformed", "SQLite found the catalog's file damaged"),
)


def translated(error: sqlite3.Error, path: Path, timeout: float) -> TargetError:
    """Give an error of the database in words that say what to do.

    Nothing was changed where the error is a known one. Of another one, such as an I/O error while committing,
    only the next look tells: asking again finds what was done, and does nothing twice.
    """
    text = str(error)
    if isinstance(error, sqlite3.IntegrityError):
        words = "a constraint of the catalog refused the values; target.check() names the column where it can"
        return TargetError(f"{path.name}: {words} ({text}). Nothing was changed.")
    for part, words in _WORDS:
        if part in text.lower():
            return TargetError(f"{path.name}: {words.format(timeout=timeout)} ({text}). Nothing was changed.")
    return TargetError(
        f"{path.name}: the catalog's database failed ({text}). Ask again: nothing is done twice."
    )


@contextmanager
def session(path: Path, timeout: float) -> Iterator[sqlite3.Connection]:
    """Open the catalog, which must exist, for one operation. What was not committed is undone at the end.

    Raises:
        TargetError: in place of every error of the database.
    """
    try:
        db = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=timeout, isolation_level=None)
    except sqlite3.Error as error:
        raise translated(error, path, timeout) from error
    try:
        # Off by default in SQLite; a promoted value that breaks a foreign key must be refused.
        db.execute("PRAGMA foreign_keys = ON")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB:d}")
        db.create_function("batchkit_text", 1, repr, deterministic=True)
        yield db
    except sqlite3.Error as error:
        raise translated(error, path, timeout) from error
    finally:
        db.close()


def definitions(pairs: int) -> list[Sql]:
    """Give the statements that make batchkit's own tables with so many pairs of image columns."""
    images = ",\n".join(f"    {before}, {after}" for before, after in image_columns(pairs))
    table = Sql(CREATE_BEFORE.removesuffix("\n)") + f",\n{images}\n)")
    return [Sql(CREATE_PROMOTION), Sql(CREATE_STANDING), table]


def installed(db: sqlite3.Connection) -> bool:
    """Tell whether batchkit's tables are in the catalog."""
    found = db.execute(
        "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table' AND name IN ('batchkit_promotion', 'batchkit_before')"
    ).fetchone()
    return bool(found[0] == 2)


def columns_of(db: sqlite3.Connection, table: str) -> frozenset[str]:
    """Give the columns of one of batchkit's own tables; none where it is not there."""
    found = db.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
    return frozenset(row[0] for row in found)


def install(db: sqlite3.Connection, pairs: int) -> None:
    """Make the tables, and widen them where the mapping or this version needs it, in the transaction at hand."""
    pairs = max(pairs, PAIRS)
    for statement in definitions(pairs):
        db.execute(statement)
    present = columns_of(db, "batchkit_before")
    added = [*_ADDED] if "answer" not in present else []
    for number, pair in enumerate(image_columns(pairs)):
        if f"b{number}" not in present:
            added += [sql("batchkit_before ADD COLUMN {column}", column=column) for column in pair]
    for change in added:
        db.execute(sql("ALTER TABLE main.{change}", change=change))

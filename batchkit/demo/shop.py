"""The shop: its product records as a CSV file, and the catalog table that they stand in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from pathlib import Path

from batchkit import source
from batchkit.demo.folder import Folder, Options
from batchkit.targets.sqlite import SQLiteTarget
from batchkit.testing.catalog import write_csv

PROMOTED = ("category", "features", "summary")

_MAKE = """
CREATE TABLE products (
  sku TEXT PRIMARY KEY, title TEXT, description TEXT, category TEXT, features TEXT,
  summary TEXT CHECK (length(summary) <= 120)
)
"""


def source_file(folder: Folder, options: Options) -> Path:
    """Give the CSV of the shop's records; generate it where none was handed over."""
    if options.data is not None:
        return options.data
    if not folder.generated.exists():
        part = folder.generated.with_suffix(".part")
        write_csv(part, options.rows or 0, options.seed)
        os.replace(part, folder.generated)
    return folder.generated


def make_catalog(folder: Folder, rows: Path) -> int:
    """Make the catalog from the source, once, and give its number of products.

    A sku stands in it once: of records that share one the first is taken. What the suppliers call the
    category stands where a category of ours will.
    """
    with contextlib.closing(sqlite3.connect(folder.catalog, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'products'").fetchone():
            db.execute(_MAKE)
            products = (
                tuple(_text(record.get(name)) for name in ("sku", "title", "description", "source_category"))
                for record in source.records(rows)
            )
            db.executemany(
                "INSERT OR IGNORE INTO products (sku, title, description, category) VALUES (?, ?, ?, ?)",
                (product for product in products if product[0] and not product[0].isspace()),
            )
        db.execute("COMMIT")
        (count,) = db.execute("SELECT count(*) FROM products").fetchone()
    return int(count)


def _text(value: object) -> str | None:
    # A catalog holds no broken characters; a record with some is set aside and never promoted.
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def target(folder: Folder) -> SQLiteTarget:
    """Give the catalog as what a promotion writes to."""
    return SQLiteTarget(folder.catalog, "products", "sku")


def fingerprint(folder: Folder) -> str:
    """Give the SHA-256 of every promoted cell of the catalog, type and bytes."""
    digest = hashlib.sha256()
    with contextlib.closing(sqlite3.connect(folder.catalog)) as db:
        cells = (
            "SELECT quote(sku), quote(category), quote(features), quote(summary) FROM products ORDER BY sku"
        )
        for row in db.execute(cells):
            digest.update("\0".join(row).encode() + b"\n")
    return digest.hexdigest()


def products(folder: Folder, skus: list[str]) -> list[tuple[str | None, ...]]:
    """Give some products as they stand now: sku, title, category, summary."""
    with contextlib.closing(sqlite3.connect(folder.catalog)) as db:
        read = "SELECT sku, title, category, summary FROM products WHERE sku = ?"
        return [row for sku in skus if (row := db.execute(read, (sku,)).fetchone()) is not None]

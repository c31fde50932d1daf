"""Rows in: reading them, making text of their values, freezing them."""

from batchkit.source.freezing import Freezer, source_line
from batchkit.source.origin import Record, Source, csv, jsonl, parquet, query, records, rows
from batchkit.source.readers import Damaged

__all__ = [
    "Damaged",
    "Freezer",
    "Record",
    "Source",
    "csv",
    "jsonl",
    "parquet",
    "query",
    "records",
    "rows",
    "source_line",
]

"""Data frames and Parquet. A frame is read by the methods of its own library; none is imported for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from batchkit.errors import MissingField, UsageError
from batchkit.source import columns as column_names

CHUNK = 2_000
"""Records of a frame that are Python objects at a time."""

INSTALL = 'pip install "message-batchkit[dataframe]"'


def reader_of(frame: Any) -> Callable[[], Iterator[Mapping[str, object]]] | None:
    """Find how to read a data frame, or None where the object is none.

    pandas has ``itertuples``, polars and narwhals ``iter_rows``, Arrow tables ``to_batches``, a polars
    LazyFrame ``collect_batches``; whatever else speaks the Arrow stream protocol is read by pyarrow.
    """
    if isinstance(frame, type):
        return None
    if hasattr(frame, "itertuples") and hasattr(frame, "columns"):
        return lambda: _tuples(frame.columns, frame.itertuples(index=False, name=None))
    if hasattr(frame, "iter_rows") and hasattr(frame, "columns"):
        return lambda: _tuples(frame.columns, frame.iter_rows())
    if hasattr(frame, "collect_batches"):
        return lambda: _batches(frame)
    if hasattr(frame, "to_batches"):
        return lambda: _arrow(frame.to_batches())
    if hasattr(frame, "__arrow_c_stream__"):
        return lambda: _arrow(_pyarrow("this frame").RecordBatchReader.from_stream(frame))
    return None


def read_parquet(path: Path, columns: Iterable[str] | None) -> Iterator[Mapping[str, object]]:
    """Read a Parquet file, one batch in memory at a time.

    Raises:
        UsageError: the file is not there or pyarrow is not installed.
    """
    _pyarrow("Parquet files")
    import pyarrow.parquet

    names = None if columns is None else list(columns)
    with pyarrow.parquet.ParquetFile(path) as file:
        absent = [name for name in names or () if name not in file.schema_arrow.names]
        if absent:
            raise MissingField(
                f"{path.name} has no column {absent[0]!r}; it has {', '.join(file.schema_arrow.names)}."
            )
        yield from _arrow(file.iter_batches(batch_size=CHUNK, columns=names))


def _pyarrow(what: str) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise UsageError(f"reading {what} needs pyarrow: {INSTALL}") from None
    return pyarrow


def _tuples(columns: Iterable[object], rows: Iterable[tuple[Any, ...]]) -> Iterator[Mapping[str, object]]:
    names = column_names.unique(map(str, columns), where="the frame")
    for row in rows:
        yield dict(zip(names, row))  # noqa: B905 - a frame is rectangular


def _batches(lazy: Any) -> Iterator[Mapping[str, object]]:
    for frame in lazy.collect_batches(chunk_size=CHUNK):
        yield from _tuples(frame.columns, frame.iter_rows())


def _arrow(batches: Iterable[Any]) -> Iterator[Mapping[str, object]]:
    for batch in batches:
        names = column_names.unique(batch.schema.names, where="the table")
        for start in range(0, batch.num_rows, CHUNK):
            part = batch.slice(start, CHUNK)
            for row in zip(*(column.to_pylist() for column in part.columns)):  # noqa: B905 - rectangular
                yield dict(zip(names, row))  # noqa: B905

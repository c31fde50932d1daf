"""Where rows come from: one value that can be read, again where that is possible."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs

from batchkit.errors import UsageError
from batchkit.source import database, frames, readers

Record: TypeAlias = Mapping[str, object]
Kind: TypeAlias = Literal["csv", "jsonl", "parquet", "query", "frame", "cursor", "rows", "callable"]

_TAKES = (
    "Rows can be: a list or generator of mappings; a pandas, polars or Arrow frame; a DB-API cursor; "
    "source.query(...); a path to .csv, .jsonl or .parquet; or a function that gives one of these."
)


@attrs.frozen(kw_only=True)
class Source:
    """Records to be read, in a fixed order.

    Attributes:
        kind: What the records are read from.
        path: The file, where they come from one; a receipt can then be checked against it.
        again: Whether iterating twice reads them twice. Generators and cursors give their rows once.
    """

    kind: Kind
    path: Path | None = None
    again: bool = True
    _read: Callable[[], Iterator[Record]] = attrs.field(alias="read", repr=False, eq=False)
    _names: Callable[[], tuple[str, ...] | None] = attrs.field(
        default=lambda: None, alias="names", repr=False, eq=False
    )
    _spent: list[bool] = attrs.field(init=False, factory=list, repr=False, eq=False)

    def __iter__(self) -> Iterator[Record]:
        """Read the records.

        Raises:
            UsageError: a generator or cursor was read before, or what is read is not made of records.
        """
        if not self.again:
            if self._spent:
                raise UsageError(
                    "these rows were read before and cannot be read again: a generator or cursor gives them once. "
                    "Pass a function that makes a new one: lambda: rows()"
                )
            self._spent.append(True)
        return self._read()

    @property
    def fields(self) -> tuple[str, ...] | None:
        """Give the column names where they are known before reading: for CSV, from its header."""
        return self._names()


def rows(anything: object) -> Source:
    """Take rows from whatever holds them.

    Args:
        anything: An iterable of mappings, a data frame, a DB-API cursor, a path to ``.csv``, ``.jsonl``
            or ``.parquet`` (the first two also with ``.gz``), a :class:`Source`, or a callable without
            arguments that gives any of these. Only lists, frames, paths, queries and callables can be
            read again.

    Raises:
        UsageError: it is none of these. The message names what it is and what to pass instead.
    """
    if isinstance(anything, Source):
        return anything
    if isinstance(anything, (str, Path)):
        return _of_path(anything)
    _refuse(anything)
    read = frames.reader_of(anything)
    if read is not None:
        return Source(kind="frame", again=not isinstance(anything, Iterator), read=read)
    if hasattr(anything, "description") and hasattr(anything, "fetchmany"):
        return Source(kind="cursor", again=False, read=lambda: database.read_cursor(anything))
    if isinstance(anything, Iterable):
        again = not isinstance(anything, Iterator)
        return Source(kind="rows", again=again, read=lambda: _mappings(anything))
    if callable(anything):
        return Source(kind="callable", read=lambda: iter(rows(_called(anything))))
    raise UsageError(f"rows cannot be a {type(anything).__name__}. {_TAKES}")


records = rows


def csv(path: str | Path) -> Source:
    """Take the records of a CSV file with a header (UTF-8, commas); every cell is text.

    Blank lines are no records. A missing cell at a record's end is a missing value; a record with too
    many cells, wrong quoting, NUL or bytes that are no UTF-8 is kept and refused alone.

    Raises:
        UsageError: there is no such file. On reading: no header, a repeated column, or a file cut short.
    """
    file = _existing(path)
    return Source(
        kind="csv", path=file, read=lambda: readers.read_csv(file), names=lambda: readers.csv_fields(file)
    )


def jsonl(path: str | Path) -> Source:
    """Take the records of a JSON Lines file, one object per line (UTF-8).

    A line that is no JSON object is kept as a record and refused alone; blank lines are no records.

    Raises:
        UsageError: there is no such file. On reading: a file cut short.
    """
    file = _existing(path)
    return Source(kind="jsonl", path=file, read=lambda: readers.read_jsonl(file))


def parquet(path: str | Path, columns: Sequence[str] | None = None) -> Source:
    """Take the records of a Parquet file; needs the ``dataframe`` extra.

    Args:
        path: The file.
        columns: The columns to read; all of them where None.

    Raises:
        UsageError: there is no such file. On reading: pyarrow is missing, or a column is.
    """
    file = _existing(path)
    return Source(kind="parquet", path=file, read=lambda: frames.read_parquet(file, columns))


def query(where: str | Path | object, sql: str, params: database.Params = ()) -> Source:
    """Take the records of a query, read a few thousand at a time.

    Args:
        where: A path of a SQLite file or ``sqlite:///path`` (opened read-only), ``postgresql://…`` (needs
            the ``postgres`` extra; read through a server-side cursor), or an open DB-API connection.
        sql: One SELECT, with the driver's own placeholders. Give it an ORDER BY: positions are part of
            what a run freezes.
        params: The placeholders' values.

    Raises:
        UsageError: on reading: no such database, a scheme that is not known, or two columns of one name.
    """
    return Source(kind="query", read=lambda: database.read_query(where, sql, params))


_BY_SUFFIX: dict[str, Callable[[Path], Source]] = {
    ".csv": csv,
    ".csv.gz": csv,
    ".jsonl": jsonl,
    ".jsonl.gz": jsonl,
    ".parquet": parquet,
}


def _of_path(where: str | Path) -> Source:
    path = Path(where)
    suffix = "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()
    take = _BY_SUFFIX.get(suffix)
    if take is not None:
        return take(path)
    if isinstance(where, str) and ("://" in where or where.lstrip()[:6].lower() in ("select", "with")):
        raise UsageError("rows cannot be an address or SQL text alone: use source.query(where, sql)")
    raise UsageError(f"{_short(where)} is no path to a .csv, .jsonl or .parquet file. {_TAKES}")


def _existing(path: str | Path) -> Path:
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"there is no file {_short(path)}")
    return file


def _short(value: str | Path) -> str:
    shown = str(value)
    return repr(shown if len(shown) <= 80 else shown[:77] + "...")


def _refuse(anything: object) -> None:
    """Refuse by name what would otherwise be read as something it is not."""
    name = type(anything).__name__
    if isinstance(anything, Mapping):
        raise UsageError(
            f"rows cannot be one {name}: pass a list of records, [record], even for one. {_TAKES}"
        )
    if isinstance(anything, (bytes, bytearray, memoryview)):
        raise UsageError(f"rows cannot be {name}: pass a path, or decode and parse it first. {_TAKES}")
    if inspect.iscoroutine(anything):
        anything.close()
        raise UsageError("rows cannot be a coroutine: await it, and pass what it gives")
    later = inspect.iscoroutinefunction(anything) or inspect.isasyncgenfunction(anything)
    if later or isinstance(anything, AsyncIterable):
        raise UsageError(
            f"rows cannot be asynchronous ({name}): collect them first, [row async for row in rows], or pass "
            "a path or query, which are read in a worker thread"
        )


def _called(make: Callable[[], Any]) -> object:
    made = make()
    if made is None:
        raise UsageError("the function for the rows gave None; it must return or yield them")
    return made


def _mappings(items: Iterable[object]) -> Iterator[Record]:
    """Give the items that are records; among records, one that is none is damage."""
    for position, item in enumerate(items):
        if type(item) is dict or isinstance(item, Mapping):
            yield item
        elif position == 0:
            raise UsageError(
                f"row 0 is a {type(item).__name__}, not a mapping of field names to values. {_TAKES}"
            )
        else:
            yield readers.Damaged(f"the record is a {type(item).__name__}, not a mapping")

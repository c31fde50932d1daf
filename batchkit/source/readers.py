"""Files in: CSV and JSON Lines, plain or gzipped, by the standard library.

Bytes that are no UTF-8 become lone surrogates (U+DC80 to U+DCFF; NUL in CSV: U+DC00), so that damage
reaches one field and not the file.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydantic_core import from_json

from batchkit.errors import UsageError
from batchkit.source import columns

_CELL_LIMIT = 2**31 - 1
"""Characters in one CSV cell: the most that every platform's csv module can be told."""

_NUL = "\udc00"


class Damaged(dict[str, object]):
    """A record that was there but could not be read whole. It holds what could be, and why not the rest."""

    def __init__(self, detail: str, fields: Mapping[str, object] | None = None) -> None:
        """Keep why, in words that quote nothing of the record, and the fields that were readable."""
        super().__init__(fields or {})
        self.detail = detail


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, through gzip where its name ends in ``.gz``.

    Raises:
        UsageError: the file is not there, is no gzip file, or ends too early. A file whose end is missing
            has records that nobody can count, so no record of it is taken for granted.
    """
    try:
        with (
            cast("BinaryIO", gzip.open(path, "rb"))
            if path.suffix.lower() == ".gz"
            else path.open("rb") as file
        ):
            yield file
    except FileNotFoundError:
        raise UsageError(f"there is no file {str(path)!r}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UsageError(
            f"{path.name}: damaged or cut short, its records cannot be counted ({error})"
        ) from error


def csv_fields(path: Path) -> tuple[str, ...]:
    """Read the names in a CSV file's header."""
    with _csv_reader(path) as reader:
        return _header(reader, path)


@contextmanager
def _csv_reader(path: Path) -> Iterator[Any]:
    if csv.field_size_limit() < _CELL_LIMIT:
        # The limit belongs to the process. It is only ever raised, so nobody else's file stops working.
        csv.field_size_limit(_CELL_LIMIT)
    with (
        opened(path) as file,
        io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text,
    ):
        # csv of Python 3.10 refuses NUL and later ones take it: here it is a byte that is no text on all of them.
        yield csv.reader((line.replace("\0", _NUL) for line in text), strict=True)


def _header(reader: Any, path: Path) -> tuple[str, ...]:
    try:
        for cells in reader:
            if any(_NUL in cell for cell in cells):
                raise csv.Error("it holds NUL")
            if cells:
                return columns.unique(cells, where=f"{path.name}: the header")
    except csv.Error as error:
        raise UsageError(
            f"{path.name}: the header cannot be read: {error}. "
            "If the file was saved as UTF-16 or as a spreadsheet, save it as CSV in UTF-8."
        ) from error
    raise UsageError(f"{path.name} is empty: a CSV file without records still has a header line")


def read_csv(path: Path) -> Iterator[Mapping[str, object]]:
    """Read a CSV file with a header, every cell as text.

    Blank lines are no records. A record with fewer cells than the header misses the last fields; one
    with more is damaged, and so is one whose quoting is wrong.
    """
    with _csv_reader(path) as reader:
        header = _header(reader, path)
        width = len(header)
        while True:
            start = reader.line_num + 1
            try:
                for cells in reader:
                    if len(cells) == width:
                        yield dict(zip(header, cells))  # noqa: B905 - lengths were compared
                    elif len(cells) > width:
                        yield Damaged(
                            f"{len(cells)} cells, header has {width}", dict(zip(header, cells, strict=False))
                        )
                    elif cells:
                        yield dict(zip(header, [*cells, *[None] * (width - len(cells))], strict=True))
                    start = reader.line_num + 1
            except csv.Error as error:
                if "unexpected end of data" in str(error):
                    raise UsageError(
                        f"{path.name}: the quoted cell that begins in the record at line {start} never ends, "
                        "so the records after it cannot be counted. Close the quotation mark."
                    ) from error
                yield Damaged(f"the CSV record at line {start} cannot be read: {error}")
            else:
                return


def read_jsonl(path: Path) -> Iterator[Mapping[str, object]]:
    """Read one JSON object per line. Lines end at newline bytes only; blank lines are no records."""
    with opened(path) as file:
        for number, raw in enumerate(file):
            line = raw.strip(b" \t\r\n")
            if number == 0:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line:
                yield _object(line, number + 1)


def _object(line: bytes, number: int) -> Mapping[str, object]:
    try:
        value = from_json(line)
    except ValueError:
        # The slower reader takes lone surrogates and deeper nesting, so that only the field that has
        # them is affected, and nothing if that field is not used.
        try:
            value = json.loads(line.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            return Damaged(f"line {number} is not JSON")
    if not isinstance(value, dict):
        return Damaged(f"line {number} is a JSON {_KINDS.get(type(value), 'number')}, not an object")
    return value


_KINDS = {list: "array", str: "string", bool: "boolean", type(None): "null"}

"""Files for people: readable by their owner only, replaced atomically, formulas defused in CSV."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from batchkit.errors import UsageError

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_CELL_LIMIT = 2**31 - 1
_SKIPPED_FIRST = "\ufeff\u200b\u00a0 \t\r\n"


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of ``path`` when the block ends without an error.

    The file is made beside its target with mode 0600, flushed to disk and renamed, so a reader sees the
    old file or the new one, whole. After an error the old file is as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside its target, so that the rename stays within one file system; its name is short enough for all of them.
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def defuse(cell: str) -> str:
    """Make a cell that a spreadsheet would run as a formula into text, by a leading apostrophe.

    A cell that already begins with an apostrophe gets one more, so that :func:`undefuse` gives back
    exactly what was written.
    """
    if not cell:
        return cell
    if (
        cell[0] == "'"
        or cell.startswith(_FORMULA_STARTS)
        or cell.lstrip(_SKIPPED_FIRST).startswith(_FORMULA_STARTS)
    ):
        return "'" + cell
    return cell


def undefuse(cell: str) -> str:
    """Give back the text that :func:`defuse` was given."""
    return cell[1:] if cell.startswith("'") else cell


def cell_text(value: object) -> str:
    """Give a value as the text of a CSV cell: missing as nothing, lists and objects as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, list, dict, tuple)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)


def write_csv(
    path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Mapping[str, object]]
) -> int:
    """Write rows as UTF-8 CSV with defused cells and give their number."""
    count = 0
    with replacing(path) as raw:
        text = _TextWriter(raw)
        writer = csv.writer(text)
        writer.writerow([defuse(column) for column in columns])
        for row in rows:
            writer.writerow([defuse(cell_text(row.get(column))) for column in columns])
            count += 1
    return count


def read_csv(path: str | os.PathLike[str]) -> Iterator[dict[str, str]]:
    """Read a CSV file written by :func:`write_csv`, perhaps changed in a spreadsheet, cells undefused.

    Spreadsheets of some languages save semicolons or tabs in place of commas; the header tells.

    Raises:
        UsageError: the file is no UTF-8, or no CSV.
    """
    if csv.field_size_limit() < _CELL_LIMIT:
        # The limit belongs to the process. It is only ever raised, so nobody else's file stops working.
        csv.field_size_limit(_CELL_LIMIT)
    name = Path(path).name
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            header = stream.readline()
            stream.seek(0)
            for row in csv.DictReader(stream, delimiter=max(",;\t", key=header.count)):
                yield {undefuse(k): undefuse(v or "") for k, v in row.items() if isinstance(k, str)}
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is no UTF-8: save it as 'CSV UTF-8'") from error
    except csv.Error as error:
        raise UsageError(f"{name} cannot be read as CSV: {error}") from error


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Mapping[str, object]]) -> int:
    """Write rows as JSON lines, values raw, and give their number."""
    count = 0
    with replacing(path) as raw:
        for row in rows:
            # A lone surrogate, which UTF-8 cannot carry, becomes JSON's own escape of it.
            raw.write(json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace"))
            raw.write(b"\n")
            count += 1
    return count


def write_table(
    path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Mapping[str, object]]
) -> int:
    """Write rows in the format that the suffix names and give their number.

    Raises:
        UsageError: the suffix is none of ``.csv`` and ``.jsonl``.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".csv":
        return write_csv(path, columns, rows)
    if suffix in {".jsonl", ".ndjson"}:
        return write_jsonl(path, rows)
    raise UsageError(f"cannot write {Path(path).name!r}: the suffix must be .csv or .jsonl")


class _TextWriter:
    """What the csv module writes to; lone surrogates become JSON-like escapes instead of an error."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw

    def write(self, text: str) -> int:
        return self._raw.write(text.encode("utf-8", "backslashreplace"))

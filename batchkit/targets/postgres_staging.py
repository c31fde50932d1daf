"""Staged rows into a temporary table of a PostgreSQL catalog, by COPY, without a lock on the catalog."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final
from uuid import UUID

from batchkit.errors import TargetError, UsageError
from batchkit.targets import Selection, StagedRow
from batchkit.targets.mapping import Mapped, json_text
from batchkit.targets.postgres_session import NOTHING, Connection, driver
from batchkit.targets.postgres_statements import Statements
from batchkit.targets.postgres_table import INTEGERS, TableColumn

CHUNK: Final = 10_000
"""Rows of one COPY: their keys are in memory, so that a row that is refused can be named."""

_RANGES: Final = {"int2": 2**15, "int4": 2**31, "int8": 2**63}
_CANONICAL: Final = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
_LINE: Final = re.compile(r"COPY batchkit_staged, line (\d+)")

Form = Callable[[Any], Any]


def form(mapped: Mapped, column: TableColumn) -> Form:
    """Give what makes a value of a field ready for its column.

    JSON columns take JSON, whatever the field; array columns take lists. Elsewhere lists and objects become
    JSON text, and a truth becomes a number where the column holds numbers.
    """
    as_json = mapped.as_json or column.json
    number = column.kind in INTEGERS or column.kind in ("float4", "float8", "numeric")

    def ready(value: Any) -> Any:
        if value is None:
            return None
        if as_json:
            return json_text(value)
        if isinstance(value, (list, tuple)):
            return list(value) if column.array else json_text(value)
        if isinstance(value, dict):
            return json_text(value)
        if isinstance(value, bool):
            return int(value) if number else ("true" if value else "false")
        return value

    return ready


def key_form(sqls: Statements) -> Form | None:
    """Give what makes of a key's text the value that its column holds; None where it is compared as text."""
    kind = sqls.key.kind
    if kind in INTEGERS:
        limit = _RANGES[kind]

        def whole(key: str) -> int | None:
            if not _CANONICAL.fullmatch(key):
                return None
            number = int(key)
            return number if -limit <= number < limit else None

        return whole
    return _uuid if kind == "uuid" else None


def _uuid(key: str) -> str | None:
    try:
        return key if str(UUID(key)) == key else None
    except ValueError:
        return None


class Staging:
    """Takes staged rows, numbered as they come."""

    def __init__(self, sqls: Statements, mapping: Sequence[Mapped], guard: Sequence[str]) -> None:
        """Stage for these statements. ``guard`` names the columns that were frozen with the rows."""
        self._sqls = sqls
        self._key = key_form(sqls)
        self._forms = [(m.field, form(m, c)) for m, c in zip(mapping, sqls.columns, strict=True)]
        self._guard = guard
        self.selection: Selection = Selection()
        self.count: int = 0
        self._number = 0

    def load(self, db: Connection, rows: Iterable[StagedRow]) -> int:
        """Make the temporary table in the transaction at hand, take the rows, and give how many there were.

        Raises:
            UsageError: a row lacks a field, or a guard column was not frozen.
            TargetError: PostgreSQL cannot hold a value.
        """
        db.execute(self._sqls.stage)
        source, before = iter(rows), self.count
        while chunk := list(islice(source, CHUNK)):
            self._copy(db, chunk)
        db.execute("ANALYZE pg_temp.batchkit_staged")
        return self.count - before

    def _copy(self, db: Connection, chunk: Sequence[StagedRow]) -> None:
        psycopg = driver()
        row: StagedRow | None = None
        try:
            with db.cursor() as cursor, cursor.copy(self._sqls.load) as copy:
                for row in chunk:
                    copy.write_row(self._line(row))
                row = None
        except UsageError:
            raise
        except (psycopg.DataError, psycopg.ProgrammingError, UnicodeEncodeError, ValueError) as error:
            raise self._refused(chunk, row, error) from None  # the error's text may hold the value
        for staged in chunk:
            if staged.values is None:
                self.selection.add(staged.key)
        self.count += len(chunk)

    def _refused(self, chunk: Sequence[StagedRow], row: StagedRow | None, error: Exception) -> Exception:
        diag = getattr(error, "diag", None)
        found = _LINE.search(getattr(diag, "context", None) or "")
        if found is not None:
            row = chunk[int(found.group(1)) - 1]
        if row is None or getattr(error, "sqlstate", None) == "42501":
            return error
        code = getattr(error, "sqlstate", None) or type(error).__name__
        return TargetError(
            f"row {row.key!r}: PostgreSQL cannot hold one of its values in its column ({code}). {NOTHING}"
            " Hold the row back, narrow the contract, or change the column's type."
        )

    def _line(self, row: StagedRow) -> list[Any]:
        self._number += 1
        held = row.values is None
        line: list[Any] = [self._number, row.key, held, row.answer]
        if self._key is not None:
            line.append(self._key(row.key))
        if row.values is None:
            return [*line, *(None,) * (len(self._forms) + len(self._guard))]
        return [*line, *self._values(row.key, row.values), *self._texts(row.key, row.guard)]

    def _values(self, key: str, values: Mapping[str, Any]) -> Iterator[Any]:
        for field, ready in self._forms:
            if field not in values:
                raise UsageError(f"row {key!r} has no field {field!r}. {NOTHING}")
            yield ready(values[field])

    def _texts(self, key: str, frozen: Mapping[str, str | None]) -> Iterator[str | None]:
        for name in self._guard:
            if name not in frozen:
                raise UsageError(
                    f"row {key!r}: guard column {name!r} was not frozen with the rows. {NOTHING}"
                    f" Freeze it: Spec(..., metadata=[{name!r}])"
                )
            yield frozen[name]

"""The two functions that a team gives, called and checked: what they raise or give wrongly is said with row and column."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import attrs

from batchkit.errors import TargetError
from batchkit.normal import Unencodable, text


class Change(NamedTuple):
    """One row to be written: ``values`` are the columns to set, ``expected`` what those columns were read to hold."""

    key: str
    values: Mapping[str, Any]
    expected: Mapping[str, Any]


Read: TypeAlias = Callable[[Sequence[str]], Mapping[str, Mapping[str, Any]]]
"""Takes keys; gives the rows that are there, each as its columns and their values."""

Write: TypeAlias = Callable[[Sequence[Change]], "Iterable[str] | None"]
"""Sets the columns of rows; gives the keys of those that it did not take, or nothing."""

Spelled: TypeAlias = Mapping[str, "str | None"]
"""Column to value, each value as JSON text, so that type and content are compared at once; None stays None."""


def spelled(value: Any) -> str | None:
    """Give a value as JSON text that is the same for the same value.

    Raises:
        TypeError: JSON has nothing for it.
        ValueError: it holds a number that JSON has no word for, or itself.
    """
    return None if value is None else json.dumps(value, sort_keys=True, allow_nan=False)


def _plain(spelling: Spelled) -> dict[str, Any]:
    return {column: None if known is None else json.loads(known) for column, known in spelling.items()}


class Pending(NamedTuple):
    """A row that is to hold ``to`` in the columns where it was read to hold ``at``."""

    key: str
    to: Spelled
    at: Spelled


@attrs.frozen
class Calls:
    """Calls the two functions. A page is so many rows."""

    _read: Read
    _write: Write
    page: int

    def rows(
        self, keys: Sequence[str], columns: Sequence[str], guard: Sequence[str] = ()
    ) -> dict[str, tuple[Spelled, Spelled]]:
        """Read rows: the columns as they are spelled, and the guards as they are frozen.

        Raises:
            TargetError: ``read`` failed, or gave what it should not.
        """
        try:
            found = self._read(keys)
        except Exception as error:
            raise TargetError(
                f"read() raised {type(error).__name__} for {_span(keys)}. What is left to be written stays so:"
                " call again when it works."
            ) from error
        if not isinstance(found, Mapping):
            raise TargetError(
                f"read() gave a {type(found).__name__}; it gives a mapping of key to row: {{'B-17': {{…}}}}"
            )
        asked = frozenset(keys)
        strange = next((key for key in found if key not in asked), None)
        if strange is not None:
            raise TargetError(
                f"read() gave key {strange!r}, a {type(strange).__name__}, which it was not asked for. Keys are the texts"
                " that it was given; case, spaces and leading zeros count."
            )
        return {
            key: (
                {column: _spelling(key, row, column) for column in columns},
                {column: _guard(key, row, column) for column in guard},
            )
            for key, row in found.items()
        }

    def set(self, rows: Sequence[Pending]) -> frozenset[str]:
        """Write rows, and give the keys of those that were not taken.

        Raises:
            TargetError: ``write`` failed, or gave what it should not.
        """
        keys = [row.key for row in rows]
        try:
            refused = self._write([Change(row.key, _plain(row.to), _plain(row.at)) for row in rows])
            left = frozenset(() if refused is None else refused)
        except Exception as error:
            raise TargetError(
                f"write() raised {type(error).__name__} for {_span(keys)}. Rows before them are written, these and those"
                " after them may not be. The same call again goes on; rollback() puts back what was written."
            ) from error
        if isinstance(refused, str) or not left <= frozenset(keys):
            raise TargetError(
                f"write() gave {type(refused).__name__} with what is no key of its rows. It gives the keys of the rows"
                " that it did not take, or None."
            )
        return left


def _span(keys: Sequence[str]) -> str:
    return f"row {keys[0]!r}" if len(keys) == 1 else f"{len(keys):,} rows from {keys[0]!r} to {keys[-1]!r}"


def _cell(key: str, row: Mapping[str, Any], column: str) -> Any:
    if not isinstance(row, Mapping):
        raise TargetError(
            f"row {key!r}: read() gave a {type(row).__name__}; it gives a mapping of column to value"
        )
    if column not in row:
        raise TargetError(
            f"row {key!r}: read() gave no column {column!r}; it gave {', '.join(map(str, row)) or 'none'}. Let read() give"
            " every column that is promoted or guards."
        )
    return row[column]


def _spelling(key: str, row: Mapping[str, Any], column: str) -> str | None:
    value = _cell(key, row, column)
    try:
        return spelled(value)
    except (TypeError, ValueError) as error:
        raise TargetError(
            f"row {key!r}, column {column!r}: read() gave a {type(value).__name__}, which JSON cannot hold exactly. Let read()"
            " give it as text, and write() take it as text."
        ) from error


def _guard(key: str, row: Mapping[str, Any], column: str) -> str | None:
    try:
        return text(_cell(key, row, column))
    except Unencodable as error:
        raise TargetError(
            f"row {key!r}, guard {column!r}: read() gave {error}. Let read() give it as text."
        ) from error

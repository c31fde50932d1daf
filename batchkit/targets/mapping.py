"""Which field goes to which column, and in what form."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs
from pydantic_core import to_json

from batchkit.errors import UsageError
from batchkit.targets import Columns, Json


@attrs.frozen
class Mapped:
    """One output field, the column it goes to, and whether it is written as JSON text whatever its type."""

    field: str
    column: str
    as_json: bool = False


def check_columns(columns: Columns | Iterable[str] | None, *, key: str) -> None:
    """Make sure that a map sends no two fields to one column, and none to the key.

    Raises:
        UsageError: it does, or it is no map.
    """
    if columns is None:
        return
    if not isinstance(columns, Mapping):
        named = [columns] if isinstance(columns, str) else columns
        same = ", ".join(f"{name!r}: {name!r}" for name in named)
        raise UsageError(
            f"columns is a mapping of output field to column, not a {type(columns).__name__}: columns={{{same}}}"
        )
    if not columns:
        raise UsageError(
            "columns={} promotes nothing; leave it out to send each field to the column of its name"
        )
    seen: dict[str, str] = {}
    for field, to in columns.items():
        column = to.column if isinstance(to, Json) else to
        folded = column.casefold()
        if folded == key.casefold():
            raise UsageError(f"columns: field {field!r} would overwrite the key column {key!r}")
        if folded in seen:
            raise UsageError(f"columns: fields {seen[folded]!r} and {field!r} both go to column {column!r}")
        seen[folded] = field


def resolve(columns: Columns | None, fields: Sequence[str]) -> tuple[Mapped, ...]:
    """Give the mapping for a contract's fields, in the contract's order.

    Without a map every field goes to the column of its name; with one, only the fields it names.

    Raises:
        UsageError: the map names a field that the contract does not have.
    """
    if columns is None:
        return tuple(Mapped(name, name) for name in fields)
    unknown = sorted(set(columns) - set(fields))
    if unknown:
        raise UsageError(f"columns: the contract has no field {unknown[0]!r}; it has {', '.join(fields)}")
    return tuple(_mapped(name, columns[name]) for name in fields if name in columns)


def _mapped(field: str, to: str | Json) -> Mapped:
    return Mapped(field, to.column, True) if isinstance(to, Json) else Mapped(field, to)


_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def json_text(value: Any) -> str:
    """Give a value as compact JSON text, readable in any script.

    Raises:
        ValueError: it holds a number that JSON has no word for.
    """
    try:
        text = to_json(value).decode()
    except ValueError:  # half of a surrogate pair: the database has its own words for it
        return _encode(value)
    # What the quick encoder writes as NaN and Infinity is refused by the other, unless it stands in a text.
    return _encode(value) if "NaN" in text or "Infinity" in text else text


def value_of(mapped: Mapped, values: Mapping[str, Any]) -> Any:
    """Give one field's value in a form that a database takes: lists and objects as JSON text."""
    value = values[mapped.field]
    if value is None:
        return None
    if mapped.as_json or isinstance(value, (list, tuple, dict)):
        return json_text(value)
    return int(value) if isinstance(value, bool) else value

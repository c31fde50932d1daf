"""The normalising table: what a value or a key of a record becomes as text, or why it cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from enum import Enum
from math import isinf, isnan
from typing import Any, TypeAlias, cast
from uuid import UUID

from batchkit.encoding import printable
from batchkit.errors import KeyTypeError

MAX_DEPTH = 100
"""Nesting that is still turned into JSON text. Deeper data is hostile or a mistake."""

MAX_NODES = 100_000
"""Values inside one list or dict. A few shared sub-lists could otherwise unfold into any amount."""

_FLOATS = (
    "pandas makes floats of numbers with gaps and drops leading zeros. "
    'Read it as text: pd.read_csv(..., dtype={{"{column}": str}}).'
)
_BOOLEANS = (
    "Every record would share one of two keys. Name the column that tells the records apart: Spec(key=...)."
)

Plain: TypeAlias = "str | int | float | bool | list[Plain] | dict[str, Plain] | None"


class Unencodable(ValueError):
    """A value that has no text form. The message names its type and never its content."""


def text(value: object) -> str | None:
    """Give a value's text, or None where it is missing.

    ============================================ =============================================
    value                                        text
    ============================================ =============================================
    None, NaN, NaT, pandas.NA                    None
    str                                          itself, blanks included
    bool                                         ``true``, ``false``
    int, float                                   digits, shortest form that reads back the same
    numpy scalars and arrays                     as their Python values
    Decimal, UUID                                ``str``
    date, datetime, time                         ISO 8601
    Enum                                         the text of its value
    list, tuple, mapping                         canonical JSON
    ============================================ =============================================

    Raises:
        Unencodable: bytes, sets, infinity, lone surrogates, cycles, nesting beyond 100 levels, and
            objects of other types.
    """
    if type(value) is not str:
        plain = _plain(value, 0, [MAX_NODES], set())
        if plain is None:
            return None
        value = _spelled(plain)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        bad = ord(value[error.start])
        raise Unencodable(f"text with a lone surrogate (U+{bad:04X}) at character {error.start}") from None
    return value


def escaped(value: object) -> str | None:
    """Give what is kept of a value that has no text: text with its lone surrogates spelled out, else nothing."""
    return printable(str.__str__(value)) if isinstance(value, str) else None


def key_text(value: object, *, column: str, position: int) -> str:
    """Give a record's key as text; empty where the record has none.

    Case and surrounding spaces are kept, so ``"a"``, ``"A"`` and ``"a "`` are three keys; ``1`` and
    ``"1"`` are one. A key of blanks only is none.

    Raises:
        KeyTypeError: the value is a float or a bool, which condemns its whole column.
        Unencodable: the value has no text form; this record alone is refused.
    """
    if type(value) is not str:
        value = _other_key(value, column, position)
    if value.isspace():
        return ""
    try:
        value.encode()
    except UnicodeEncodeError:
        text(value)
    return value


def _other_key(value: object, column: str, position: int) -> str:
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if isinstance(value, float) or kind == "f":
        if isnan(cast("float", value)):
            return ""
        fix = _FLOATS.format(column=column)
        raise KeyTypeError(f"column {column!r} holds floats (first: {_shown(value)}, row {position}). {fix}")
    if isinstance(value, bool) or kind == "b":
        raise KeyTypeError(
            f"column {column!r} holds booleans (first: {_shown(value)}, row {position}). {_BOOLEANS}"
        )
    return text(value) or ""


def _shown(value: object) -> str:
    return str(value)[:40]


def _spelled(plain: Plain) -> str:
    try:
        match plain:
            case str():
                return plain
            case bool():
                return "true" if plain else "false"
            case float():
                return repr(plain)
            case _:
                return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    except ValueError:
        raise Unencodable("an integer of too many digits") from None


def _plain(value: Any, depth: int, budget: list[int], above: set[int]) -> Plain:
    """Turn a value into what JSON knows. ``above`` holds the ids of the containers it stands in."""
    budget[0] -= 1
    if budget[0] < 0:
        raise Unencodable(f"more than {MAX_NODES:,} values in one field")
    match value:
        case None:
            return None
        case Enum():
            return _plain(value.value, depth, budget, above)
        case bool():
            return value
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return _finite(float(value), "float")
        case Decimal():
            return None if value.is_nan() else _decimal(value)
        case date() | time():
            return None if _is_na(value) else value.isoformat()
        case UUID():
            return str(value)
        case list() | tuple() | Mapping():
            return _container(value, depth, budget, above)
        case _ if _is_na(value):
            return None
        case _ if hasattr(value, "dtype") and hasattr(value, "tolist"):
            return _numpy(value, depth, budget, above)
        case _:
            raise Unencodable(_name(value))


def _container(
    value: list[Any] | tuple[Any, ...] | Mapping[Any, Any], depth: int, budget: list[int], above: set[int]
) -> Plain:
    if id(value) in above:
        raise Unencodable(f"a {_name(value)} that holds itself")
    if depth >= MAX_DEPTH:
        raise Unencodable(f"a {_name(value)} nested deeper than {MAX_DEPTH} levels")
    above.add(id(value))
    try:
        if not isinstance(value, Mapping):
            return [_plain(item, depth + 1, budget, above) for item in value]
        plain: dict[str, Plain] = {}
        for name, item in value.items():
            if not isinstance(name, str):
                raise Unencodable(f"a {_name(value)} with {_name(name)} keys")
            plain[str.__str__(name)] = _plain(item, depth + 1, budget, above)
        return plain
    finally:
        above.discard(id(value))


def _numpy(value: Any, depth: int, budget: list[int], above: set[int]) -> Plain:
    """Read a numpy scalar or array by the two attributes that both have; numpy itself is not imported."""
    kind = getattr(value.dtype, "kind", "")
    if kind == "M":
        # `tolist` makes bare integers of nanoseconds; the text form keeps every digit.
        return _without_nat(value.astype("str").tolist())
    if kind not in "biufUO":
        raise Unencodable(_name(value))
    inner = value.tolist()
    if type(inner) is type(value):
        raise Unencodable(_name(value))
    return _plain(inner, depth + 1, budget, above)


def _without_nat(value: Any) -> Plain:
    if isinstance(value, list):
        return [_without_nat(item) for item in value]
    return None if value == "NaT" else str(value)


def _finite(value: float, kind: str) -> float | None:
    if isinf(value):
        raise Unencodable(f"{kind} infinity")
    return None if isnan(value) else value


def _decimal(value: Decimal) -> str:
    if value.is_infinite():
        raise Unencodable("Decimal infinity")
    return str(value)


def _is_na(value: object) -> bool:
    kind = type(value)
    return kind.__name__ in ("NAType", "NaTType") and kind.__module__.partition(".")[0] == "pandas"


def _name(value: object) -> str:
    return type(value).__name__

"""How an answer's field is compared with the one that a person expects."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import attrs

from batchkit import schema as shapes
from batchkit.errors import UsageError

Fields: TypeAlias = Mapping[str, "str | None"]
Score: TypeAlias = Callable[[Any, Any, Fields], "bool | float"]
"""``fn(expected, actual, row)``: true or false, or a number that passes from 0.5 upwards."""

PASS: Final = 0.5


@attrs.frozen
class Scorer:
    """A comparison with a name, by which an eval set says how it was graded."""

    name: str
    fn: Score = attrs.field(repr=False, eq=False)

    def __call__(self, expected: Any, actual: Any, row: Fields) -> bool | float:
        """Compare."""
        return self.fn(expected, actual, row)

    def passes(self, expected: Any, actual: Any, row: Fields) -> bool:
        """Tell whether the field is right."""
        return float(self.fn(expected, actual, row)) >= PASS


def overlap(share: float = 0.6) -> Scorer:
    """Make a scorer for lists: order does not matter, and ``share`` of the longer list must be in both.

    Texts are compared without regard to case and blanks. Two empty lists are alike.
    """
    if not 0 < share <= 1:
        raise UsageError(f"overlap({share}): the share is above 0 and at most 1")

    def fn(expected: Any, actual: Any, row: Fields) -> bool:
        one, other = _items(expected), _items(actual)
        longer = max(len(one), len(other))
        return not longer or len(one & other) / longer >= share

    return Scorer(f"overlap({share:g})", fn)


exact: Final = Scorer("exact", lambda expected, actual, row: bool(expected == actual))
"""Equal values."""

valid: Final = Scorer("valid", lambda expected, actual, row: True)
"""Whatever the contract accepts: for free text, of which no two wordings are equal."""

ignore: Final = Scorer("ignore", lambda expected, actual, row: True)
"""Not looked at, and not counted."""

_OVERLAP = re.compile(r"overlap\(([0-9.]+)\)")


def as_scorer(given: Score) -> Scorer:
    """Give a user's function a name: its own."""
    if isinstance(given, Scorer):
        return given
    name = getattr(given, "__name__", type(given).__name__)
    return Scorer(name, given)


def named_scorer(name: str) -> Scorer | None:
    """Give one of the scorers of this module by its name, None where it is a user's own."""
    if found := _OVERLAP.fullmatch(name):
        return overlap(float(found[1]))
    return {"exact": exact, "valid": valid, "ignore": ignore}.get(name)


def default_scorers(schema: Mapping[str, Any]) -> dict[str, Scorer]:
    """Give a scorer for every field of an answer, by its type.

    Closed lists of values, booleans, numbers and formatted texts are compared exactly, lists by
    :func:`overlap`, free text by the contract alone.
    """
    closed = shapes.enums(schema)
    return {
        name: exact if name in closed else _default(shapes.branches(schema, name))
        for name in shapes.fields(schema)
    }


def chosen_scorers(
    schema: Mapping[str, Any], *, named: Mapping[str, str] = {}, given: Mapping[str, Score] = {}
) -> dict[str, Scorer]:
    """Give the scorer of every field: the one given, else the one named, else the type's.

    Raises:
        UsageError: a field does not exist, or a name is of a scorer that only its author has.
    """
    scorers = default_scorers(schema)
    for field in (*named, *given):
        if field not in scorers:
            raise UsageError(f"scorers: the answer has no field {field!r}; it has {', '.join(scorers)}")
    for field, name in named.items():
        if field in given:
            continue
        known = named_scorer(name)
        if known is None:
            raise UsageError(
                f"{field!r} was graded by {name!r}, which is not one of batchkit's: pass it, "
                f"scorers={{{field!r}: {name}}}"
            )
        scorers[field] = known
    return {**scorers, **{field: as_scorer(fn) for field, fn in given.items()}}


def _default(branches: Iterable[Mapping[str, Any]]) -> Scorer:
    kinds = [node for node in branches if node.get("type") != "null"]
    if kinds and all(node.get("type") == "array" for node in kinds):
        return overlap()
    free = kinds and all(
        node.get("type") == "string" and not {"format", "pattern"} & node.keys() for node in kinds
    )
    return valid if free else exact


def _items(value: Any) -> set[str]:
    return {_item(item) for item in value or ()}


def _item(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.casefold().split())
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
